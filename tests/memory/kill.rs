//! A node that is killed at any moment, again and again, by SIGKILL.
//!
//! The node is this very test program, so that it can write every few milliseconds; `tests/cli` kills the real one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use kadnode::proto::identity::{Contact, Endpoint, Enode, NodeKey, PublicKey, Record};
use kadnode::store::{DataDir, NodeDb, NodeDbLimits, NodeUpdate};
use kadnode::{Discovery, MemoryConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{bootnode, start};

/// Where a child finds its directory and its bootnodes.
const DIR: &str = "KADNODE_TEST_VICTIM_DIR";
const BOOTNODES: &str = "KADNODE_TEST_VICTIM_BOOTNODES";
const WRITER: &str = "KADNODE_TEST_WRITER_DIR";

/// Kills in a run of all tests. `KADNODE_TEST_KILLS=200` is for CI.
const KILLS: usize = 40;

/// One of these tests at a time: a process that the other one has just forked would hold the locks of this one for a moment.
static ALONE: Mutex<()> = Mutex::new(());

fn kills() -> usize {
    std::env::var("KADNODE_TEST_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"))
}

/// The node that is killed. It does nothing but when it is started by the test below.
#[tokio::test]
async fn victim() {
    let (Ok(dir), Ok(bootnodes)) = (std::env::var(DIR), std::env::var(BOOTNODES)) else { return };
    let dir = DataDir::open(Path::new(&dir)).expect("it is not in use");
    let key = dir.node_key().expect("a key").key;
    let last = dir.last_record(key.public_key());
    assert!(last.warning.is_none(), "{:?}", last.warning);
    let opened = NodeDb::open(&dir, NodeDbLimits::default()).expect("it opens");
    assert!(opened.warning.is_none(), "{:?}", opened.warning);
    // Each write has something to say: nodes are checked all the time.
    let mut config = kadnode::proto::config::Config::default();
    config.table.first_check = Duration::from_millis(1);
    config.table.min_check = Duration::from_millis(1);
    config.table.max_check = Duration::from_millis(5);
    config.table.check_pace = Duration::from_millis(1);
    let memory = MemoryConfig { write_every: Duration::from_millis(2), ..MemoryConfig::default() };
    let node = Discovery::builder(key)
        .listen((Ipv4Addr::LOCALHOST, 0).into())
        .config(config)
        .bootnodes(bootnodes.split(' ').map(|url| kadnode::bootstrap::Bootnode::Enode(url.parse().expect("an URL"))))
        .record_seq(1)
        .last_record(last.record)
        .on_record(move |record| dir.save_record(record).expect("it can be written"))
        .memory(opened.db, memory)
        .start()
        .await
        .expect("a node starts on loopback");
    println!("\nrecord {}", node.local_record());
    std::future::pending::<()>().await;
}

