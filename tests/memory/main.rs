//! What a node remembers from run to run: a network that is re-entered without bootnodes, and a node that is killed.

#[cfg(unix)]
mod kill;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use kadnode::bootstrap::Bootnode;
use kadnode::proto::config::Config;
use kadnode::proto::engine::Event;
use kadnode::proto::identity::{NodeKey, PublicKey, RecordContent};
use kadnode::store::{DataDir, NodeDb, NodeDbLimits};
use kadnode::{Builder, Discovery, MemoryConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Longer than anything here takes, also on a machine that others keep busy: two hundred nodes take 20 s of CPU time.
const LIMIT: Duration = Duration::from_secs(180);

/// Writes that a test need not wait for.
fn quick() -> MemoryConfig {
    MemoryConfig {
        write_every: Duration::from_millis(50),
        retry: (Duration::from_millis(200), Duration::from_secs(1)),
        ..MemoryConfig::default()
    }
}

/// An address of loopback that nobody else has, where there are many: a port that a node has left would else be taken by
/// a node of another test, whose network would grow together with that of the first.
fn loopback() -> SocketAddr {
    static NODES: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NODES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = 1 + (std::process::id() % 250) as u8;
    let ip = if cfg!(target_os = "linux") { Ipv4Addr::new(127, process, high, low) } else { Ipv4Addr::LOCALHOST };
    (ip, 0).into()
}

fn builder(key: &NodeKey) -> Builder {
    Discovery::builder(key.clone()).listen(loopback())
}

/// Settings of a node that joins as any other does, and then leaves the others alone: two hundred of them share the cores
/// with the one that is looked at.
fn quiet() -> Config {
    let mut config = Config::default();
    let day = Duration::from_hours(24);
    (config.table.first_check, config.table.min_check, config.table.max_check) = (day, day, day);
    (config.refresh.max_room, config.refresh.max_full) = (day, day);
    config
}

async fn start(key: &NodeKey, knows: impl IntoIterator<Item = Bootnode>) -> Discovery {
    builder(key).config(quiet()).bootnodes(knows).start().await.expect("a node starts on loopback")
}

fn open(dir: &Path) -> NodeDb {
    let dir = DataDir::open(dir).expect("it can be used");
    let opened = NodeDb::open(&dir, NodeDbLimits::default()).expect("it opens");
    assert!(opened.warning.is_none(), "{:?}", opened.warning);
    opened.db
}

/// A node that knows those in its memory alone.
async fn with_memory(key: &NodeKey, dir: &Path, config: MemoryConfig) -> Discovery {
    with_memory_and(key, dir, config, []).await
}

/// A node that knows those in its memory, and others.
async fn with_memory_and(
    key: &NodeKey,
    dir: &Path,
    config: MemoryConfig,
    knows: impl IntoIterator<Item = Bootnode>,
) -> Discovery {
    builder(key).bootnodes(knows).memory(open(dir), config).start().await.expect("a node starts on loopback")
}

fn bootnode(node: &Discovery) -> Bootnode {
    Bootnode::Enode(node.local_enode())
}

async fn members(node: &Discovery) -> BTreeSet<PublicKey> {
    let snapshot = node.snapshot().await.expect("the node runs");
    snapshot.nodes.iter().filter(|node| !node.replacement).map(|node| node.contact.key).collect()
}

/// Looks again and again until there is what is wanted; says how long it took.
#[expect(clippy::disallowed_methods, reason = "real sockets take real time")]
async fn until(what: &str, mut wanted: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !wanted().await {
        assert!(begun.elapsed() < LIMIT, "{what}: not after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_whose_bootnodes_have_gone_is_entered_again_from_memory() {
    const NODES: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let keys: Vec<NodeKey> = (0..NODES).map(|_| NodeKey::generate(&mut rng)).collect();
    let mut nodes: Vec<Discovery> = Vec::new();
    for key in &keys {
        let known: Vec<Bootnode> = nodes.iter().take(3).map(bootnode).collect();
        nodes.push(start(key, known).await);
        if nodes.len().is_multiple_of(10) {
            // So that not all join at once.
            let last = &nodes[nodes.len() - 1];
            until("a member", async || !members(last).await.is_empty()).await;
        }
    }
    let own = NodeKey::from_bytes(&[1; 32]).unwrap();
    let bootnodes: Vec<Bootnode> = nodes.iter().take(3).map(bootnode).collect();
    let node = with_memory_and(&own, dir.path(), MemoryConfig::default(), bootnodes).await;
    // Its buckets have room for some seventy of them. It has settled when nobody came for a while.
    let (mut size, mut quiet) = (0, 0);
    until("a table", async || {
        let now = members(&node).await.len();
        quiet = if now > size { 0 } else { quiet + 1 };
        size = size.max(now);
        size > 40 && quiet > 50
    })
    .await;
    let before = members(&node).await;
    node.shutdown().await;
    drop(node);
    for bootnode in nodes.drain(..3) {
        bootnode.shutdown().await;
    }

    let gone = &keys[..3];
    let there: BTreeSet<PublicKey> =
        before.iter().filter(|member| gone.iter().all(|key| key.public_key() != *member)).copied().collect();
    let node = with_memory(&own, dir.path(), MemoryConfig::default()).await;
    let mut now = BTreeSet::new();
    let took = until("the former table", async || {
        now = members(&node).await;
        now.len() * 10 >= before.len() * 9 && now.intersection(&there).count() * 10 >= there.len() * 9
    })
    .await;
    let same = now.intersection(&there).count();
    println!("{} members after {took:?}: {same} of the {} that there were of {}", now.len(), there.len(), before.len());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn when_nobody_answers_any_more_the_remembered_nodes_are_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (NodeKey::from_bytes(&[1; 32]).unwrap(), NodeKey::from_bytes(&[2; 32]).unwrap());
    let peer = start(&other, []).await;
    let at = peer.local_addr();
    let node = with_memory_and(&own, dir.path(), quick(), [bootnode(&peer)]).await;
    until("a member", async || members(&node).await.len() == 1).await;
    node.shutdown().await;
    peer.shutdown().await;

    // It starts while the other is away, and finds it when it is back.
    let node = with_memory(&own, dir.path(), quick()).await;
    let mut events = node.events();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let peer = builder(&other).listen(at).start().await.expect("its port is free again");
    let found = tokio::time::timeout(LIMIT, async {
        loop {
            if let Some(Ok(Event::NodeAdded(contact))) = events.next().await {
                break contact.key;
            }
        }
    });
    assert_eq!(found.await.expect("it is found"), *other.public_key());
    node.shutdown().await;
    let remembered = open(dir.path()).get(other.public_key()).unwrap().expect("it is remembered");
    assert!(remembered.successes >= 2, "{remembered:?}");
    // While nobody answered, it was more likely our own network.
    assert_eq!((remembered.failures, remembered.contact.endpoint.udp_addr()), (0, at));
    peer.shutdown().await;
}

#[tokio::test]
async fn those_that_are_silent_while_others_answer_have_failed() {
    let dir = tempfile::tempdir().unwrap();
    let key = |number| NodeKey::from_bytes(&[number; 32]).unwrap();
    let (stays, goes) = (start(&key(2), []).await, start(&key(3), []).await);
    let node = with_memory_and(&key(1), dir.path(), quick(), [bootnode(&stays), bootnode(&goes)]).await;
    until("two members", async || members(&node).await.len() == 2).await;
    node.shutdown().await;
    goes.shutdown().await;

    let node = with_memory(&key(1), dir.path(), quick()).await;
    let reader = dir.path().join("nodes.db");
    let failures = || {
        let reader = rusqlite::Connection::open(&reader).unwrap();
        reader.query_row("SELECT sum(failures) FROM nodes", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    until("a failure", async || failures() == 1).await;
    node.shutdown().await;
    let mut db = open(dir.path());
    let mut failures = |number| db.get(key(number).public_key()).unwrap().expect("it is remembered").failures;
    assert_eq!((failures(2), failures(3)), (0, 1));
}

#[tokio::test]
async fn a_new_record_is_written_though_nothing_else_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let key = |number| NodeKey::from_bytes(&[number; 32]).unwrap();
    let peer = start(&key(2), []).await;
    let node = builder(&key(1))
        .config(quiet())
        .bootnodes([bootnode(&peer)])
        .memory(open(dir.path()), quick())
        .start()
        .await
        .expect("a node starts on loopback");
    let reader = rusqlite::Connection::open(dir.path().join("nodes.db")).unwrap();
    let kept = || reader.query_row("SELECT record FROM nodes", [], |row| row.get::<_, Vec<u8>>(0)).unwrap_or_default();
    until("the first record", async || kept() == *peer.local_record().as_bytes()).await;
    let first = peer.local_record();
    peer.set_record(RecordContent { ports: Some((peer.local_addr().port(), 7)), ..Default::default() }).await.unwrap();
    assert!(peer.local_record().seq() > first.seq());
    // On a busy machine one request may take too long.
    let contact = peer.local_enode().contact().unwrap();
    until("an answer", async || node.request_enr(contact).await.is_ok()).await;
    until("the new record", async || kept() == *peer.local_record().as_bytes()).await;
}

#[tokio::test]
async fn a_node_goes_on_without_a_memory_that_cannot_be_written_and_writes_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let key = |number| NodeKey::from_bytes(&[number; 32]).unwrap();
    let peer = start(&key(2), []).await;
    let db = open(dir.path());
    let other = rusqlite::Connection::open(db.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let node = builder(&key(1)).memory(db, quick()).start().await.expect("a node starts on loopback");
    node.add_bootnode(bootnode(&peer)).await.unwrap();
    until("a member", async || members(&node).await.len() == 1).await;
    other.execute_batch("COMMIT").unwrap();
    let count = || other.query_row("SELECT count(*) FROM nodes", [], |row| row.get::<_, i64>(0));
    until("a row", async || count().is_ok_and(|count| count == 1)).await;
    // The application has all events, though the memory listens too.
    let mut events = node.events();
    let first = tokio::time::timeout(LIMIT, events.next()).await.expect("it is kept");
    assert!(matches!(first, Some(Ok(Event::NodeAdded(contact))) if contact.key == *key(2).public_key()), "{first:?}");
}

/// Counts the writes from outside, as another program sees them, while there is something new all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "real sockets take real time")]
async fn however_much_happens_there_is_one_write_in_an_interval() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let every = Duration::from_millis(500);
    let config = MemoryConfig { write_every: every, ..MemoryConfig::default() };
    let node = with_memory(&NodeKey::generate(&mut rng), dir.path(), config).await;
    let outside = rusqlite::Connection::open(dir.path().join("nodes.db")).unwrap();
    let version = || outside.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0));
    let (begun, mut last, mut writes, mut others) = (Instant::now(), version().unwrap(), 0, Vec::new());
    while begun.elapsed() < 5 * every {
        others.push(start(&NodeKey::generate(&mut rng), [bootnode(&node)]).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
        // While it is being written it cannot be asked.
        if let Ok(now) = version() {
            writes += u32::from(std::mem::replace(&mut last, now) != now);
        }
    }
    // One more where the time is measured from another moment.
    let most = (begun.elapsed().as_millis() / every.as_millis()) as u32 + 1;
    assert!((2..=most).contains(&writes), "{writes} writes, at most {most} wanted");
}
