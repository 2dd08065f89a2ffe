//! A small deterministic network: engines and hand-driven peers on one virtual clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::proto::config::Config;
use crate::proto::contacts::{DEFAULT_CONTACTS, OwnContacts};
use crate::proto::engine::{
    Clock, Command, CommandId, Dropped, Engine, Event, LocalNode, LookupReport, Output, Pinged, Reply,
};
use crate::proto::identity::{Contact, Endpoint, NodeKey, PublicKey, RecordContent};
use crate::proto::time::Time;
use crate::proto::wire::{self, Hash, Message, MessageKind, Opened};
use crate::testing;

/// Unix time when the driver's clock says zero, in seconds.
pub(super) const EPOCH: u64 = 1_700_000_000;

/// The way of a packet in one direction, unless a test says otherwise.
pub(super) const DELAY: Duration = Duration::from_millis(10);

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn key(n: u64) -> Arc<NodeKey> {
    let mut bytes = [1; 32];
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    Arc::new(NodeKey::from_bytes(&bytes).unwrap())
}

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn contact(key: &NodeKey, addr: SocketAddr) -> Contact {
    Contact { key: *key.public_key(), endpoint: Endpoint::new(addr.ip(), addr.port(), 0) }
}

pub(super) fn target(n: u8) -> PublicKey {
    PublicKey([n; 64])
}

/// An engine that does nothing of its own accord.
pub(super) fn passive() -> Config {
    let mut config = Config::default();
    config.refresh.enabled = false;
    config.fetch_records = false;
    config
}

/// What happened at an engine.
pub(super) struct Node {
    pub(super) key: Arc<NodeKey>,
    pub(super) addr: SocketAddr,
    config: Arc<Config>,
    /// The size of its store.
    pub(super) contacts: usize,
    /// `None` when it is switched off.
    pub(super) engine: Option<Engine<OwnContacts>>,
    /// Its packets go nowhere, and none reach it.
    pub(super) silenced: bool,
    wake: Time,
    pub(super) sent: Vec<(Time, SocketAddr, MessageKind)>,
    pub(super) received: Vec<(Time, SocketAddr, MessageKind)>,
    pub(super) dropped: Vec<Dropped>,
    pub(super) events: Vec<(Time, Event)>,
    pub(super) replies: Vec<(Time, CommandId, Reply)>,
}

/// What a hand-driven peer has got.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) at: Time,
    pub(super) from: SocketAddr,
    pub(super) sender: PublicKey,
    pub(super) hash: Hash,
    pub(super) message: Message,
}

pub(super) struct Peer {
    pub(super) key: Arc<NodeKey>,
    pub(super) addr: SocketAddr,
    pub(super) inbox: VecDeque<Got>,
    /// Packets to it are thrown away.
    pub(super) deaf: bool,
}

#[derive(Clone)]
pub(super) enum Payload {
    Bytes(Vec<u8>),
    Opened(Opened),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Node(usize),
    Peer(usize),
}

