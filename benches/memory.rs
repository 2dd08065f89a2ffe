//! The memory of other nodes at its bound: how long a start with 100,000 nodes takes, and how large the file is.
//!
//! The nodes have records of 300 bytes, the most there may be, or of the 170 or so that are usual. The file is filled as it
//! would be in use, by many writes, and then churned: as many nodes again come in, and those that answered longest ago
//! go. With the longest records the bound of the file may take effect a little before that of the nodes.
//!
//!     cargo bench --bench memory --features store
//!     cargo bench --bench memory --features store -- --json

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kadnode::proto::identity::{Contact, Endpoint, NodeKey, Record, RecordContent};
use kadnode::store::{DataDir, NodeDb, NodeDbLimits, NodeUpdate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What the issue of this memory asks for: a start, in milliseconds, and a file, in bytes.
const START: f64 = 300.0;
const FILE: u64 = 60_000_000;

/// Nodes remembered.
const NODES: u64 = 100_000;

/// Updates of one write: more than a node has in ten seconds.
const BATCH: u64 = 500;

/// Seeds that a start asks for.
const SEEDS: usize = 512;

/// The Unix time at the start of the first write, and the seconds between two.
const BEGIN: u64 = 1_700_000_000;
const STEP: u64 = 10;

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    // `cargo test --benches` only wants to see that it runs.
    let nodes = if std::env::args().any(|arg| arg == "--bench") { NODES } else { 1000 };
    for record in [170, 300] {
        let figures = Figures::measure(nodes, record);
        let Figures { filled, churned, left, write, start } = figures;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        if json {
            println!(
                "{{\"nodes\": {nodes}, \"record_bytes\": {record}, \"file_bytes\": {filled}, \
                 \"file_bytes_churned\": {churned}, \"write_ms\": {:.2}, \"start_ms\": {:.2}}}",
                ms(write),
                ms(start)
            );
        } else {
            println!("{nodes} nodes with records of {record} bytes:");
            println!("  {:>8.1}  MB, filled", filled as f64 / 1e6);
            println!("  {:>8.1}  MB, after as many nodes again", churned as f64 / 1e6);
            println!("  {left:>8}  nodes are in it then");
            println!("  {:>8.1}  ms for a write of {BATCH} nodes, the median", ms(write));
            println!("  {:>8.1}  ms to open it and choose {SEEDS} seeds, the median", ms(start));
        }
        assert!(churned.max(filled) < FILE && ms(start) < START, "more than it may be");
        assert!(left == nodes || (record == 300 && left * 100 > nodes * 95), "{left} nodes are left");
    }
}

struct Figures {
    filled: u64,
    churned: u64,
    left: u64,
    write: Duration,
    start: Duration,
}

impl Figures {
    fn measure(nodes: u64, record: usize) -> Self {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let dir = DataDir::open(dir.path()).expect("it can be made");
        let limits = NodeDbLimits { max_nodes: nodes, ..NodeDbLimits::default() };
        let open = || NodeDb::open(&dir, limits.clone()).expect("it opens").db;
        let mut db = open();
        let size = |db: &NodeDb| std::fs::metadata(db.path()).expect("it is there").len();
        let mut rng = StdRng::seed_from_u64(1);
        let record = Arc::new(record_of(record));
        let mut writes = Vec::new();
        let mut now = BEGIN;
        let mut fill = |db: &mut NodeDb| {
            for _ in 0..nodes / BATCH {
                now += STEP;
                let updates: Vec<NodeUpdate> = (0..BATCH).map(|_| update(&mut rng, &record, now)).collect();
                let begun = Instant::now();
                db.write(now, &updates).expect("it can be written");
                writes.push(begun.elapsed());
            }
            size(db)
        };
        let filled = fill(&mut db);
        let churned = fill(&mut db);
        let left = db.len();
        drop(db);
        let starts = (0..20).map(|_| {
            let begun = Instant::now();
            let seeds = open().seeds(u64::MAX, 0, SEEDS).expect("it can be read");
            assert!(seeds.len() == SEEDS.min(nodes as usize) && seeds[0].record().is_none(), "made up records");
            begun.elapsed()
        });
        let starts = starts.collect();
        Self { filled, churned, left, write: median(writes), start: median(starts) }
    }
}

/// A node that nobody runs; making a true key for each would take longer than all the rest.
fn update(rng: &mut StdRng, record: &Arc<Record>, now: u64) -> NodeUpdate {
    let mut key = [0; 64];
    rng.fill(&mut key);
    // 24 to 191: global but for some.
    let ip = Ipv4Addr::new(rng.random_range(24..100), rng.random(), rng.random(), rng.random());
    let contact =
        Contact { key: kadnode::proto::identity::PublicKey(key), endpoint: Endpoint::new(ip.into(), 30303, 30303) };
    NodeUpdate { contact, seen: Some(now), successes: 1, failures: 0, record: Some(record.clone()) }
}

/// A record of just so many bytes.
fn record_of(len: usize) -> Record {
    let key = NodeKey::from_bytes(&[1; 32]).expect("a valid key");
    let mut content =
        RecordContent { v4: Some((Ipv4Addr::new(24, 1, 2, 3), 30303, 30303)), ..RecordContent::default() };
    for filler in 0..len {
        content.extra.insert(b"eth".to_vec(), rlp::encode(&vec![7u8; filler]).to_vec());
        let record = Record::sign(&key, 1_700_000_000_000, &content).expect("it fits");
        if record.as_bytes().len() >= len {
            return record;
        }
    }
    unreachable!("each step adds a byte")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
