//! Random inputs, valid and not, with the invariants and some promises checked after each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::bounds;
use super::net::{EPOCH, addr, contact, key, ms, secs};
use crate::proto::config::{Config, LimitConfig, Rate};
use crate::proto::contacts::{Contacts, OwnContacts};
use crate::proto::crypto::keccak256;
use crate::proto::engine::{Clock, Command, CommandId, Dropped, Engine, Event, LocalNode, Output, Reply, Size};
use crate::proto::identity::{Contact, IdPrefix, NodeKey, PublicKey, Record, RecordContent};
use crate::proto::time::Time;
use crate::proto::wire::{
    self, EnrRequest, EnrResponse, FindNode, Hash, Message, MessageKind, Neighbors, NodeEntry, Ping, Pong, WireEndpoint,
};

/// So few that the store is full at times, even after a sweep.
const CONTACTS: usize = 28;
const IDENTITIES: usize = 40;

/// All bounds so small that they are reached.
fn small() -> Config {
    let mut config = Config::default();
    config.table.k = 3;
    config.table.replacements = 2;
    config.table.bucket_per_v4_prefix = 3;
    config.table.table_per_v4_prefix = 5;
    config.requests.max_pending = 16;
    config.requests.max_per_address = 2;
    config.lookup.max_lookups = 3;
    config.lookup.max_candidates = 6;
    config.lookup.max_queries = 8;
    config.lookup.max_time = secs(3);
    config.lookup.max_hints = 2;
    config.lookup.max_hint_pings = 2;
    config.refresh.max_bootnodes = 4;
    config.refresh.max_former = 2;
    config.refresh.former_age = secs(60);
    config.votes.quorum = 2;
    config.votes.max_votes = 4;
    config.max_proofs = 6;
    config.limits = limits();
    config
}

/// Tight enough to be met, and wide enough to let most through.
fn limits() -> LimitConfig {
    LimitConfig {
        address: Rate { every: ms(50), burst: 6 },
        prefix: Rate { every: ms(50), burst: 10 },
        site: Rate { every: ms(50), burst: 10 },
        strangers: Rate { every: ms(20), burst: 14 },
        proved: Rate { every: ms(20), burst: 2 },
        knock_endpoint: Rate { every: ms(100), burst: 2 },
        knock_address: Rate { every: ms(50), burst: 3 },
        knock_prefix: Rate { every: ms(50), burst: 3 },
        local: true,
        sources: 4,
    }
}

/// A packet that the engine sent.
#[derive(Clone)]
struct Sent {
    at: Time,
    to: SocketAddr,
    hash: Hash,
    message: Message,
}

/// Who sent the input that is being handled, and whether it had proved its endpoint before.
struct Input {
    from: SocketAddr,
    kind: Option<MessageKind>,
    proved: bool,
    /// It named a request of ours by its hash, so it came from where we had sent that, but another node had signed it.
    other_node: bool,
}

