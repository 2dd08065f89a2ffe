//! The task by itself: the node that it remembers for is played by hand.

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use super::*;
use crate::proto::config::Config;
use crate::proto::contacts::OwnContacts;
use crate::proto::engine::{Clock, Engine, LocalKey, LocalNode, Pinged};
use crate::proto::identity::{Endpoint, NodeKey, RecordContent};
use crate::proto::time::Time;
use crate::store::{DataDir, NodeDbLimits, Remembered};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

const NOW: Time = Time::from_secs(1000);

/// How long ago the nodes of a table have proved themselves.
const PROVED: Duration = Duration::from_secs(500);

/// How long ago the nodes of a former run were seen last, in seconds.
const BEFORE: u64 = 24 * 3600;

/// A node, and where it is.
fn at(node: u8, last: u8) -> Contact {
    Contact { key: PublicKey([node; 64]), endpoint: Endpoint::new([10, 0, 0, last].into(), 30303, 0) }
}

/// A node on loopback, as many of which may be in a table as there are.
fn node(number: u8) -> Contact {
    Contact { key: PublicKey([number; 64]), endpoint: Endpoint::new(Ipv4Addr::LOCALHOST.into(), 30303, 0) }
}

/// An engine with a table.
fn engine(config: Config, nodes: impl IntoIterator<Item = u8>) -> Engine<OwnContacts> {
    let mut contacts = OwnContacts::default();
    let nodes: Vec<_> = nodes.into_iter().map(|number| contacts.intern(&node(number)).unwrap()).collect();
    let local = LocalNode {
        key: LocalKey::Private(Arc::new(NodeKey::from_bytes(&[1; 32]).unwrap())),
        content: RecordContent::default(),
        seq: 1,
        bound: (Ipv4Addr::LOCALHOST, 1).into(),
        host: (None, None),
        tcp: 0,
    };
    let clock = Clock { now: NOW, unix_micros: 0 };
    let mut engine = Engine::new(local, Arc::new(config), contacts, [1; 32], clock).unwrap();
    for node in nodes {
        engine.grant(NOW, node, true, PROVED);
    }
    engine
}

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(shared: &Shared<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A memory at work, and what it asks of its node.
struct Rig {
    dir: TempDir,
    engine: Shared<Engine<OwnContacts>>,
    /// How often it has looked at the table.
    looks: Shared<usize>,
    pings: mpsc::UnboundedReceiver<(Contact, oneshot::Sender<Reply>)>,
    events: broadcast::Sender<Event>,
    memory: MemoryHandle,
    /// As long as it is there the node runs.
    _requests: mpsc::Sender<Request>,
}

impl Rig {
    /// With nodes that are remembered; the table has others.
    fn new(remembered: u8, engine: Engine<OwnContacts>, config: MemoryConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut db = open(&dir);
        let now = unix_secs();
        let seen = |number| NodeUpdate {
            contact: node(number),
            seen: Some(now - BEFORE),
            successes: 1,
            failures: 0,
            record: None,
        };
        db.write(now, &(0..remembered).map(seen).collect::<Vec<_>>()).unwrap();
        let (requests, mut asked) = mpsc::channel(4);
        let (events, heard) = broadcast::channel(4);
        let memory = start(db, config, requests.downgrade(), heard);
        let (pinged, pings) = mpsc::unbounded_channel();
        let (engine, looks) = (Arc::new(Mutex::new(engine)), Shared::default());
        let (seen, count) = (engine.clone(), looks.clone());
        tokio::spawn(async move {
            while let Some(request) = asked.recv().await {
                match request {
                    Request::Inspect(look) => {
                        look(&lock(&seen), NOW);
                        *lock(&count) += 1;
                    }
                    Request::Command(Command::Ping(contact), reply) => pinged.send((contact, reply)).unwrap(),
                    _ => panic!("it asks for something else"),
                }
            }
        });
        Self { dir, engine, looks, pings, events, memory, _requests: requests }
    }

    /// The next PING that it wants sent.
    async fn ping(&mut self) -> (Contact, oneshot::Sender<Reply>) {
        timeout(PATIENCE, self.pings.recv()).await.expect("it pings").unwrap()
    }

    /// Nodes that are tried and do not answer, one after another.
    async fn silent(&mut self, count: usize) -> Vec<Contact> {
        let mut tried = Vec::new();
        for _ in 0..count {
            let (contact, reply) = self.ping().await;
            assert!(self.pings.try_recv().is_err(), "one at a time");
            reply.send(Reply::Failed(CommandError::Timeout)).unwrap();
            tried.push(contact);
        }
        tried
    }

    /// Waits until it has looked at the table so many times more.
    async fn looks(&self, more: usize) {
        let end = *lock(&self.looks) + more;
        let wait = async {
            while *lock(&self.looks) < end {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("it looks");
    }

    /// What there is at the end.
    async fn end(self) -> (NodeDb, TempDir) {
        self.memory.close().await;
        (open(&self.dir), self.dir)
    }
}

fn open(dir: &TempDir) -> NodeDb {
    let opened = NodeDb::open(&DataDir::open(dir.path()).unwrap(), NodeDbLimits::default()).unwrap();
    assert!(opened.warning.is_none(), "{:?}", opened.warning);
    opened.db
}

fn get(db: &mut NodeDb, number: u8) -> Remembered {
    db.get(&node(number).key).unwrap().expect("it is remembered")
}

/// One node at a time, two in a round.
fn slow() -> MemoryConfig {
    let retry = (Duration::from_millis(20), Duration::from_secs(1));
    MemoryConfig { seeds: 2, at_once: 1, retry, ..MemoryConfig::default() }
}

/// It looks and writes all the time, and never tries again by itself.
fn often() -> MemoryConfig {
    let never = Duration::from_hours(24);
    MemoryConfig { write_every: Duration::from_millis(5), retry: (never, never), ..slow() }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the task waits in real time")]
async fn all_that_are_remembered_are_tried_round_after_round_until_the_table_has_somebody() {
    let mut rig = Rig::new(5, engine(Config::default(), []), slow());
    let begun = Instant::now();
    let all: Vec<Contact> = [rig.silent(2).await, rig.silent(2).await, rig.silent(1).await].concat();
    assert!((0..5).all(|number| all.contains(&node(number))), "{all:?}");
    assert!(begun.elapsed() >= Duration::from_millis(20 + 40), "it waits between rounds");
    assert_eq!(rig.silent(2).await, all[..2], "and begins anew");
    assert!(begun.elapsed() >= Duration::from_millis(20 + 40 + 80), "ever longer");
    // Whoever is back among others may try the first ones again.
    let _ = rig.events.send(Event::Contacts { any: true });
    let _ = rig.events.send(Event::Contacts { any: false });
    assert_eq!(rig.silent(2).await, all[..2]);
    assert_eq!(rig.silent(2).await, all[2..4]);
    let (mut db, _dir) = rig.end().await;
    assert_eq!((0..5).map(|number| get(&mut db, number).failures).sum::<u64>(), 0, "it is more likely our own network");
}

#[tokio::test]
async fn a_table_that_has_become_empty_is_noticed_though_the_event_was_missed() {
    let mut rig = Rig::new(1, engine(Config::default(), [0]), often());
    assert_eq!(rig.silent(1).await, [node(0)]);
    rig.looks(2).await;
    assert!(rig.pings.try_recv().is_err(), "there is somebody");
    *lock(&rig.engine) = engine(Config::default(), []);
    assert_eq!(rig.silent(1).await, [node(0)]);
}

#[tokio::test]
async fn who_answers_is_remembered_though_the_table_has_no_room() {
    let begun = unix_secs();
    let mut rig = Rig::new(2, engine(Config::default(), []), slow());
    let (answered, reply) = rig.ping().await;
    let pinged = Pinged { contact: answered, rtt: Duration::ZERO, enr_seq: None, our_address: None };
    reply.send(Reply::Ping(pinged)).unwrap();
    let (silent, reply) = rig.ping().await;
    reply.send(Reply::Failed(CommandError::OtherNode)).unwrap();
    // The round is over when the next one begins.
    let _ = rig.ping().await;
    let (mut db, _dir) = rig.end().await;
    let mut found = |contact: Contact| db.get(&contact.key).unwrap().unwrap();
    assert!(found(answered).last_seen >= begun && found(answered).failures == 0);
    assert!(found(silent).last_seen < begun && found(silent).failures == 1);
}

#[tokio::test]
async fn members_come_before_replacements_and_nothing_is_counted_twice() {
    let mut config = Config::default();
    config.table.k = 1;
    let begun = unix_secs();
    let rig = Rig::new(0, engine(config, 0..9), often());
    rig.looks(5).await;
    let members: Vec<PublicKey> = {
        let engine = lock(&rig.engine);
        engine.table().entries().map(|(_, entry)| engine.contacts().contact(entry.node).key).collect()
    };
    assert!((2..9).contains(&members.len()));
    *lock(&rig.engine) = engine(Config::default(), []);
    let _ = rig.events.send(Event::NodeRemoved(node(0), Removal::Dead));
    rig.looks(2).await;
    let (mut db, _dir) = rig.end().await;
    for number in 0..9 {
        let found = get(&mut db, number);
        let expected = (u64::from(members.contains(&node(number).key)), u64::from(number == 0));
        assert_eq!((found.successes, found.failures), expected, "{number}");
        assert!((begun..=unix_secs()).contains(&(found.last_seen + PROVED.as_secs())), "{found:?}");
    }
}

#[tokio::test]
async fn what_could_not_be_written_is_written_when_it_can() {
    let rig = Rig::new(0, engine(Config::default(), 0..1), often());
    rig.looks(2).await;
    let other = rusqlite::Connection::open(rig.dir.path().join("nodes.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    *lock(&rig.engine) = engine(Config::default(), 0..2);
    // Before the second look it has tried to write.
    rig.looks(2).await;
    other.execute_batch("COMMIT").unwrap();
    let (db, _dir) = rig.end().await;
    assert_eq!(db.len(), 2);
}

#[tokio::test]
async fn a_new_file_is_told_of_the_whole_table() {
    let rig = Rig::new(0, engine(Config::default(), 0..3), often());
    rig.looks(3).await;
    std::fs::write(rig.dir.path().join("nodes.db"), "nonsense").unwrap();
    *lock(&rig.engine) = engine(Config::default(), 0..4);
    rig.looks(3).await;
    let (db, dir) = rig.end().await;
    assert_eq!(db.len(), 4);
    assert!(dir.path().join("nodes.db.bad-1").exists());
}

/// What is written of one node, in a task without a node.
#[test]
fn failures_count_where_a_node_was_seen_last() {
    let mut memory = idle();
    let pending = |memory: &Memory| {
        let update = &memory.pending[&at(1, 1).key];
        (update.contact, update.seen, update.failures)
    };
    memory.failed(at(1, 1));
    assert_eq!(pending(&memory), (at(1, 1), None, 1));
    memory.failed(at(1, 2));
    assert_eq!(pending(&memory), (at(1, 2), None, 1));
    memory.saw(at(1, 2), 7);
    assert_eq!(pending(&memory), (at(1, 2), Some(7), 1));
    memory.saw(at(1, 3), 8);
    assert_eq!(pending(&memory), (at(1, 3), Some(8), 0), "it has moved");
    memory.failed(at(1, 2));
    assert_eq!(pending(&memory), (at(1, 3), Some(8), 0), "it is not there any more");
    memory.failed(at(1, 3));
    assert_eq!(pending(&memory), (at(1, 3), Some(8), 1));
}

#[test]
fn at_the_bound_further_nodes_are_left_out() {
    let mut memory = idle();
    for number in 0..=MAX_PENDING {
        let mut contact = at(0, 1);
        contact.key.0[..8].copy_from_slice(&number.to_be_bytes());
        memory.saw(contact, 1);
    }
    assert_eq!(memory.pending.len(), MAX_PENDING);
    memory.failed(at(9, 1));
    assert_eq!(memory.pending.len(), MAX_PENDING);
    memory.failed(at(0, 1));
    assert_eq!(memory.pending[&at(0, 1).key].failures, 1, "one that has a place keeps it");
}

fn idle() -> Memory {
    let (requests, _) = mpsc::channel(1);
    Memory::new(None, MemoryConfig::default(), requests.downgrade())
}