type Cut = Box<dyn Fn(SocketAddr, SocketAddr) -> bool>;

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) nodes: Vec<Node>,
    pub(super) peers: Vec<Peer>,
    pub(super) parties: BTreeMap<SocketAddr, Party>,
    queue: BTreeMap<(Time, u64), (SocketAddr, SocketAddr, Payload)>,
    serial: u64,
    /// Packets are sealed and opened; else messages go as they are, which is quick.
    sealed: bool,
    /// Delays other than the usual, by source and destination.
    pub(super) delays: BTreeMap<(SocketAddr, SocketAddr), Duration>,
    /// Part of the packets that get lost.
    pub(super) loss: f64,
    /// Links on which nothing gets through.
    pub(super) cut: Option<Cut>,
    rng: StdRng,
    commands: u64,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Time::from_secs(1000),
            nodes: Vec::new(),
            peers: Vec::new(),
            parties: BTreeMap::new(),
            queue: BTreeMap::new(),
            serial: 0,
            sealed: true,
            delays: BTreeMap::new(),
            loss: 0.0,
            cut: None,
            rng: StdRng::seed_from_u64(seed),
            commands: 0,
        }
    }

    /// A network in which packets are not sealed.
    pub(super) fn unsealed(seed: u64) -> Self {
        let mut net = Self::new(seed);
        net.sealed = false;
        net
    }

    /// One passive engine at 10.0.0.1:30303.
    pub(super) fn alone(config: Config) -> Self {
        let mut net = Self::new(1);
        net.add(1, addr("10.0.0.1:30303"), config);
        net
    }

    /// Adds an engine and switches it on.
    pub(super) fn add(&mut self, n: u64, addr: SocketAddr, config: Config) -> usize {
        let at = self.nodes.len();
        self.nodes.push(Node {
            key: key(n),
            addr,
            config: Arc::new(config),
            contacts: DEFAULT_CONTACTS,
            engine: None,
            silenced: false,
            wake: Time::NEVER,
            sent: Vec::new(),
            received: Vec::new(),
            dropped: Vec::new(),
            events: Vec::new(),
            replies: Vec::new(),
        });
        assert_eq!(self.parties.insert(addr, Party::Node(at)), None, "the address is taken");
        self.start(at);
        at
    }

    /// Switches an engine on: with the key and the address that it had, and knowing nobody.
    pub(super) fn start(&mut self, at: usize) {
        let node = &self.nodes[at];
        let content = RecordContent { ports: Some((node.addr.port(), 0)), ..Default::default() };
        self.start_with(at, content);
    }

    pub(super) fn start_with(&mut self, at: usize, content: RecordContent) {
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let clock = Clock { now: self.now, unix_micros: EPOCH * 1_000_000 + self.now.0 };
        let node = &mut self.nodes[at];
        let local = LocalNode {
            key: crate::proto::engine::LocalKey::Private(node.key.clone()),
            content,
            seq: EPOCH + self.now.0 / 1_000_000,
            bound: node.addr,
            host: (None, None),
            tcp: 0,
        };
        let engine = Engine::new(local, node.config.clone(), OwnContacts::new(node.contacts), seed, clock);
        node.engine = Some(engine.unwrap());
        node.wake = Time::NEVER;
    }

    pub(super) fn stop(&mut self, at: usize) {
        self.nodes[at].engine = None;
        self.nodes[at].wake = Time::NEVER;
    }

    /// Its address is free for another one.
    pub(super) fn move_out(&mut self, at: usize) {
        self.parties.remove(&self.nodes[at].addr);
    }

    /// It is reached at another address from now on, and no longer where it was.
    pub(super) fn relocate(&mut self, at: usize, addr: SocketAddr) {
        self.move_out(at);
        self.nodes[at].addr = addr;
        assert_eq!(self.parties.insert(addr, Party::Node(at)), None, "the address is taken");
    }

    pub(super) fn engine(&self, at: usize) -> &Engine<OwnContacts> {
        self.nodes[at].engine.as_ref().unwrap()
    }

    pub(super) fn contact(&self, at: usize) -> Contact {
        contact(&self.nodes[at].key, self.nodes[at].addr)
    }

    /// Gives an engine an input and does what it wants done.
    pub(super) fn input<T>(&mut self, at: usize, input: impl FnOnce(&mut Engine<OwnContacts>, Time) -> T) -> T {
        let result = input(self.nodes[at].engine.as_mut().unwrap(), self.now);
        self.drain(at);
        result
    }

    pub(super) fn bootnode(&mut self, at: usize, contact: Contact) {
        self.input(at, |engine, now| engine.add_bootnode(now, &contact)).unwrap();
    }

    pub(super) fn command(&mut self, at: usize, command: Command) -> CommandId {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.input(at, |engine, now| engine.handle_command(now, id, command));
        id
    }

    /// Runs until a command is answered.
    pub(super) fn reply(&mut self, at: usize, id: CommandId) -> Reply {
        let end = self.now + secs(60);
        loop {
            if let Some(found) = self.nodes[at].replies.iter().position(|(_, command, _)| *command == id) {
                return self.nodes[at].replies.remove(found).2;
            }
            assert!(self.step(end), "no reply");
        }
    }

    pub(super) fn ping(&mut self, at: usize, contact: Contact) -> Pinged {
        let id = self.command(at, Command::Ping(contact));
        match self.reply(at, id) {
            Reply::Ping(pinged) => pinged,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn lookup(&mut self, at: usize, target: PublicKey) -> LookupReport {
        let id = self.command(at, Command::Lookup { target, until_found: false, paths: None });
        match self.reply(at, id) {
            Reply::Lookup(report) => report,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
    }

    /// When the next thing happens by itself.
    pub(super) fn next(&self) -> Time {
        let packet = self.queue.first_key_value().map_or(Time::NEVER, |(&(at, _), _)| at);
        self.nodes.iter().map(|node| node.wake).min().unwrap_or(Time::NEVER).min(packet)
    }

    /// Does the next thing, or goes to `end` when there is none before; deadlines go before packets.
    pub(super) fn step(&mut self, end: Time) -> bool {
        let next = self.next();
        if next > end {
            self.now = end;
            return false;
        }
        assert!(next >= self.now);
        self.now = next;
        if let Some(at) = self.nodes.iter().position(|node| node.wake <= next) {
            self.input(at, |engine, now| engine.handle_timeout(now));
        } else if let Some((_, (from, to, payload))) = self.queue.pop_first() {
            self.deliver(from, to, payload);
        }
        true
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, payload: Payload) {
        match self.parties.get(&to) {
            None => {}
            Some(&Party::Peer(at)) if self.peers[at].deaf => {}
            Some(&Party::Peer(at)) => {
                let opened = match payload {
                    Payload::Bytes(bytes) => wire::open(&bytes).unwrap(),
                    Payload::Opened(opened) => opened,
                };
                let Opened { hash, sender, message, .. } = opened;
                self.peers[at].inbox.push_back(Got { at: self.now, from, sender, hash, message });
            }
            Some(&Party::Node(at)) => {
                let node = &mut self.nodes[at];
                if node.silenced || node.engine.is_none() {
                    return;
                }
                if let Payload::Opened(opened) = &payload {
                    node.received.push((self.now, from, opened.message.kind()));
                }
                let result = self.input(at, |engine, now| match payload {
                    Payload::Bytes(bytes) => engine.handle_datagram(now, from, &bytes),
                    Payload::Opened(opened) => engine.handle_message(now, from, opened),
                });
                self.nodes[at].dropped.extend(result.err());
            }
        }
    }

    fn drain(&mut self, at: usize) {
        loop {
            let node = &mut self.nodes[at];
            let engine = node.engine.as_mut().unwrap();
            match engine.poll_output() {
                Output::Transmit(transmit) => {
                    node.sent.push((self.now, transmit.to, transmit.message.kind()));
                    let payload = if self.sealed {
                        let mut buffer = Vec::new();
                        engine.seal(&transmit, &mut buffer);
                        assert!(buffer.len() <= wire::MAX_PACKET_LEN);
                        Payload::Bytes(buffer.to_vec())
                    } else {
                        let mut hash = [0; 32];
                        hash[..8].copy_from_slice(&self.serial.to_be_bytes());
                        if let Some(request) = transmit.request {
                            engine.handle_sealed(request, hash);
                        }
                        let sender = *node.key.public_key();
                        Payload::Opened(Opened { hash, sender, message: transmit.message })
                    };
                    if !node.silenced {
                        let from = node.addr;
                        self.post(from, transmit.to, payload);
                    }
                }
                Output::Event(event) => node.events.push((self.now, event)),
                Output::Reply(command, reply) => node.replies.push((self.now, command, reply)),
                Output::Wait(until) => {
                    node.wake = until;
                    engine.assert_invariants(self.now);
                    return;
                }
            }
        }
    }

    pub(super) fn post(&mut self, from: SocketAddr, to: SocketAddr, payload: Payload) {
        self.serial += 1;
        if self.loss > 0.0 && self.rng.random_bool(self.loss) || self.cut.as_ref().is_some_and(|cut| cut(from, to)) {
            return;
        }
        let delay = self.delays.get(&(from, to)).copied().unwrap_or(DELAY);
        self.queue.insert((self.now + delay, self.serial), (from, to, payload));
    }
}

impl Drop for Net {
    /// What nobody claimed was not expected.
    fn drop(&mut self) {
        testing::unless_failing(|| {
            for peer in &self.peers {
                let kinds: Vec<_> = peer.inbox.iter().map(|got| (got.at, got.message.kind())).collect();
                assert!(kinds.is_empty(), "{} got what was not expected: {kinds:?}", peer.addr);
            }
        });
    }
}