struct World {
    rng: StdRng,
    now: Time,
    engine: Engine<OwnContacts>,
    keys: Vec<Arc<NodeKey>>,
    addrs: Vec<SocketAddr>,
    /// Which key answers at an address.
    home: Vec<usize>,
    sent: VecDeque<Sent>,
    commands: u64,
    /// Addresses that we have a reason to send to.
    allowed: BTreeSet<SocketAddr>,
    /// When a key at an address answered a PING that had gone there.
    proved: BTreeMap<(PublicKey, SocketAddr), Time>,
    /// Whatever the generator has brought about.
    seen: BTreeSet<String>,
    /// A hash over all outputs so far.
    digest: Hash,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Time::from_secs(50);
        let local = LocalNode {
            key: crate::proto::engine::LocalKey::Private(key(1)),
            content: RecordContent::default(),
            seq: 1,
            bound: addr("[::]:30303"),
            host: (None, None),
            tcp: 0,
        };
        let clock = Clock { now, unix_micros: EPOCH * 1_000_000 + now.0 };
        let mut engine_seed = [0; 32];
        rng.fill(&mut engine_seed);
        let engine = Engine::new(local, Arc::new(small()), OwnContacts::new(CONTACTS), engine_seed, clock).unwrap();
        // Networks of all kinds, some crowded; one address that nothing can be sent to, and one privileged port.
        let addrs = (0..IDENTITIES)
            .map(|n| match n % 8 {
                0 => addr(&format!("127.0.0.1:{}", 2000 + n)),
                1 | 2 => addr(&format!("192.168.1.{}:30303", n + 1)),
                3 => addr(&format!("5.5.5.{}:30303", n + 1)),
                4 => addr(&format!("[2a00::{}:1]:30303", n + 1)),
                5 if n == 5 => addr("6.6.6.6:53"),
                _ => addr(&format!("7.{n}.{n}.7:30303")),
            })
            .collect();
        Self {
            rng,
            now,
            engine,
            keys: (0..IDENTITIES as u64).map(|n| key(n + 1)).collect(),
            addrs,
            home: (0..IDENTITIES).collect(),
            sent: VecDeque::new(),
            commands: 0,
            allowed: BTreeSet::new(),
            proved: BTreeMap::new(),
            seen: BTreeSet::new(),
            digest: [0; 32],
        }
    }

    /// Index 0 is the engine's own key.
    fn who(&mut self) -> usize {
        if self.rng.random_bool(0.02) { 0 } else { self.rng.random_range(1..IDENTITIES) }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn contact(&mut self) -> Contact {
        let who = self.who();
        let at = if self.one_in(6) { self.who() } else { who };
        let mut contact = contact(&self.keys[who], self.addrs[at]);
        match self.rng.random_range(0..40) {
            0 => contact.endpoint.udp = 0,
            1 => contact.endpoint.ip = [224, 0, 0, 1].into(),
            2 => contact.endpoint.tcp = 30303,
            _ => {}
        }
        contact
    }

    fn pin(&mut self, contact: &Contact) -> Option<IdPrefix> {
        self.rng.random_bool(0.5).then(|| contact.id().into())
    }

    fn expiration(&mut self) -> u64 {
        let unix = self.engine.unix_secs(self.now);
        match self.rng.random_range(0..30) {
            0 => unix - 1,
            1 => ((unix + 20) as i64).wrapping_neg() as u64,
            _ => unix + 20,
        }
    }

    fn record(&mut self, who: usize) -> Vec<u8> {
        let at = if self.one_in(4) { self.who() } else { who };
        let mut content = RecordContent::default();
        match self.addrs[at] {
            SocketAddr::V4(addr) => content.v4 = Some((*addr.ip(), addr.port(), 0)),
            SocketAddr::V6(addr) => content.v6 = Some((*addr.ip(), addr.port(), 0)),
        }
        let seq = self.rng.random_range(1..5);
        let mut record = Record::sign(&self.keys[who], seq, &content).unwrap().as_bytes().to_vec();
        if self.one_in(10) {
            record[9] ^= 1;
        }
        record
    }

    fn neighbors(&mut self) -> Message {
        let count = if self.one_in(4) { 16 } else { self.rng.random_range(0..6) };
        let nodes = (0..count).map(|_| NodeEntry::from(self.contact())).collect();
        Message::Neighbors(Neighbors { nodes, expiration: self.expiration() })
    }

    /// Something out of the blue.
    fn unasked(&mut self) -> Message {
        let expiration = self.expiration();
        let nowhere = WireEndpoint { ip: None, udp: 0, tcp: 0 };
        match self.rng.random_range(0..12) {
            0..5 => {
                let enr_seq = self.rng.random_bool(0.5).then(|| self.rng.random_range(0..6));
                Message::Ping(Ping { from: nowhere, to: nowhere, expiration, enr_seq })
            }
            5..8 => {
                let target = PublicKey([self.rng.random(); 64]);
                Message::FindNode(FindNode { target, expiration })
            }
            8 | 9 => Message::EnrRequest(EnrRequest { expiration }),
            10 => self.neighbors(),
            _ => Message::Pong(Pong { to: nowhere, ping_hash: [3; 32], expiration, enr_seq: None }),
        }
    }

    /// An answer to a request of the engine, if it waits for one, mostly right.
    fn answer(&mut self) -> Option<(usize, SocketAddr, Message)> {
        let index = self.rng.random_range(0..self.sent.len().max(1));
        let sent = self.sent.get(index)?.clone();
        let mut hash = sent.hash;
        if self.one_in(25) {
            hash[0] ^= 1;
        }
        let at = self.addrs.iter().position(|addr| *addr == sent.to)?;
        let mut who = self.home[at];
        let mut from = sent.to;
        if self.one_in(25) {
            who = self.who();
        }
        if self.one_in(25) {
            from = self.addrs[self.rng.random_range(0..IDENTITIES)];
        }
        let expiration = self.expiration();
        let message = match sent.message {
            Message::Ping(_) => {
                let ip = if self.one_in(3) { [9, 9, 9, 8] } else { [9, 9, 9, 9] };
                let to = WireEndpoint { ip: Some(ip.into()), udp: 999, tcp: 0 };
                let enr_seq = self.rng.random_bool(0.7).then(|| self.rng.random_range(0..6));
                Message::Pong(Pong { to, ping_hash: hash, expiration, enr_seq })
            }
            Message::FindNode(_) => self.neighbors(),
            Message::EnrRequest(_) => {
                let whose = if self.one_in(10) { self.who() } else { who };
                let record = self.record(whose);
                Message::EnrResponse(EnrResponse { request_hash: hash, record: record.into() })
            }
            _ => return None,
        };
        Some((who, from, message))
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..30 => {
                let at = self.who();
                let who = if self.one_in(10) { self.who() } else { self.home[at] };
                let message = self.unasked();
                self.datagram(who, self.addrs[at], &message);
            }
            30..70 => {
                if let Some((who, from, message)) = self.answer() {
                    self.datagram(who, from, &message);
                }
            }
            70..74 => self.junk(),
            74..80 => {
                let contact = self.contact();
                let command = match self.rng.random_range(0..6) {
                    0 => Command::Ping(contact),
                    5 => Command::PingAddress(contact.endpoint.udp_addr(), self.pin(&contact)),
                    1 | 2 => Command::RequestRecord(contact),
                    _ => Command::Lookup { target: contact.key, until_found: self.rng.random_bool(0.5), paths: None },
                };
                self.commands += 1;
                if !matches!(command, Command::Lookup { .. }) {
                    self.allowed.insert(contact.endpoint.udp_addr());
                }
                self.engine.handle_command(self.now, CommandId(self.commands), command);
                self.drain(None);
            }
            80 => {
                let contact = self.contact();
                self.allowed.insert(contact.endpoint.udp_addr());
                let addr = contact.endpoint.udp_addr();
                let result = match self.rng.random_range(0..12) {
                    0..4 => {
                        let pin = self.pin(&contact);
                        self.engine.add_address(self.now, addr, pin)
                    }
                    4 => {
                        let pin = self.pin(&contact);
                        self.engine.remove_address(addr, pin);
                        Ok(())
                    }
                    5 => {
                        self.engine.remove_bootnode(&contact);
                        Ok(())
                    }
                    _ => self.engine.add_bootnode(self.now, &contact),
                };
                self.seen.insert(format!("bootnode {result:?}"));
                self.drain(None);
            }
            81 => {
                let content = RecordContent { ports: Some((self.rng.random_range(1..4), 0)), ..Default::default() };
                if self.one_in(8) {
                    self.engine.set_record_content(content).unwrap();
                    self.drain(None);
                }
            }
            // Somebody moves in where somebody else was.
            82 => {
                let (a, b) = (self.rng.random_range(1..IDENTITIES), self.rng.random_range(1..IDENTITIES));
                self.home.swap(a, b);
            }
            _ => self.pass_time(),
        }
    }

    fn pass_time(&mut self) {
        let next = self.engine.timers.next().map_or(ms(0), |at| at.since(self.now));
        let passed = match self.rng.random_range(0..60) {
            0..30 => ms(self.rng.random_range(0..40)),
            30..50 => next.min(secs(3600)),
            50..57 => ms(self.rng.random_range(0..3000)),
            57 | 58 => secs(self.rng.random_range(0..200)),
            _ if self.one_in(10) => secs(self.rng.random_range(0..100_000)),
            _ => Duration::ZERO,
        };
        self.now = self.now + passed;
        // A driver may be late with its deadlines: the next input comes first then.
        if self.rng.random_bool(0.9) {
            self.timeout();
        }
    }

    fn timeout(&mut self) {
        self.engine.handle_timeout(self.now);
        self.drain(None);
    }

    fn junk(&mut self) {
        let at = self.who();
        let from = self.addrs[at];
        let mut buffer = Vec::new();
        let message = self.unasked();
        let who = self.who();
        wire::seal(&self.keys[who], &message, &mut buffer);
        let mut bytes = buffer.to_vec();
        let mut hashed = true;
        match self.rng.random_range(0..7) {
            0 => bytes.truncate(97),
            1 => bytes.resize(1600, 0),
            2 => {
                hashed = false;
                bytes[0] ^= 1;
            }
            3 => bytes[97] = 9,
            4 => bytes[98] = 0x05,
            5 => bytes[32..96].fill(0xff),
            // An x coordinate that belongs to no point of the curve.
            _ => {
                bytes[32..64].fill(0);
                bytes[63] = 5;
            }
        }
        if hashed {
            let hash = keccak256(&bytes[32..]);
            bytes[..32].copy_from_slice(&hash);
        }
        self.feed(from, None, &bytes, None);
    }

    fn datagram(&mut self, who: usize, from: SocketAddr, message: &Message) {
        let mut buffer = Vec::new();
        wire::seal(&self.keys[who], message, &mut buffer);
        self.feed(from, Some(*self.keys[who].public_key()), &buffer, Some(message));
    }

    fn feed(&mut self, from: SocketAddr, sender: Option<PublicKey>, bytes: &[u8], message: Option<&Message>) {
        let proof = sender.and_then(|sender| self.proved.get(&(sender, from)));
        let proved = proof.is_some_and(|at| self.now.since(*at) <= secs(24 * 3600));
        let result = self.engine.handle_datagram(self.now, from, bytes);
        match (&result, message) {
            (Err(reason), _) => {
                self.seen.insert(format!("dropped {}", reason.name()));
            }
            (Ok(()), Some(Message::Ping(_))) => {
                self.allowed.insert(from);
            }
            (Ok(()), Some(Message::Pong(pong))) => {
                let asked = self.sent.iter().any(|sent| {
                    sent.hash == pong.ping_hash && sent.to == from && self.now.since(sent.at) <= secs(100_000)
                });
                assert!(asked, "a PONG was taken that answers no PING to that address");
                self.proved.insert((sender.unwrap(), from), self.now);
            }
            (Ok(()), Some(Message::Neighbors(neighbors))) => {
                self.allowed.extend(neighbors.nodes.iter().filter_map(|n| n.contact()).map(|c| c.endpoint.udp_addr()));
            }
            (Ok(()), Some(Message::EnrResponse(response))) => {
                let record = Record::decode(&response.record).unwrap();
                self.allowed.extend(record.contact().map(|contact| contact.endpoint.udp_addr()));
            }
            _ => {}
        }
        let kind = message.filter(|_| result.is_ok()).map(Message::kind);
        let other_node = matches!(result, Err(Dropped::WrongSender | Dropped::BadRecord));
        self.drain(Some(Input { from, kind, proved, other_node }));
    }

    fn drain(&mut self, input: Option<Input>) {
        let mut back = Vec::new();
        loop {
            let output = self.engine.poll_output();
            let mut said = format!("{output:?}").into_bytes();
            match output {
                Output::Transmit(transmit) => {
                    let kind = transmit.message.kind();
                    assert!(self.allowed.contains(&transmit.to), "{kind:?} to {} for no reason", transmit.to);
                    if let Some(input) = input.as_ref().filter(|input| input.from == transmit.to) {
                        back.push((kind, input.kind));
                    }
                    if matches!(kind, MessageKind::Neighbors | MessageKind::EnrResponse) {
                        let input = input.as_ref().expect("an answer without a question");
                        assert!(
                            input.proved && input.from == transmit.to,
                            "{kind:?} for one who has not proved itself"
                        );
                    }
                    // Some are lost before they are sealed.
                    if self.rng.random_bool(0.98) {
                        let mut buffer = Vec::new();
                        self.engine.seal(&transmit, &mut buffer);
                        let opened = wire::open(&buffer).unwrap();
                        assert_eq!((&opened.message, opened.sender.node_id()), (&transmit.message, self.engine.id()));
                        said.extend_from_slice(&buffer);
                        let sent = Sent { at: self.now, to: transmit.to, hash: opened.hash, message: opened.message };
                        self.sent.push_front(sent);
                        self.sent.truncate(40);
                    }
                }
                Output::Event(event) => drop(self.seen.insert(kind_of_event(&event))),
                Output::Reply(_, reply) => drop(self.seen.insert(kind_of_reply(&reply))),
                Output::Wait(until) => {
                    self.digest = keccak256(&[&self.digest[..], &said].concat());
                    if until > self.now {
                        self.check();
                    }
                    break;
                }
            }
            self.digest = keccak256(&[&self.digest[..], &said].concat());
        }
        if let Some(input) = input
            && !input.proved
            // That ends a request, after which we may well ask there again.
            && !input.other_node
            && input.kind != Some(MessageKind::Pong)
        {
            let mut allowed = vec![];
            if input.kind == Some(MessageKind::Ping) {
                allowed = vec![MessageKind::Ping, MessageKind::Pong];
            }
            for (kind, _) in back {
                let at = allowed.iter().position(|allowed| *allowed == kind);
                allowed.remove(at.unwrap_or_else(|| panic!("{kind:?} in answer to {:?}", input.kind)));
            }
        }
    }

    /// What must hold after each input, and which bounds are reached.
    fn check(&mut self) {
        self.engine.assert_invariants(self.now);
        let (engine, config) = (&self.engine, self.engine.config());
        for Size { what, holds, bound, .. } in engine.sizes() {
            assert!(holds <= bound, "{what}: {holds}");
            if holds == bound {
                self.seen.insert(format!("bound {what}"));
            }
        }
        if engine.requests.own() == config.requests.max_pending * 7 / 8 {
            self.seen.insert("bound own requests".into());
        }
        if engine.table.replacements().count() >= config.table.replacements {
            self.seen.insert("bound replacements of a bucket".into());
        }
        if engine.counters.not_knocked > 0 {
            self.seen.insert("bound knocks".into());
        }
        for (_, entry) in engine.table.entries() {
            let contact = engine.contacts.contact(entry.node);
            assert!(self.proved.contains_key(&(contact.key, contact.endpoint.udp_addr())), "a member without a proof");
        }
    }
}

