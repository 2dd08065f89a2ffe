//! The memory of other nodes: `nodes.db`, an SQLite database that a node seeds itself from when it starts again.

mod error;
mod schema;
mod seeds;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

pub use self::error::NodeDbError;
use self::error::Problem;
use self::schema::PAGE;
use self::seeds::{History, Spread};
use super::{DataDir, files};
use crate::proto::identity::{Contact, Endpoint, MAX_RECORD_LEN, PublicKey, Record};

const NAME: &str = "nodes.db";

/// Files that SQLite may keep beside the database, and that belong to it.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Bounds of the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDbLimits {
    /// Nodes remembered at most; beyond, those that answered longest ago are forgotten. 100,000: several times the nodes
    /// of the public network, in less than 60 MB with the longest records.
    pub max_nodes: u64,
    /// A node that has not answered for so long before the newest answer of any is forgotten: 30 days, after which few
    /// nodes are still where they were. A node that was off for longer thus still has what it left.
    pub max_age: Duration,
    /// The file is kept below this, in bytes: 60 MB. When it comes near, those that answered longest ago are forgotten;
    /// should that not do, writing fails at a tenth more.
    pub max_bytes: u64,
}

impl Default for NodeDbLimits {
    fn default() -> Self {
        Self { max_nodes: 100_000, max_age: Duration::from_hours(30 * 24), max_bytes: 60_000_000 }
    }
}

/// Rows that one write forgets for their age; the others go with the next ones, so that no write takes long.
const FORGOTTEN_AT_ONCE: u64 = 1000;

/// Rows that are looked at for the seeds, the most promising ones, so that one network which has filled the memory cannot
/// make a start slow: some 50 ms.
const LOOKS: usize = 20_000;

/// A node that has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its key, and where it answered last.
    pub contact: Contact,
    /// The sequence number of its record; 0 when that was never fetched.
    pub seq: u64,
    /// Its first endpoint proof, in seconds of Unix time.
    pub first_seen: u64,
    /// Its last one.
    pub last_seen: u64,
    /// Endpoint proofs while it was in the table.
    pub successes: u64,
    /// Times that it was given up, or did not answer after a start.
    pub failures: u64,
    record: Option<Vec<u8>>,
}

impl Remembered {
    /// Its record. What is in the file is believed only with a valid signature of the node; to check it takes some 0.1 ms.
    pub fn record(&self) -> Option<Record> {
        let record = Record::decode(self.record.as_ref()?).ok()?;
        (*record.public_key() == self.contact.key).then_some(record)
    }
}

/// What has become known of a node.
#[derive(Clone, Debug)]
pub struct NodeUpdate {
    /// Its key, and where it is or was.
    pub contact: Contact,
    /// Its last endpoint proof, in seconds of Unix time. Without one, a node that is not remembered is not taken in.
    pub seen: Option<u64>,
    /// Endpoint proofs since the last update, while it was in the table.
    pub successes: u64,
    /// Failures since the last update; they count only for the endpoint that is remembered.
    pub failures: u64,
    /// Its record; an older one than what is remembered is ignored.
    pub record: Option<Arc<Record>>,
}

/// The nodes that are remembered between runs, in `nodes.db` of a data directory.
///
/// A write is one transaction: when it returns, it outlasts a loss of power, and a process that is killed in the middle
/// leaves the state before it. All calls block; they take milliseconds, or as long as the disk does.
#[derive(Debug)]
pub struct NodeDb {
    /// `None` after an error: opened again when it is needed.
    connection: Option<Connection>,
    dir: PathBuf,
    limits: NodeDbLimits,
    len: u64,
    _lock: Arc<File>,
}

/// A memory that can be used.
#[derive(Debug)]
pub struct OpenedNodeDb {
    /// The memory.
    pub db: NodeDb,
    /// Something that the owner should know: it was set aside and begun anew, or can be read and not written.
    pub warning: Option<NodeDbError>,
}

