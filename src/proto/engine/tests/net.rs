//! A small deterministic network: engines and hand-driven peers on one virtual clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::proto::config::{Config, EXPIRATION_SECS};
use crate::proto::contacts::OwnContacts;
use crate::proto::engine::{
    Clock, Command, CommandId, Dropped, Engine, Event, LocalNode, LookupReport, Output, Pinged, Reply,
};
use crate::proto::identity::{Contact, Endpoint, NodeKey, PublicKey, RecordContent};
use crate::proto::time::Time;
use crate::proto::wire::{
    self, EnrRequest, FindNode, Hash, Message, MessageKind, Neighbors, NodeEntry, Opened, Ping, Pong, WireEndpoint,
};

/// Unix time when the driver's clock says zero, in seconds.
pub(super) const EPOCH: u64 = 1_700_000_000;

/// The way of a packet in one direction, unless a test says otherwise.
pub(super) const DELAY: Duration = Duration::from_millis(10);

/// How long an expectation waits for a packet that must come.
const PATIENCE: Duration = Duration::from_secs(5);

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

struct Peer {
    key: Arc<NodeKey>,
    addr: SocketAddr,
    inbox: VecDeque<Got>,
    /// Packets to it are thrown away.
    deaf: bool,
}

#[derive(Clone)]
enum Payload {
    Bytes(Vec<u8>),
    Opened(Opened),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Node(usize),
    Peer(usize),
}

type Cut = Box<dyn Fn(SocketAddr, SocketAddr) -> bool>;

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) nodes: Vec<Node>,
    peers: Vec<Peer>,
    parties: BTreeMap<SocketAddr, Party>,
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
            key: node.key.clone(),
            content,
            seq: EPOCH + self.now.0 / 1_000_000,
            bound: node.addr,
            host: (None, None),
            tcp: 0,
        };
        let engine = Engine::new(local, node.config.clone(), OwnContacts::default(), seed, clock);
        node.engine = Some(engine.unwrap());
        node.wake = Time::NEVER;
    }

    pub(super) fn stop(&mut self, at: usize) {
        self.nodes[at].engine = None;
        self.nodes[at].wake = Time::NEVER;
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
        let id = self.command(at, Command::Lookup { target, until_found: false });
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
                        let mut buffer = BytesMut::new();
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
                        Payload::Opened(Opened { hash, sender, id: node.key.id(), message: transmit.message })
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

    fn post(&mut self, from: SocketAddr, to: SocketAddr, payload: Payload) {
        self.serial += 1;
        if self.loss > 0.0 && self.rng.random_bool(self.loss) || self.cut.as_ref().is_some_and(|cut| cut(from, to)) {
            return;
        }
        let delay = self.delays.get(&(from, to)).copied().unwrap_or(DELAY);
        self.queue.insert((self.now + delay, self.serial), (from, to, payload));
    }
}

// Hand-driven peers. Whatever comes to one has to be claimed.
impl Net {
    pub(super) fn peer(&mut self, n: u64, addr: SocketAddr) -> usize {
        let at = self.peers.len();
        self.peers.push(Peer { key: key(n), addr, inbox: VecDeque::new(), deaf: false });
        assert_eq!(self.parties.insert(addr, Party::Peer(at)), None, "the address is taken");
        at
    }

    pub(super) fn deafen(&mut self, peer: usize, deaf: bool) {
        self.peers[peer].deaf = deaf;
    }

    pub(super) fn peer_contact(&self, peer: usize) -> Contact {
        contact(&self.peers[peer].key, self.peers[peer].addr)
    }

    /// A time in the future, or by a negative number in the past, as packets state it.
    pub(super) fn unix(&self, offset: i64) -> u64 {
        (EPOCH + self.now.0 / 1_000_000).wrapping_add_signed(offset)
    }

    fn fresh(&self) -> u64 {
        self.unix(EXPIRATION_SECS as i64)
    }