/// A process that does nothing but write, large transactions one after another; killed by the test below.
#[test]
fn writer() {
    let Ok(dir) = std::env::var(WRITER) else { return };
    let dir = DataDir::open(Path::new(&dir)).expect("it is not in use");
    let opened = NodeDb::open(&dir, NodeDbLimits::default()).expect("it opens");
    assert!(opened.warning.is_none(), "{:?}", opened.warning);
    let mut db = opened.db;
    let mut round = db.seeds(u64::MAX, 0, 1).expect("it can be read").first().map_or(0, |node| node.last_seen);
    println!();
    loop {
        round += 1;
        let updates: Vec<NodeUpdate> = (0..300u16)
            .map(|number| {
                let mut key = [0; 64];
                key[..2].copy_from_slice(&number.to_be_bytes());
                let endpoint = Endpoint::new(Ipv4Addr::LOCALHOST.into(), 30303, 0);
                let contact = Contact { key: PublicKey(key), endpoint };
                NodeUpdate { contact, seen: Some(round), successes: 1, failures: 0, record: None }
            })
            .collect();
        db.write(round, &updates).expect("it can be written");
        println!("wrote {round}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a process is left alone for some time")]
fn a_write_that_is_killed_in_the_middle_is_there_as_a_whole_or_not_at_all() {
    let _alone = ALONE.lock();
    let mut rng = StdRng::seed_from_u64(2);
    let dir = tempfile::tempdir().unwrap();
    let (mut journals, mut last) = (0, 0);
    for kill in 0..kills() {
        let mut child = Command::new(std::env::current_exe().expect("this is one"))
            .args(["--exact", "kill::writer", "--nocapture"])
            .env(WRITER, dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let mut wrote = || lines.by_ref().find_map(|line| line.strip_prefix("wrote ")?.parse::<i64>().ok());
        let mut told = wrote().expect("it writes");
        std::thread::sleep(Duration::from_micros(rng.random_range(0..20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(round) = wrote() {
            told = round;
        }
        journals += usize::from(names(dir.path()).contains(&"nodes.db-journal".to_owned()));
        let lock = DataDir::open(dir.path()).unwrap();
        let opened = NodeDb::open(&lock, NodeDbLimits::default()).unwrap();
        assert!(opened.warning.is_none() && opened.db.len() == 300, "kill {kill}: {:?}", opened.warning);
        drop((opened, lock));
        assert_eq!(names(dir.path()), ["LOCK", "nodes.db"], "kill {kill}");
        let reader = rusqlite::Connection::open(dir.path().join("nodes.db")).unwrap();
        let rounds = "SELECT min(last_seen), max(last_seen) FROM nodes";
        let (first, newest): (i64, i64) = reader.query_row(rounds, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(first, newest, "kill {kill}: half of a write");
        assert!((told..=told + 1).contains(&newest) && told > last, "kill {kill}: {newest}, and {told} was told");
        last = newest;
        let sound: String = reader.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok", "kill {kill}");
    }
    println!("killed {} times, {journals} times in the middle of a write", kills());
    assert!(journals > 0, "never in the middle of a write");
}

struct Victim {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Victim {
    fn start(dir: &Path, bootnodes: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this is one"))
            .args(["--exact", "kill::victim", "--nocapture"])
            .env(DIR, dir)
            .env(BOOTNODES, bootnodes)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test program starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    /// The record that it shows.
    fn record(&mut self) -> Record {
        let line =
            self.lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.strip_prefix("record ")?.to_owned()));
        line.expect("it says its record").parse().expect("a record")
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_at_any_moment_loses_nothing_that_it_had_written() {
    let kills = kills();
    let mut rng = StdRng::seed_from_u64(1);
    let mut peers = Vec::new();
    for _ in 0..12 {
        peers.push(start(&NodeKey::generate(&mut rng), peers.first().map(bootnode)).await);
    }
    let urls: Vec<Enode> = peers.iter().map(Discovery::local_enode).collect();
    let urls = urls.iter().map(Enode::to_string).collect::<Vec<_>>().join(" ");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    // It waits for the child, and has threads of its own to wait on.
    let figures =
        tokio::task::spawn_blocking(move || kill_again_and_again(&path, &urls, kills, &mut rng)).await.unwrap();
    println!("{figures}");
}

#[expect(clippy::disallowed_methods, reason = "a process is left alone for some time")]
fn kill_again_and_again(dir: &Path, urls: &str, kills: usize, rng: &mut StdRng) -> String {
    let _alone = ALONE.lock();
    let (mut seq, mut successes, mut journals, mut writes) = (0, 0, 0, 0);
    for kill in 0..kills {
        let mut victim = Victim::start(dir, urls);
        // Some do not even come to show their record.
        if kill % 8 != 7 {
            let record = victim.record();
            assert!(record.seq() > seq, "its port is another one each time: {} after {seq}", record.seq());
            seq = record.seq();
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..60_000)));
        // What others see before the end of it has been written for good.
        let seen = total(dir);
        drop(victim);
        let left = names(dir);
        journals += usize::from(left.iter().any(|name| name == "nodes.db-journal"));
        // The next start finds all that, and leaves nothing lying about.
        let lock = DataDir::open(dir).expect("the lock went with the process");
        let Ok(opened) = NodeDb::open(&lock, NodeDbLimits::default()) else { panic!("kill {kill}: it does not open") };
        assert!(opened.warning.is_none(), "kill {kill}: {:?}", opened.warning);
        let left = names(dir);
        let expected = ["LOCK", "node.key", "nodes.db", "record.enr"];
        assert!(left.iter().all(|name| expected.contains(&name.as_str())), "kill {kill}: {left:?}");
        drop((opened, lock));
        let now = total(dir);
        assert!(now >= seen.max(successes), "kill {kill}: {now} after {seen}");
        writes += usize::from(now > successes);
        successes = now;
        let check = rusqlite::Connection::open(dir.join("nodes.db")).unwrap();
        let sound: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok", "kill {kill}");
    }
    assert!(writes > kills / 2 && successes > 0, "it was hardly ever killed at work: {writes} times");
    format!("killed {kills} times, {journals} times in the middle of a write; {successes} answers remembered")
}

/// All endpoint proofs that are remembered; 0 before there is a table.
fn total(dir: &Path) -> i64 {
    let Ok(reader) =
        rusqlite::Connection::open_with_flags(dir.join("nodes.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
    else {
        return 0;
    };
    reader.query_row("SELECT coalesce(sum(successes), 0) FROM nodes", [], |row| row.get(0)).unwrap_or(0)
}
