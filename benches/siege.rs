//! A day of mixed attack in virtual time: the sizes of all that the engine holds stay flat.
//!
//! A thousand messages a second come to one engine, as messages, since nothing is to be learned from their signatures here:
//! PINGs of ever new identities from everywhere, PINGs of 5,000 known ones, FINDNODEs and ENRREQUESTs of those who have
//! proved themselves and of others, answers that nobody asked for. A third of the PINGs that the engine sends is answered,
//! and its FINDNODEs are answered with invented nodes. It makes a lookup every ten seconds.
//!
//!     cargo bench --bench siege                     # 24 hours
//!     cargo bench --bench siege -- --hours 2

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kadnode::proto::config::Config;
use kadnode::proto::contacts::OwnContacts;
use kadnode::proto::engine::{Clock, Command, CommandId, Engine, LocalKey, LocalNode, Output};
use kadnode::proto::identity::{Endpoint, NodeKey, PublicKey, RecordContent};
use kadnode::proto::time::Time;
use kadnode::proto::wire::{
    EnrRequest, EnrResponse, FindNode, Hash, Message, Neighbors, NodeEntry, Opened, Ping, Pong, WireEndpoint,
};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// Messages a second.
const RATE: u64 = 1000;

/// Identities that come again and again.
const REGULARS: usize = 5000;

/// Answers of attackers that are under way at a time.
const UNDER_WAY: usize = 4096;

const EPOCH: u64 = 1_700_000_000;

#[derive(Clone, Copy)]
struct Identity {
    key: PublicKey,
    addr: SocketAddr,
}

struct Siege {
    rng: StdRng,
    now: Time,
    engine: Engine<OwnContacts>,
    regulars: Vec<Identity>,
    /// Who is at an address of a regular.
    home: BTreeMap<SocketAddr, PublicKey>,
    answers: VecDeque<(SocketAddr, Opened)>,
    serial: u64,
    taken: u64,
    dropped: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = arguments.iter().position(|word| word == "--hours").and_then(|at| arguments.get(at + 1));
    let hours: f64 = value.map_or(24.0, |word| word.parse().expect("--hours takes a number"));
    // `cargo test --benches` only wants to see that it runs.
    let whole = arguments.iter().any(|word| word == "--bench");
    let (steps, step) = if whole { ((hours * 4.0).ceil() as u64, 900) } else { (4, 60) };
    let mut siege = Siege::new();
    let mut peaks: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let begun = Instant::now();
    println!("simulated  messages taken / dropped  resident MB  sizes at their peak");
    for _ in 0..steps {
        let mut peak: BTreeMap<&str, usize> = BTreeMap::new();
        for _ in 0..step {
            siege.second();
            for size in siege.engine.sizes() {
                assert!(size.holds <= size.bound, "{}: {} of {}", size.what, size.holds, size.bound);
                let highest = peak.entry(size.what).or_default();
                *highest = size.holds.max(*highest);
            }
        }
        siege.engine.assert_invariants(siege.now);
        let said: Vec<String> = peak.iter().map(|(what, holds)| format!("{what} {holds}")).collect();
        let (taken, dropped) = (siege.taken, siege.dropped);
        println!("{:>7} s  {taken} / {dropped}  {:.1}  {}", siege.now.0 / 1_000_000, resident(), said.join(", "));
        for (what, holds) in peak {
            peaks.entry(what).or_default().push(holds);
        }
    }
    println!("{:.0} s of time", begun.elapsed().as_secs_f64());
    for (what, peaks) in peaks.iter().filter(|_| whole && hours >= 2.0) {
        // The table fills in the first hours; after that nothing grows but by chance.
        let (first, second) = peaks.split_at(peaks.len() / 2);
        let (first, second) = (first.iter().max().unwrap_or(&0), second.iter().max().unwrap_or(&0));
        assert!(*second <= first + first / 4 + 16, "{what} grows: {first}, then {second}");
    }
    println!("nothing grows");
}