    /// Sends anything from anywhere, signed with any key.
    pub(super) fn forge(&mut self, key: &NodeKey, from: SocketAddr, to: SocketAddr, message: &Message) -> Hash {
        let mut buffer = BytesMut::new();
        let hash = wire::seal(key, message, &mut buffer);
        self.send_raw(from, to, buffer.to_vec());
        hash
    }

    pub(super) fn send_raw(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.post(from, to, Payload::Bytes(bytes));
    }

    /// Sends a message to the first engine.
    pub(super) fn send(&mut self, peer: usize, message: &Message) -> Hash {
        let (key, from, to) = (self.peers[peer].key.clone(), self.peers[peer].addr, self.nodes[0].addr);
        self.forge(&key, from, to, message)
    }

    pub(super) fn make_ping(&self, from: SocketAddr) -> Message {
        let from = Endpoint::new(from.ip(), from.port(), 0).into();
        let to = Endpoint::new(self.nodes[0].addr.ip(), self.nodes[0].addr.port(), 0).into();
        Message::Ping(Ping { from, to, expiration: self.fresh(), enr_seq: None })
    }

    pub(super) fn make_pong(&self, ping_hash: Hash) -> Message {
        let to = WireEndpoint { ip: Some(self.nodes[0].addr.ip()), udp: self.nodes[0].addr.port(), tcp: 0 };
        Message::Pong(Pong { to, ping_hash, expiration: self.fresh(), enr_seq: None })
    }

    pub(super) fn make_find(&self, target: PublicKey) -> Message {
        Message::FindNode(FindNode { target, expiration: self.fresh() })
    }

    pub(super) fn make_neighbors(&self, nodes: &[Contact]) -> Message {
        let nodes = nodes.iter().map(|contact| NodeEntry::from(*contact)).collect();
        Message::Neighbors(Neighbors { nodes, expiration: self.fresh() })
    }

    pub(super) fn make_enr_request(&self) -> Message {
        Message::EnrRequest(EnrRequest { expiration: self.fresh() })
    }

    pub(super) fn send_ping(&mut self, peer: usize) -> Hash {
        let ping = self.make_ping(self.peers[peer].addr);
        self.send(peer, &ping)
    }

    pub(super) fn send_pong(&mut self, peer: usize, ping_hash: Hash) -> Hash {
        let pong = self.make_pong(ping_hash);
        self.send(peer, &pong)
    }

    pub(super) fn send_find(&mut self, peer: usize, target: PublicKey) -> Hash {
        let find = self.make_find(target);
        self.send(peer, &find)
    }

    pub(super) fn send_neighbors(&mut self, peer: usize, nodes: &[Contact]) -> Hash {
        let neighbors = self.make_neighbors(nodes);
        self.send(peer, &neighbors)
    }

    /// The next packet that comes to a peer, from the first engine.
    pub(super) fn expect(&mut self, peer: usize) -> Got {
        let end = self.now + PATIENCE;
        loop {
            if let Some(got) = self.peers[peer].inbox.pop_front() {
                assert_eq!(got.from, self.nodes[0].addr);
                assert_eq!(got.sender, *self.nodes[0].key.public_key());
                return got;
            }
            assert!(self.step(end), "nothing came");
        }
    }

    pub(super) fn expect_ping(&mut self, peer: usize) -> (Ping, Got) {
        let got = self.expect(peer);
        match &got.message {
            Message::Ping(ping) => (ping.clone(), got),
            other => panic!("PING was expected, and {other:?} came"),
        }
    }

    /// A PING that may let itself be waited for.
    pub(super) fn expect_late_ping(&mut self, peer: usize, within: Duration) -> (Ping, Got) {
        let end = self.now + within;
        while self.kinds(peer).is_empty() && self.step(end) {}
        self.expect_ping(peer)
    }

