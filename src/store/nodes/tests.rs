//! Bounds, ageing, seeds, and files that are not as they should be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use super::*;
use crate::proto::identity::{NodeKey, RecordContent};

const NOW: u64 = 1_700_000_000;
const DAY: u64 = 86_400;

struct Store {
    temporary: TempDir,
    dir: DataDir,
}

impl Store {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temporary.path()).unwrap();
        Self { temporary, dir }
    }

    fn open_with(&self, limits: NodeDbLimits) -> Result<OpenedNodeDb, NodeDbError> {
        NodeDb::open(&self.dir, limits)
    }

    /// A memory without anything to warn of.
    fn open(&self) -> NodeDb {
        let opened = self.open_with(NodeDbLimits::default()).unwrap();
        assert!(opened.warning.is_none(), "{:?}", opened.warning);
        opened.db
    }

    /// Writes down one node, and closes the file.
    fn remember(&self, contact: Contact) {
        self.open().write(NOW, &[seen(contact, NOW)]).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.temporary.path().join(NAME)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.temporary.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A text with the directory left out.
    fn said(&self, error: &NodeDbError) -> String {
        error.to_string().replace(&format!("{}/", self.temporary.path().display()), "")
    }
}

fn contact(number: u32, ip: &str) -> Contact {
    let mut key = [0; 64];
    key[..4].copy_from_slice(&number.to_be_bytes());
    Contact { key: PublicKey(key), endpoint: Endpoint::new(ip.parse().unwrap(), 30303, 0) }
}

/// The `number`-th node, on loopback.
fn node(number: u32) -> Contact {
    contact(number, "127.0.0.1")
}

fn seen(contact: Contact, at: u64) -> NodeUpdate {
    NodeUpdate { contact, seen: Some(at), successes: 1, failures: 0, record: None }
}

fn failed(contact: Contact) -> NodeUpdate {
    NodeUpdate { contact, seen: None, successes: 0, failures: 1, record: None }
}

fn keys(seeds: Vec<Remembered>) -> Vec<PublicKey> {
    seeds.into_iter().map(|seed| seed.contact.key).collect()
}

