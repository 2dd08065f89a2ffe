//! The file: its marks, its tables, and how it is opened.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::NodeDbLimits;
use super::error::Problem;
use crate::store::files;

/// Marks the file as ours: "kadn". It stands at a fixed place of the file, so that `file` and others can read it.
pub(super) const APPLICATION: i32 = 0x6b61_646e;

/// The version of the tables. A program refuses those that are newer than its own.
pub(super) const VERSION: i32 = 1;

/// The pages of the file, in bytes: what disks and file systems write at a time.
pub(super) const PAGE: u64 = 4096;

/// The tables. SQLite keeps the very text in the file, so `.schema` shows the comments to people. A file with other ones
/// is damaged.
///
/// The number of a row is taken from the key, so that no second tree is needed to find it by, and the index holds all
/// that the choice of seeds asks for, so that it need not read the rows.
const TABLES: [(&str, &str); 3] = [
    (
        "nodes",
        "CREATE TABLE nodes (
  id INTEGER PRIMARY KEY,      -- the first 8 bytes of the public key
  key BLOB NOT NULL,           -- the public key: 64 bytes
  ip TEXT NOT NULL,            -- where it answered last: IPv4 or IPv6 address
  udp INTEGER NOT NULL,        -- and UDP port
  tcp INTEGER NOT NULL,        -- TCP port of what runs above discovery; 0: none
  seq INTEGER NOT NULL,        -- sequence number of its record; 0: never fetched
  first_seen INTEGER NOT NULL, -- its first endpoint proof, in seconds of Unix time
  last_seen INTEGER NOT NULL,  -- its last one
  successes INTEGER NOT NULL,  -- endpoint proofs while it was in the table
  failures INTEGER NOT NULL,   -- times that it was given up, or did not answer after a start
  record BLOB                  -- its node record (EIP-778), RLP
)",
    ),
    (
        "nodes_by_last_seen",
        "CREATE INDEX nodes_by_last_seen ON nodes (last_seen, first_seen, successes, failures)",
    ),
    (
        "readable",
        "CREATE VIEW readable AS SELECT
  'enode://' || lower(hex(key)) || '@' || CASE WHEN ip LIKE '%:%' THEN '[' || ip || ']' ELSE ip END || ':' || udp AS node,
  datetime(first_seen, 'unixepoch') AS first_seen, datetime(last_seen, 'unixepoch') AS last_seen,
  successes, failures, seq
FROM nodes ORDER BY nodes.last_seen DESC",
    ),
];

/// How long to wait for another program that has the file locked: not for longer than the end of a node may take.
const BUSY: Duration = Duration::from_millis(500);

/// No text, blob or row of ours is as long, in bytes; a damaged file may say otherwise.
const MAX_VALUE: i32 = 65_536;

/// An open file, and what is wrong with writing it, if that is all that is wrong.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// How many nodes are in it.
    pub(super) len: u64,
    pub(super) unwritable: Option<Problem>,
}

/// Opens the file; makes it when it is not there or empty.
pub(super) fn open(path: &Path, limits: &NodeDbLimits) -> Result<Opened, Problem> {
    let empty = check_header(path)?;
    // The journal takes the mode of the file.
    if empty {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        files::private(&mut options);
        options.open(path)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE)?;
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE};
         PRAGMA synchronous = FULL;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;"
    ))?;
    // This reads for the first time, and brings back the state before a write that was interrupted.
    let _: i64 = connection.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
    let (mut len, mut unwritable) = (0, None);
    if is_empty(&connection)? {
        create(&connection)?;
    } else {
        check(&connection)?;
        // In a damaged file there may be no end of them.
        let most = limits.max_nodes.saturating_mul(2) as i64;
        let count = "SELECT count(*) FROM (SELECT 1 FROM nodes LIMIT ?1)";
        len = connection.query_row(count, [most], |row| row.get(0)).map(i64::unsigned_abs)?;
        // All has been read that is read now, so that a damaged file is set aside as it is.
        unwritable = probe(&connection).err().map(Problem::from);
        if let Some(problem @ Problem::Damaged(_)) = unwritable {
            return Err(problem);
        }
    }
    // SQLite takes no less than what the file has.
    let pages = ((limits.max_bytes + limits.max_bytes / 10) / PAGE).max(1);
    let _: i64 = connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))?;
    Ok(Opened { connection, len, unwritable })
}

/// Looks at the first bytes, so that a file of somebody else is not even touched; says whether there is nothing yet.
fn check_header(path: &Path) -> Result<bool, Problem> {
    let mut header = Vec::new();
    match File::open(path) {
        Ok(file) if file.metadata()?.is_dir() => return Err(Problem::Io(io::ErrorKind::IsADirectory.into())),
        Ok(file) => file.take(100).read_to_end(&mut header)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    if header.is_empty() {
        return Ok(true);
    }
    // The format of the file: https://sqlite.org/fileformat2.html#the_database_header
    let number =
        |at: usize| header.get(at..at + 4).map(|bytes| i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let (Some(version), Some(application), true) =
        (number(60), number(68), header.starts_with(b"SQLite format 3\0") && header.len() == 100)
    else {
        return Err(Problem::Damaged("it is no SQLite database".to_owned()));
    };
    if application != APPLICATION {
        return Err(Problem::Foreign);
    }
    // SQLite would open what is of a later format for reading alone.
    if header[18] > 2 || header[19] > 2 {
        return Err(Problem::Damaged("its header makes no sense".to_owned()));
    }
    check_version(version)?;
    Ok(false)
}

fn check_version(version: i32) -> Result<(), Problem> {
    match version.cmp(&VERSION) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(Problem::Newer(version)),
        Ordering::Less => Err(Problem::Damaged(format!("there is no version {version}"))),
    }
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// All at once: a file that is killed in the middle is empty.
fn create(connection: &Connection) -> rusqlite::Result<()> {
    let tables = TABLES.map(|(_, sql)| sql).join(";\n");
    let done = connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;\nPRAGMA application_id = {APPLICATION};\nPRAGMA user_version = {VERSION};\n{tables};\nCOMMIT"
    ));
    roll_back(connection, done)
}

/// Whether the marks and tables are ours, now that an interrupted write has been undone.
fn check(connection: &Connection) -> Result<(), Problem> {
    let number = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    if number("application_id")? != APPLICATION {
        return Err(Problem::Foreign);
    }
    check_version(number("user_version")?)?;
    for (name, expected) in TABLES {
        let sql: Option<String> = connection
            .query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [name], |row| row.get(0))
            .map_err(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Problem::Damaged(format!("it has no {name}")),
                error => error.into(),
            })?;
        if sql.as_deref() != Some(expected) {
            return Err(Problem::Damaged(format!("its {name} is not what kadnode makes")));
        }
    }
    Ok(())
}

/// Writes what is there already. That shows whether the file can be written, and takes away a journal that was begun and
/// never used.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    // A file that people have switched to a log of its own comes back to a journal that is gone after each write.
    let _: String = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
    let done = connection.execute_batch(&format!("BEGIN IMMEDIATE;\nPRAGMA user_version = {VERSION};\nCOMMIT"));
    roll_back(connection, done)
}

fn roll_back(connection: &Connection, done: rusqlite::Result<()>) -> rusqlite::Result<()> {
    if done.is_err() && !connection.is_autocommit() {
        // What went wrong is told already.
        let _ = connection.execute_batch("ROLLBACK");
    }
    done
}