impl NodeDb {
    /// Opens `nodes.db` in a directory, or makes it there. The directory stays locked until this is dropped.
    ///
    /// # Errors
    /// When it belongs to another program or a newer version, or cannot be opened or made.
    pub fn open(dir: &DataDir, limits: NodeDbLimits) -> Result<OpenedNodeDb, NodeDbError> {
        let mut db = Self { connection: None, dir: dir.path().to_owned(), limits, len: 0, _lock: dir.lock() };
        let warning = match db.connect() {
            Ok(unwritable) => unwritable.map(|problem| problem.at(&db.path(), schema::VERSION)),
            Err(problem) => match db.recover(problem) {
                warning @ NodeDbError::SetAside { .. } => Some(warning),
                error => return Err(error),
            },
        };
        Ok(OpenedNodeDb { db, warning })
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// How many nodes are remembered.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The nodes to try, the most promising first: those that have been known for long, were reliable and answered
    /// lately, at most two of one /24 or /64. `now` is in seconds of Unix time; `skip` leaves out as many of the first, for
    /// whoever has tried them.
    ///
    /// # Errors
    /// When the file cannot be read. After [`NodeDbError::SetAside`] the memory can be used, and is empty.
    pub fn seeds(&mut self, now: u64, skip: usize, count: usize) -> Result<Vec<Remembered>, NodeDbError> {
        self.with(|db, connection| read_seeds(connection, &db.limits, now, skip, count))
    }

    /// What is remembered of a node.
    ///
    /// # Errors
    /// As for [`NodeDb::seeds`].
    pub fn get(&mut self, key: &PublicKey) -> Result<Option<Remembered>, NodeDbError> {
        self.with(|_, connection| {
            let mut select = connection.prepare(SELECT)?;
            let row = select.query_row([row_id(key)], |row| Ok(read_row(row)));
            Ok(row.optional()?.flatten().filter(|found| found.contact.key == *key))
        })
    }

    /// Writes what has become known, all of it or nothing, and forgets what has to go. `now` is in seconds of Unix time.
    ///
    /// # Errors
    /// When the file cannot be written. After [`NodeDbError::SetAside`] the memory can be used, and is empty.
    pub fn write(&mut self, now: u64, updates: &[NodeUpdate]) -> Result<(), NodeDbError> {
        let len = self.with(|db, connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let taken = write_updates(&transaction, updates)?;
            let forgotten = forget(&transaction, &db.limits, now, db.len + taken, taken)?;
            transaction.commit()?;
            Ok((db.len + taken).saturating_sub(forgotten))
        })?;
        self.len = len;
        Ok(())
    }

    /// Uses the open file; after an error it is closed, and opened anew for the next use.
    fn with<T>(&mut self, work: impl FnOnce(&Self, &mut Connection) -> Result<T, Problem>) -> Result<T, NodeDbError> {
        if self.connection.is_none() {
            self.connect().map_err(|problem| self.recover(problem))?;
        }
        let Some(mut connection) = self.connection.take() else { unreachable!("it has just been opened") };
        let result = work(self, &mut connection);
        match result {
            Ok(done) => {
                self.connection = Some(connection);
                Ok(done)
            }
            Err(problem) => {
                drop(connection);
                Err(self.recover(problem))
            }
        }
    }

    /// Opens the file and counts the nodes in it; says what is wrong with writing it.
    fn connect(&mut self) -> Result<Option<Problem>, Problem> {
        let schema::Opened { connection, len, unwritable } = schema::open(&self.path(), &self.limits)?;
        self.len = len;
        self.connection = Some(connection);
        Ok(unwritable)
    }

    /// Does what can be done: sets a damaged file aside and begins a new one. The file is closed.
    fn recover(&mut self, problem: Problem) -> NodeDbError {
        let path = self.path();
        let Problem::Damaged(why) = problem else { return problem.at(&path, schema::VERSION) };
        self.len = 0;
        match files::set_aside_with(&self.dir, NAME, &BESIDE) {
            Err(source) => NodeDbError::Damaged { path, why, source },
            Ok(aside) => match self.connect() {
                Ok(_) => NodeDbError::SetAside { path, aside, why },
                Err(problem) => problem.at(&path, schema::VERSION),
            },
        }
    }
}