#[test]
fn what_is_written_is_there_in_the_next_run() {
    let store = Store::new();
    let key = NodeKey::from_bytes(&[7; 32]).unwrap();
    let at = |ip: &str| Contact { key: *key.public_key(), endpoint: Endpoint::new(ip.parse().unwrap(), 5, 6) };
    let record = |seq| Some(Arc::new(Record::sign(&key, seq, &RecordContent::default()).unwrap()));
    let mut db = store.open();
    assert!(db.is_empty() && db.seeds(NOW, 0, 9).unwrap().is_empty());
    db.write(NOW, &[NodeUpdate { record: record(3), ..seen(at("10.0.0.1"), NOW) }, failed(node(1))]).unwrap();
    db.write(NOW, &[failed(at("10.0.0.1")), failed(at("10.0.0.2"))]).unwrap();
    // It moves; an older record of it, and none, change nothing.
    db.write(NOW + 9, &[NodeUpdate { record: record(2), successes: 4, ..seen(at("2a00::1"), NOW + 7) }]).unwrap();
    db.write(NOW + 9, &[seen(at("2a00::1"), NOW + 8)]).unwrap();
    assert_eq!((db.len(), db.get(&node(1).key).unwrap()), (1, None), "who never answered is not remembered");
    drop(db);

    let mut db = store.open();
    let found = db.get(key.public_key()).unwrap().unwrap();
    assert_eq!(found.record(), record(3).map(Arc::unwrap_or_clone));
    let expected = Remembered {
        contact: at("2a00::1"),
        seq: 3,
        first_seen: NOW,
        last_seen: NOW + 8,
        successes: 6,
        failures: 1,
        record: record(3).map(|record| record.as_bytes().to_vec()),
    };
    assert_eq!(found, expected);
    assert_eq!(db.seeds(NOW, 0, 9).unwrap(), [expected]);
    assert_eq!(store.names(), ["LOCK", "nodes.db"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn of_two_keys_with_one_number_the_first_stays() {
    let store = Store::new();
    store.remember(node(1));
    let mut other = node(1);
    other.key.0[63] = 1;
    assert_eq!(row_id(&other.key), row_id(&node(1).key));
    let mut db = store.open();
    db.write(NOW + 1, &[seen(other, NOW + 1)]).unwrap();
    db.write(NOW + 1, &[failed(other)]).unwrap();
    let found = db.get(&node(1).key).unwrap().unwrap();
    assert_eq!((found.last_seen, found.successes, found.failures), (NOW, 1, 0));
    assert_eq!((db.len(), db.get(&other.key).unwrap()), (1, None));
}

#[test]
fn a_write_waits_for_the_disk() {
    let db = Store::new().open();
    let pragma = |name: &str| {
        let connection = db.connection.as_ref().unwrap();
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap()
    };
    // FULL, with a journal that is gone when the write is there.
    assert_eq!((pragma("synchronous"), pragma("journal_mode")), (2.into(), "delete".to_owned().into()));
}

#[test]
fn the_directory_stays_locked_while_the_memory_is_open() {
    let Store { temporary, dir } = Store::new();
    let db = NodeDb::open(&dir, NodeDbLimits::default()).unwrap();
    drop(dir);
    DataDir::open(temporary.path()).unwrap_err();
    drop(db);
    DataDir::open(temporary.path()).unwrap();
}

#[test]
fn those_that_answered_longest_ago_go_first() {
    let store = Store::new();
    let mut db = store.open_with(NodeDbLimits { max_nodes: 100, ..NodeDbLimits::default() }).unwrap().db;
    let updates: Vec<_> = (0..150).map(|number| seen(node(number), NOW + u64::from(number))).collect();
    db.write(NOW + 150, &updates[..90]).unwrap();
    assert_eq!(db.len(), 90);
    db.write(NOW + 150, &updates[90..]).unwrap();
    assert_eq!(db.len(), 100);
    let left: BTreeSet<_> = keys(db.seeds(NOW, 0, 1000).unwrap()).into_iter().collect();
    assert_eq!(left, (50..150).map(|number| node(number).key).collect());
    // One that answers again is not the oldest any more.
    db.write(NOW + 200, &[seen(node(50), NOW + 200), seen(node(150), NOW + 200)]).unwrap();
    assert_eq!(db.len(), 100);
    assert!(db.get(&node(50).key).unwrap().is_some() && db.get(&node(51).key).unwrap().is_none());
    assert_eq!(store.open().len(), 100);
}

#[test]
fn the_file_has_a_bound_of_its_own() {
    let store = Store::new();
    let limits = NodeDbLimits { max_bytes: 400_000, ..NodeDbLimits::default() };
    let mut db = store.open_with(limits).unwrap().db;
    for round in 0..100 {
        let updates: Vec<_> = (0..100).map(|number| seen(node(round * 100 + number), NOW + u64::from(round))).collect();
        db.write(NOW + 100, &updates).unwrap();
        assert!(fs::metadata(store.path()).unwrap().len() <= 440_000);
    }
    assert!((1000..9000).contains(&db.len()), "{}", db.len());
    assert!(db.get(&node(9999).key).unwrap().is_some() && db.get(&node(0).key).unwrap().is_none());
}

#[test]
fn an_answer_in_the_future_takes_nothing_from_the_order() {
    let store = Store::new();
    let mut db = store.open();
    // One that was known for a month and is silent for twenty days, and one that was there just now.
    db.write(NOW, &[seen(node(1), NOW - 50 * DAY), seen(node(2), NOW - DAY / 24)]).unwrap();
    db.write(NOW, &[seen(node(1), NOW - 20 * DAY), seen(node(2), NOW)]).unwrap();
    assert_eq!(keys(db.seeds(NOW, 0, 9).unwrap()), [node(2).key, node(1).key]);
    db.write(NOW, &[seen(node(3), NOW + 400 * DAY)]).unwrap();
    assert_eq!(keys(db.seeds(NOW, 0, 9).unwrap()), [node(2).key, node(3).key, node(1).key]);
}

#[test]
fn nodes_age_out_by_the_newest_answer_and_not_by_a_clock_that_may_be_wrong() {
    let store = Store::new();
    let mut db = store.open();
    db.write(NOW, &[seen(node(1), NOW), seen(node(2), NOW + DAY)]).unwrap();
    // A year later, or with a clock that says so, nobody has answered yet.
    db.write(NOW + 365 * DAY, &[failed(node(1))]).unwrap();
    assert_eq!(db.len(), 2);
    db.write(NOW + 30 * DAY + 1, &[seen(node(3), NOW + 30 * DAY + 1)]).unwrap();
    assert_eq!(keys(db.seeds(NOW + 30 * DAY + 1, 0, 9).unwrap()), [node(3).key, node(2).key]);
    // An answer in the future makes nobody old.
    db.write(NOW + 2 * DAY, &[seen(node(4), NOW + 400 * DAY)]).unwrap();
    assert_eq!(db.len(), 3);
    // Many go in portions.
    let updates: Vec<_> = (10..2510).map(|number| seen(node(number), NOW)).collect();
    db.write(NOW, &updates).unwrap();
    let mut left = Vec::new();
    for _ in 0..4 {
        db.write(NOW + 40 * DAY, &[]).unwrap();
        left.push(db.len());
    }
    assert_eq!(left, [1503, 503, 2, 2]);
}

#[test]
fn seeds_are_the_oldest_reliable_ones_spread_over_networks() {
    let store = Store::new();
    let mut db = store.open();
    let faithful = contact(1, "1.2.3.4");
    for day in 0..10 {
        let flaky = [seen(contact(2, "1.2.3.5"), NOW + day * DAY), failed(contact(2, "1.2.3.5"))];
        db.write(NOW, &[&[seen(faithful, NOW + day * DAY)][..], &flaky].concat()).unwrap();
    }
    let now = NOW + 9 * DAY;
    // A thousand of one network, and some of others.
    let mut updates: Vec<_> = (100..1100).map(|number| seen(contact(number, "1.2.3.6"), now)).collect();
    updates.extend((10..20).map(|number| seen(contact(number, &format!("1.2.{number}.4")), now - 60)));
    updates.extend((20..30).map(|number| seen(contact(number, "10.0.0.1"), now - 120)));
    db.write(now, &updates).unwrap();
    let seeds = keys(db.seeds(now, 0, 100).unwrap());
    let expected: Vec<_> = [1, 2].into_iter().chain(10..30).map(|number| contact(number, "1.1.1.1").key).collect();
    assert_eq!(seeds, expected);
    assert_eq!(keys(db.seeds(now, 0, 3).unwrap()), expected[..3]);
    assert_eq!(keys(db.seeds(now, 3, 100).unwrap()), expected[3..], "who was tried can be left out");
    assert!(db.seeds(now, 22, 100).unwrap().is_empty());
}

#[test]
fn rows_that_make_no_sense_are_passed_over() {
    let store = Store::new();
    let mut db = store.open();
    let updates: Vec<_> = (0..8).map(|number| seen(node(number), NOW)).collect();
    db.write(NOW, &updates).unwrap();
    drop(db);
    let change = |sql: &str| Connection::open(store.path()).unwrap().execute_batch(sql).unwrap();
    let first = row_id(&node(0).key);
    for (at, set) in
        ["ip = 'nowhere'", "ip = x'00ff'", "udp = 0", "udp = 70000", "key = x'01'", "last_seen = 'x'", "successes = -1"]
            .iter()
            .enumerate()
    {
        change(&format!("UPDATE nodes SET {set} WHERE id = {}", row_id(&node(at as u32).key)));
    }
    let mut db = store.open();
    assert_eq!((db.len(), first), (8, 0));
    assert_eq!(keys(db.seeds(NOW, 0, 9).unwrap()), [node(7).key]);
    let others = Record::sign(&NodeKey::from_bytes(&[7; 32]).unwrap(), 1, &RecordContent::default()).unwrap();
    for record in ["zeroblob(301)".to_owned(), format!("x'{}'", hex::encode(others.as_bytes()))] {
        change(&format!("UPDATE nodes SET record = {record} WHERE id = {}", row_id(&node(7).key)));
        assert_eq!(db.get(&node(7).key).unwrap().unwrap().record(), None);
    }
    change(&format!("UPDATE nodes SET record = zeroblob(60000000) WHERE id = {}", row_id(&node(7).key)));
    let error = db.get(&node(7).key).unwrap_err();
    assert!(matches!(error, NodeDbError::SetAside { .. }), "what is this long is no record: {error}");
}

#[test]
fn people_can_look_into_it() {
    let store = Store::new();
    let mut db = store.open();
    db.write(NOW, &[seen(node(1), NOW), seen(contact(2, "2a00::1"), NOW + 60)]).unwrap();
    // While it is open.
    let reader = Connection::open(store.path()).unwrap();
    let mut select = reader.prepare("SELECT node, first_seen, last_seen, successes FROM readable").unwrap();
    let rows: Vec<(String, String, String, i64)> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let (last, first) = ("2023-11-14 22:14:20", "2023-11-14 22:13:20");
    let urls = [
        format!("enode://{}@[2a00::1]:30303", contact(2, "2a00::1").key),
        format!("enode://{}@127.0.0.1:30303", node(1).key),
    ];
    assert_eq!(rows[0], (urls[0].clone(), last.to_owned(), last.to_owned(), 1));
    assert_eq!(rows[1], (urls[1].clone(), first.to_owned(), first.to_owned(), 1));
    assert_eq!(urls[1].parse::<crate::proto::identity::Enode>().unwrap().contact().unwrap().key, node(1).key);
}

#[test]
fn a_lock_of_another_program_is_waited_out_or_told() {
    let store = Store::new();
    let mut db = store.open();
    let other = Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = db.write(NOW, &[seen(node(1), NOW)]).unwrap_err();
    assert_eq!(store.said(&error), "nodes.db cannot be used: another program has locked it");
    assert!(db.seeds(NOW, 0, 1).unwrap().is_empty(), "it can be read");
    other.execute_batch("COMMIT").unwrap();
    db.write(NOW, &[seen(node(1), NOW)]).unwrap();
    assert_eq!(db.len(), 1);
}

#[test]
fn other_versions_and_other_programs_are_refused_and_left_alone() {
    let store = Store::new();
    let refused = |sql: &str, said: &str| {
        drop(store.open());
        Connection::open(store.path()).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(store.path()).unwrap();
        for _ in 0..2 {
            assert_eq!(store.said(&store.open_with(NodeDbLimits::default()).unwrap_err()), said);
        }
        assert_eq!(fs::read(store.path()).unwrap(), before);
        assert_eq!(store.names(), ["LOCK", "nodes.db"]);
        fs::remove_file(store.path()).unwrap();
    };
    refused(
        "PRAGMA user_version = 2",
        "nodes.db was written by a newer kadnode (its version is 2, and this program knows 1); it is left as it is: update \
         kadnode, or move the file away to have a new one made",
    );
    let foreign = "nodes.db is a database of another program; it is left as it is: move it away to have a new one made";
    refused("PRAGMA application_id = 7; PRAGMA user_version = 1", foreign);
    refused("PRAGMA application_id = 0; DROP TABLE nodes; CREATE TABLE mine (a)", foreign);
}

/// SQLite would undo a write that was interrupted as soon as it reads the file.
#[test]
fn what_is_not_ours_is_left_alone_in_the_middle_of_a_write() {
    for marks in ["user_version = 2", "application_id = 7"] {
        let (other, store) = (Store::new(), Store::new());
        drop(other.open());
        let writer = Connection::open(other.path()).unwrap();
        writer.execute_batch(&format!("PRAGMA {marks}; CREATE TABLE more (a)")).unwrap();
        // With room for two pages it has to write before the end.
        let some = "(VALUES (1), (2), (3), (4), (5))";
        writer
            .execute_batch(&format!(
                "PRAGMA cache_size = 2; BEGIN; INSERT INTO more SELECT randomblob(3000) FROM {some}, {some}"
            ))
            .unwrap();
        let files = ["nodes.db", "nodes.db-journal"];
        for name in files {
            fs::copy(other.temporary.path().join(name), store.temporary.path().join(name)).unwrap();
        }
        let read = || files.map(|name| fs::read(store.temporary.path().join(name)).unwrap());
        let before = read();
        let error = store.open_with(NodeDbLimits::default()).unwrap_err();
        assert!(matches!(error, NodeDbError::Newer { .. } | NodeDbError::Foreign { .. }), "{error}");
        assert!(read() == before);
        // And there was something to undo.
        let undone: i64 = Connection::open(store.path())
            .unwrap()
            .query_row("SELECT count(*) FROM more", [], |row| row.get(0))
            .unwrap();
        assert!(undone == 0 && !store.names().contains(&files[1].to_owned()));
    }
}

#[test]
fn what_is_damaged_is_set_aside_with_its_journal() {
    let store = Store::new();
    store.remember(node(1));
    let good = fs::read(store.path()).unwrap();
    fs::write(store.path(), "mine").unwrap();
    fs::write(store.temporary.path().join("nodes.db-journal"), "its journal").unwrap();
    let OpenedNodeDb { mut db, warning } = store.open_with(NodeDbLimits::default()).unwrap();
    let said = "nodes.db is damaged (it is no SQLite database); it is kept as nodes.db.bad-1, and a new one is begun";
    assert_eq!(store.said(&warning.unwrap()), said);
    db.write(NOW, &[seen(node(2), NOW)]).unwrap();
    assert_eq!(store.names(), ["LOCK", "nodes.db", "nodes.db.bad-1", "nodes.db.bad-1-journal"]);
    assert_eq!(fs::read(store.temporary.path().join("nodes.db.bad-1")).unwrap(), b"mine");
    drop(db);

    // Tables that somebody has changed.
    fs::write(store.path(), &good).unwrap();
    Connection::open(store.path()).unwrap().execute_batch("ALTER TABLE nodes ADD COLUMN a").unwrap();
    let warning = store.open_with(NodeDbLimits::default()).unwrap().warning.unwrap();
    let said = "nodes.db is damaged (its nodes is not what kadnode makes); it is kept as nodes.db.bad-2, and a new one is begun";
    assert_eq!(store.said(&warning), said);

    // One that cannot be renamed.
    fs::remove_file(store.path()).unwrap();
    fs::create_dir(store.path()).unwrap();
    let error = store.open_with(NodeDbLimits::default()).unwrap_err();
    assert_eq!(store.said(&error), "nodes.db cannot be used: is a directory");
    assert!(store.path().is_dir());
}

#[test]
fn a_journal_that_was_never_used_is_taken_away() {
    let store = Store::new();
    drop(store.open());
    fs::write(store.temporary.path().join("nodes.db-journal"), "").unwrap();
    drop(store.open());
    assert_eq!(store.names(), ["LOCK", "nodes.db"]);
}

#[test]
fn without_room_the_old_state_stays_and_writing_goes_on_when_there_is_room() {
    let store = Store::new();
    store.remember(node(1));
    // A write that is larger than all the room there is.
    let limits = NodeDbLimits { max_bytes: 100_000, ..NodeDbLimits::default() };
    let mut db = store.open_with(limits).unwrap().db;
    let many: Vec<_> = (10..3000).map(|number| seen(node(number), NOW)).collect();
    let error = db.write(NOW, &many).unwrap_err();
    let said = "nodes.db cannot be written: the disk, or the room that the file may take, is full";
    assert_eq!(store.said(&error), said);
    assert_eq!((db.len(), keys(db.seeds(NOW, 0, 9).unwrap())), (1, vec![node(1).key]));
    db.write(NOW, &many[..100]).unwrap();
    assert_eq!(db.len(), 101);
    drop(db);
    assert_eq!(store.names(), ["LOCK", "nodes.db"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_written_can_still_be_read() {
    let store = Store::new();
    store.remember(node(1));
    // A directory in the place of the journal keeps root from writing, too.
    fs::create_dir(store.temporary.path().join("nodes.db-journal")).unwrap();
    let opened = store.open_with(NodeDbLimits::default());
    let text = match opened {
        Ok(OpenedNodeDb { mut db, warning }) => {
            assert_eq!(keys(db.seeds(NOW, 0, 9).unwrap()), [node(1).key]);
            store.said(&db.write(NOW, &[seen(node(2), NOW)]).unwrap_err());
            store.said(&warning.expect("it says so"))
        }
        Err(error) => store.said(&error),
    };
    assert_eq!(text, "nodes.db cannot be used: disk I/O error");
    fs::remove_dir(store.temporary.path().join("nodes.db-journal")).unwrap();
    assert_eq!(store.open().len(), 1);
}

/// Bytes flipped anywhere: the file works, is refused, or is set aside, and what was in it is somewhere in each case.
#[test]
fn a_hundred_damaged_files() {
    let store = Store::new();
    let mut db = store.open();
    let mut rng = StdRng::seed_from_u64(1);
    let updates: Vec<_> = (0..400)
        .map(|number| {
            let record = Record::sign(&NodeKey::from_bytes(&[7; 32]).unwrap(), 1, &RecordContent::default()).unwrap();
            NodeUpdate { record: Some(Arc::new(record)), ..seen(node(number << 16), NOW - u64::from(number)) }
        })
        .collect();
    db.write(NOW, &updates).unwrap();
    drop(db);
    let good = fs::read(store.path()).unwrap();
    let mut outcomes = [0; 3];
    for round in 0..100 {
        let mut bytes = good.clone();
        // Every other time in the parts that hold the rest together: the header, and the beginnings of the pages.
        let flips = if round % 4 == 0 { 1 } else { rng.random_range(1..=32) };
        for _ in 0..flips {
            let at = match round % 4 {
                0 => rng.random_range(0..100),
                1 => rng.random_range(0..bytes.len() / 4096) * 4096 + rng.random_range(0..32),
                _ => rng.random_range(0..bytes.len()),
            };
            bytes[at] ^= rng.random_range(1..=255u8);
        }
        fs::write(store.path(), &bytes).unwrap();
        outcomes[use_damaged(&store, &bytes, round)] += 1;
        for name in store.names().iter().filter(|name| *name != "LOCK") {
            fs::remove_file(store.temporary.path().join(name)).unwrap();
        }
    }
    println!("used, set aside, refused: {outcomes:?}");
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

/// Uses a damaged file as a node does; says whether it worked, was set aside or was refused.
fn use_damaged(store: &Store, bytes: &[u8], round: u32) -> usize {
    let aside = |at: usize| store.temporary.path().join(format!("nodes.db.bad-{at}"));
    let is_set_aside = |error: &NodeDbError| {
        let NodeDbError::SetAside { aside: name, .. } = error else { panic!("round {round}: {error}") };
        assert!(Path::new(name) == aside(1) && !error.to_string().contains('\n'), "{error}");
    };
    let mut db = match store.open_with(NodeDbLimits::default()) {
        Ok(OpenedNodeDb { db, warning: None }) => db,
        Ok(OpenedNodeDb { mut db, warning: Some(warning) }) => {
            is_set_aside(&warning);
            assert!(fs::read(aside(1)).unwrap() == bytes, "round {round}: it is not as it was");
            assert!(db.is_empty());
            db.write(NOW, &[seen(node(1), NOW)]).unwrap();
            return 1;
        }
        Err(error) => {
            assert!(matches!(error, NodeDbError::Foreign { .. } | NodeDbError::Newer { .. }), "{error}");
            assert!(fs::read(store.path()).unwrap() == bytes, "round {round}: it is not as it was");
            return 2;
        }
    };
    // What is wrong farther in is found when it is read or written.
    let updates: Vec<_> = (0..400).map(|number| seen(node(number << 16 | 1), NOW)).collect();
    let used = db.seeds(NOW, 0, 100).map(drop).and_then(|()| db.write(NOW, &updates));
    if let Err(error) = used {
        is_set_aside(&error);
        assert!(aside(1).exists());
        db.write(NOW, &updates).unwrap();
        assert_eq!(db.seeds(NOW, 0, 100).unwrap().len(), 100);
        return 1;
    }
    0
}