    /// The answer to a PING: right hash, true source, and a fresh expiration.
    pub(super) fn expect_pong(&mut self, peer: usize, ping_hash: Hash) -> Got {
        let got = self.expect(peer);
        let Message::Pong(pong) = &got.message else { panic!("PONG was expected, and {:?} came", got.message) };
        let addr = self.peers[peer].addr;
        assert_eq!(pong.ping_hash, ping_hash);
        assert_eq!((pong.to.ip, pong.to.udp), (Some(addr.ip()), addr.port()));
        assert!(pong.expiration > self.unix(10));
        got
    }

    pub(super) fn expect_find(&mut self, peer: usize) -> (FindNode, Got) {
        let got = self.expect(peer);
        match &got.message {
            Message::FindNode(find) => (find.clone(), got),
            other => panic!("FINDNODE was expected, and {other:?} came"),
        }
    }

    pub(super) fn expect_enr_request(&mut self, peer: usize) -> Got {
        let got = self.expect(peer);
        assert_eq!(got.message.kind(), MessageKind::EnrRequest);
        got
    }

    pub(super) fn expect_neighbors(&mut self, peer: usize) -> Vec<Contact> {
        let got = self.expect(peer);
        let Message::Neighbors(neighbors) = got.message else {
            panic!("NEIGHBORS was expected, and {:?} came", got.message)
        };
        neighbors.nodes.iter().map(|node| node.contact().unwrap()).collect()
    }

    pub(super) fn expect_nothing(&mut self, peer: usize, duration: Duration) {
        self.run(duration);
        assert_eq!(self.kinds(peer), [], "nothing was expected");
    }

    /// The kinds of all packets that wait to be claimed.
    pub(super) fn kinds(&self, peer: usize) -> Vec<MessageKind> {
        self.peers[peer].inbox.iter().map(|got| got.message.kind()).collect()
    }

    pub(super) fn claim_all(&mut self, peer: usize) -> Vec<Got> {
        self.peers[peer].inbox.drain(..).collect()
    }

    /// The peer pings first; both prove their endpoints.
    pub(super) fn bond(&mut self, peer: usize) {
        let hash = self.send_ping(peer);
        let (_, ping) = self.expect_ping(peer);
        self.expect_pong(peer, hash);
        self.send_pong(peer, ping.hash);
        self.run(DELAY);
        assert!(self.is_bonded(peer));
    }

    /// The first engine pings the peer, which remembers it: it answers and does not ping back.
    pub(super) fn ping_by_hand(&mut self, peer: usize) {
        let id = self.command(0, Command::Ping(self.peer_contact(peer)));
        let (_, ping) = self.expect_ping(peer);
        self.send_pong(peer, ping.hash);
        assert!(matches!(self.reply(0, id), Reply::Ping(_)));
    }

    /// Whether a peer has proved its endpoint to the first engine.
    pub(super) fn is_bonded(&self, peer: usize) -> bool {
        self.has_proved(self.peer_contact(peer))
    }

    pub(super) fn has_proved(&self, contact: Contact) -> bool {
        use crate::proto::contacts::Contacts;
        let engine = self.engine(0);
        let node = engine.contacts().find(&contact.id(), contact.endpoint.udp_addr());
        node.is_some_and(|node| engine.has_proved(self.now, node))
    }

    /// Whether a node is a member of an engine's table, where it is.
    pub(super) fn is_member(&self, at: usize, contact: &Contact) -> bool {
        use crate::proto::contacts::Contacts;
        let engine = self.engine(at);
        engine.table().entries().any(|(_, entry)| engine.contacts().contact(entry.node).key == contact.key)
    }

    /// How often the first engine has dropped a packet for a reason.
    pub(super) fn dropped(&self, reason: Dropped) -> u64 {
        self.engine(0).counters().dropped(reason)
    }
}

impl Drop for Net {
    /// What nobody claimed was not expected.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for peer in &self.peers {
            let kinds: Vec<_> = peer.inbox.iter().map(|got| (got.at, got.message.kind())).collect();
            assert!(kinds.is_empty(), "{} got what was not expected: {kinds:?}", peer.addr);
        }
    }
}