impl Siege {
    fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let now = Time::from_secs(1);
        let local = LocalNode {
            key: LocalKey::Private(Arc::new(NodeKey::from_bytes(&[1; 32]).expect("a key"))),
            content: RecordContent { v4: Some((Ipv4Addr::new(5, 5, 5, 5), 30303, 0)), ..Default::default() },
            seq: 1,
            bound: (Ipv4Addr::UNSPECIFIED, 30303).into(),
            host: (None, None),
            tcp: 0,
        };
        let clock = Clock { now, unix_micros: EPOCH * 1_000_000 };
        let engine = Engine::new(local, Arc::new(Config::default()), OwnContacts::default(), [1; 32], clock);
        let regulars: Vec<Identity> = (0..REGULARS).map(|_| identity(&mut rng)).collect();
        let home = regulars.iter().map(|identity| (identity.addr, identity.key)).collect();
        Self {
            rng,
            now,
            engine: engine.expect("the settings are the defaults"),
            regulars,
            home,
            answers: VecDeque::new(),
            serial: 0,
            taken: 0,
            dropped: 0,
        }
    }

    fn second(&mut self) {
        let end = self.now + Duration::from_secs(1);
        if (self.now.0 / 1_000_000).is_multiple_of(10) {
            self.serial += 1;
            let command = Command::Lookup { target: key(&mut self.rng), until_found: false, paths: None };
            self.engine.handle_command(self.now, CommandId(self.serial), command);
            self.drain();
        }
        for _ in 0..RATE {
            self.now = self.now + Duration::from_micros(1_000_000 / RATE);
            if self.drain() <= self.now {
                self.engine.handle_timeout(self.now);
                self.drain();
            }
            // Half of what comes are answers, as long as there are any.
            let answer = if self.rng.random_bool(0.5) { self.answers.pop_front() } else { None };
            let (from, opened) = answer.unwrap_or_else(|| self.attack());
            let admitted = self.engine.admit(self.now, from);
            let result = admitted.and_then(|()| self.engine.handle_message(self.now, from, opened));
            if result.is_ok() {
                self.taken += 1
            } else {
                self.dropped += 1
            }
            self.drain();
        }
        self.now = end;
    }

    fn attack(&mut self) -> (SocketAddr, Opened) {
        let regular = self.regulars[self.rng.random_range(0..REGULARS)];
        let expiration = EPOCH + self.now.0 / 1_000_000 + 20;
        let mut hash = [0; 32];
        self.rng.fill_bytes(&mut hash);
        let (who, message) = match self.rng.random_range(0..10) {
            0..3 => (identity(&mut self.rng), self.ping(expiration)),
            3..5 => (regular, self.ping(expiration)),
            5 => (regular, Message::FindNode(FindNode { target: key(&mut self.rng), expiration })),
            6 => (regular, Message::EnrRequest(EnrRequest { expiration })),
            7 => (regular, Message::Neighbors(self.invented(expiration))),
            8 => (regular, Message::EnrResponse(EnrResponse { request_hash: hash, record: vec![0xc0].into() })),
            _ => {
                let stranger = identity(&mut self.rng);
                (stranger, Message::FindNode(FindNode { target: stranger.key, expiration }))
            }
        };
        (who.addr, Opened { hash, sender: who.key, message })
    }

    fn ping(&mut self, expiration: u64) -> Message {
        let nowhere = WireEndpoint { ip: Some(Ipv4Addr::LOCALHOST.into()), udp: 1, tcp: 0 };
        // Records that nobody has.
        let enr_seq = self.rng.random_bool(0.5).then(|| self.rng.random_range(0..100));
        Message::Ping(Ping { from: nowhere, to: nowhere, expiration, enr_seq })
    }

    fn invented(&mut self, expiration: u64) -> Neighbors {
        let nodes = (0..16)
            .map(|_| {
                let Identity { key, addr } = match self.rng.random_bool(0.5) {
                    true => self.regulars[self.rng.random_range(0..REGULARS)],
                    false => identity(&mut self.rng),
                };
                NodeEntry::from(kadnode::proto::identity::Contact {
                    key,
                    endpoint: Endpoint::new(addr.ip(), addr.port(), 0),
                })
            })
            .collect();
        Neighbors { nodes, expiration }
    }

    /// Does what the engine wants, and says when it wants to be woken.
    fn drain(&mut self) -> Time {
        loop {
            match self.engine.poll_output() {
                Output::Transmit(transmit) => {
                    self.serial += 1;
                    let mut hash: Hash = [0; 32];
                    hash[..8].copy_from_slice(&self.serial.to_be_bytes());
                    if let Some(request) = transmit.request {
                        self.engine.handle_sealed(request, hash);
                    }
                    self.answer(transmit.to, hash, &transmit.message);
                    self.engine.recycle(transmit.message);
                }
                Output::Wait(deadline) => return deadline,
                Output::Event(_) | Output::Reply(..) => {}
            }
        }
    }

    fn answer(&mut self, from: SocketAddr, request: Hash, message: &Message) {
        let Some(&sender) = self.home.get(&from) else { return };
        let expiration = EPOCH + self.now.0 / 1_000_000 + 20;
        let message = match message {
            Message::Ping(_) if self.rng.random_bool(1.0 / 3.0) => {
                let to = WireEndpoint { ip: Some(Ipv4Addr::new(5, 5, 5, 5).into()), udp: 30303, tcp: 0 };
                Message::Pong(Pong { to, ping_hash: request, expiration, enr_seq: Some(self.serial) })
            }
            Message::FindNode(_) => Message::Neighbors(self.invented(expiration)),
            _ => return,
        };
        if self.answers.len() < UNDER_WAY {
            let mut hash = [0; 32];
            self.rng.fill_bytes(&mut hash);
            self.answers.push_back((from, Opened { hash, sender, message }));
        }
    }
}

fn identity(rng: &mut StdRng) -> Identity {
    // Addresses of the internet, in some 65,000 networks.
    let [a, b, c, d] = rng.random::<u32>().to_be_bytes();
    let ip = Ipv4Addr::new(11 + a % 80, b, c & 3, d);
    Identity { key: key(rng), addr: (ip, rng.random_range(2000..60_000)).into() }
}

fn key(rng: &mut StdRng) -> PublicKey {
    let mut key = [0; 64];
    rng.fill_bytes(&mut key);
    PublicKey(key)
}

/// The memory of this process, in MB; 0 where the system does not tell.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(0.0, |kb| kb * 1024.0 / 1e6)
}