const SELECT: &str =
    "SELECT id, key, ip, udp, tcp, seq, first_seen, last_seen, successes, failures, record FROM nodes WHERE id = ?1";

/// The number of a node's row: keys look random, so no two are alike in their first 8 bytes but by chance, one in 2^64,
/// and then the first one stays.
fn row_id(key: &PublicKey) -> i64 {
    let (words, _) = key.0.as_chunks();
    i64::from_be_bytes(words[0])
}

fn read_seeds(
    connection: &Connection,
    limits: &NodeDbLimits,
    now: u64,
    skip: usize,
    count: usize,
) -> Result<Vec<Remembered>, Problem> {
    let mut candidates = read_histories(connection, limits, now)?;
    if candidates.len() > LOOKS {
        candidates.select_nth_unstable_by(LOOKS, best_first);
        candidates.truncate(LOOKS);
    }
    candidates.sort_unstable_by(best_first);
    let mut select = connection.prepare(SELECT)?;
    let (mut spread, mut skipped, mut seeds) = (Spread::default(), 0, Vec::new());
    for (_, id) in candidates {
        if seeds.len() == count {
            break;
        }
        // A row that makes no sense is passed over.
        let Some(node) = select.query_row([id], |row| Ok(read_row(row))).optional()?.flatten() else { continue };
        if !spread.admits(node.contact.endpoint.ip) {
            continue;
        }
        if skipped < skip {
            skipped += 1;
        } else {
            seeds.push(node);
        }
    }
    Ok(seeds)
}

/// The scores and numbers of all rows, from the index alone.
fn read_histories(connection: &Connection, limits: &NodeDbLimits, now: u64) -> Result<Vec<(f64, i64)>, Problem> {
    let mut scan = connection.prepare(
        "SELECT id, first_seen, last_seen, successes, failures FROM nodes INDEXED BY nodes_by_last_seen
         ORDER BY last_seen DESC LIMIT ?1",
    )?;
    let mut rows = scan.query([limits.max_nodes as i64])?;
    let (mut newest, mut candidates) = (None, Vec::new());
    while let Some(row) = rows.next()? {
        let number = |at| integer(row, at);
        let (Ok(id), Some(first_seen), Some(last_seen)) = (row.get(0), number(1), number(2)) else { continue };
        let (Some(successes), Some(failures)) = (number(3), number(4)) else { continue };
        // A clock that was wrong for a while may have put answers into the future.
        let last_seen = last_seen.min(now);
        let newest = *newest.get_or_insert(last_seen);
        candidates.push((History { first_seen, last_seen, successes, failures }.score(newest), id));
    }
    Ok(candidates)
}