fn kind_of_event(event: &Event) -> String {
    match event {
        Event::NodeAdded(_) => "event added".into(),
        Event::NodeRemoved(_, why) => format!("event removed {why:?}"),
        Event::RecordUpdated(_) => "event record".into(),
        Event::LookupFinished { .. } => "event lookup".into(),
        Event::Contacts { any } => format!("event contacts {any}"),
        Event::LocalRecord(_) => "event local record".into(),
        Event::OtherNode { .. } => "event other node".into(),
        Event::Alarm(_) => "event alarm".into(),
    }
}

fn kind_of_reply(reply: &Reply) -> String {
    match reply {
        Reply::Lookup(_) => "reply lookup".into(),
        Reply::Ping(_) => "reply ping".into(),
        Reply::Record(_) => "reply record".into(),
        Reply::Failed(error) => format!("failed {error:?}"),
    }
}

fn run(seed: u64, steps: usize) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    // All that is under way ends, answered or not.
    let end = world.now + secs(40);
    while let Some(next) = world.engine.timers.next().filter(|next| *next <= end) {
        world.now = world.now.max(next);
        world.timeout();
    }
    world
}

#[test]
fn random_inputs_break_no_promise() {
    let mut seen = BTreeSet::new();
    for seed in 0..12 {
        let world = run(seed, 5000);
        assert_eq!(world.engine.pings_wanted.len(), 0);
        seen.extend(world.seen);
    }
    // All but what a driver alone can say.
    let reasons = Dropped::ALL.iter().filter(|reason| **reason != Dropped::Queue);
    let mut expected: Vec<String> = reasons.map(|reason| format!("dropped {}", reason.name())).collect();
    for more in [
        "event added",
        "event removed Dead",
        "event removed Displaced",
        "event removed Moved",
        "event record",
        "event lookup",
        "event contacts true",
        "event contacts false",
        "event local record",
        "event other node",
        "reply lookup",
        "reply ping",
        "reply record",
        "failed Timeout",
        "failed OtherNode",
        "failed BadRecord",
        "failed Busy",
        "failed Itself",
        "failed Unreachable",
        "bootnode Ok(())",
        "bootnode Err(Busy)",
        "bootnode Err(Itself)",
        "bootnode Err(Unreachable)",
        "bound own requests",
        "bound replacements of a bucket",
        "bound knocks",
    ] {
        expected.push(more.into());
    }
    let sizes = World::new(0).engine.sizes();
    let bounds = sizes.iter().map(|size| size.what).filter(|what| !bounds::HERE.contains(what));
    expected.extend(bounds.map(|what| format!("bound {what}")));
    let missing: Vec<&String> = expected.iter().filter(|what| !seen.contains(*what)).collect();
    assert!(missing.is_empty(), "the generator never brought about {missing:?}");
}

#[test]
fn the_same_seed_gives_the_same_outputs() {
    assert_eq!(run(77, 2000).digest, run(77, 2000).digest);
    assert_ne!(run(77, 2000).digest, run(78, 2000).digest);
}