fn best_first(a: &(f64, i64), b: &(f64, i64)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// A number that is no negative one.
fn integer(row: &Row<'_>, at: usize) -> Option<u64> {
    row.get_ref(at).ok()?.as_i64().ok()?.try_into().ok()
}

/// A node, if the row makes sense; people and damage can put anything there.
fn read_row(row: &Row<'_>) -> Option<Remembered> {
    let key = PublicKey(row.get_ref(1).ok()?.as_blob().ok()?.try_into().ok()?);
    let ip: IpAddr = row.get_ref(2).ok()?.as_str().ok()?.parse().ok()?;
    let port = |at| u16::try_from(integer(row, at)?).ok();
    let contact = Contact { key, endpoint: Endpoint::new(ip, port(3)?, port(4)?) };
    let record = match row.get_ref(10).ok()? {
        ValueRef::Blob(record) if record.len() <= MAX_RECORD_LEN => Some(record.to_vec()),
        _ => None,
    };
    let sensible = row.get::<_, i64>(0).ok()? == row_id(&key) && contact.endpoint.udp != 0;
    sensible.then_some(Remembered {
        contact,
        seq: integer(row, 5)?,
        first_seen: integer(row, 6)?,
        last_seen: integer(row, 7)?,
        successes: integer(row, 8)?,
        failures: integer(row, 9)?,
        record,
    })
}

/// Writes the updates and returns how many nodes there are more than before.
fn write_updates(transaction: &Transaction<'_>, updates: &[NodeUpdate]) -> Result<u64, Problem> {
    let mut update = transaction.prepare(
        "UPDATE nodes SET ip = ?3, udp = ?4, tcp = ?5, last_seen = ?6,
           successes = min(successes + ?7, 4294967295), failures = min(failures + ?8, 4294967295),
           record = CASE WHEN ?10 IS NULL OR ?9 < seq THEN record ELSE ?10 END, seq = max(seq, ?9)
         WHERE id = ?1 AND key = ?2",
    )?;
    let mut insert = transaction.prepare(
        "INSERT OR IGNORE INTO nodes (id, key, ip, udp, tcp, first_seen, last_seen, successes, failures, seq, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let mut fail = transaction.prepare(
        "UPDATE nodes SET failures = min(failures + ?5, 4294967295)
         WHERE id = ?1 AND key = ?2 AND ip = ?3 AND udp = ?4",
    )?;
    let mut taken = 0;
    for NodeUpdate { contact, seen, successes, failures, record } in updates {
        let Contact { key, endpoint } = contact;
        let (id, ip) = (row_id(key), endpoint.ip.to_string());
        let (successes, failures) = (clamp(*successes), clamp(*failures));
        let Some(seen) = seen else {
            fail.execute(params![id, key.0, ip, endpoint.udp, failures])?;
            continue;
        };
        let (seq, record) = match record {
            Some(record) => (clamp(record.seq()), Some(record.as_bytes().as_ref())),
            None => (0, None),
        };
        let values = params![id, key.0, ip, endpoint.udp, endpoint.tcp, clamp(*seen), successes, failures, seq, record];
        if update.execute(values)? == 0 {
            taken += insert.execute(values)? as u64;
        }
    }
    Ok(taken)
}

/// SQLite's integers have a sign.
fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Forgets the nodes that are too old or too many, of `len`, of which `taken` are new. Returns how many.
fn forget(
    transaction: &Transaction<'_>,
    limits: &NodeDbLimits,
    now: u64,
    len: u64,
    taken: u64,
) -> Result<u64, Problem> {
    let newest: Option<i64> = transaction.query_row("SELECT max(last_seen) FROM nodes", [], |row| row.get(0))?;
    let Some(newest) = newest else { return Ok(0) };
    // A clock that has been wrong for a while may have put answers into the future.
    let oldest = newest.min(clamp(now)).saturating_sub(clamp(limits.max_age.as_secs()));
    let aged = transaction.execute(
        "DELETE FROM nodes WHERE id IN (SELECT id FROM nodes WHERE last_seen < ?1 ORDER BY last_seen LIMIT ?2)",
        params![oldest, clamp(FORGOTTEN_AT_ONCE)],
    )? as u64;
    let mut excess = (len - aged.min(len)).saturating_sub(limits.max_nodes);
    let pages =
        |name: &str| transaction.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0).map(i64::unsigned_abs));
    let used = pages("page_count")?.saturating_sub(pages("freelist_count")?);
    // Pages seldom become empty, but have room again, so no more has to go than comes in.
    if used > limits.max_bytes / PAGE * 98 / 100 {
        excess = excess.max(taken + 1);
    }
    if excess == 0 {
        return Ok(aged);
    }
    let many = transaction.execute(
        "DELETE FROM nodes WHERE id IN (SELECT id FROM nodes ORDER BY last_seen LIMIT ?1)",
        params![clamp(excess)],
    )?;
    Ok(aged + many as u64)
}
