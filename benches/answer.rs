//! What a node does for an answer, without its socket: open, engine, seal. The excess over the cryptography is what the
//! engine and the wire format cost.

mod common;

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use kadnode::proto::config::Config;
use kadnode::proto::contacts::OwnContacts;
use kadnode::proto::engine::{Clock, Engine, LocalKey, LocalNode, Output};
use kadnode::proto::identity::{NodeKey, RecordContent};
use kadnode::proto::time::Time;
use kadnode::proto::wire::{self, FindNode, Message, Ping, Pong, WireEndpoint};

/// Unix time at the driver's epoch, in seconds.
const UNIX: u64 = 1_790_000_000;

fn main() {
    let mut criterion = common::criterion();
    answers(&mut criterion);
    criterion.final_summary();
}

fn key(n: u32) -> NodeKey {
    let mut bytes = [1; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    NodeKey::from_bytes(&bytes).expect("it is below the order")
}

fn addr(n: u32) -> SocketAddr {
    (Ipv4Addr::from(0x0a00_0000 + n), 30303).into()
}

struct Node {
    engine: Engine<OwnContacts>,
    packet: Vec<u8>,
    now: Time,
}

impl Node {
    fn new() -> Self {
        let local = LocalNode {
            key: LocalKey::Private(Arc::new(key(0))),
            content: RecordContent::default(),
            seq: 1,
            bound: addr(0),
            host: (None, None),
            tcp: 0,
        };
        let mut config = Config::default();
        config.refresh.enabled = false;
        config.fetch_records = false;
        let clock = Clock { now: Time::ZERO, unix_micros: UNIX * 1_000_000 };
        let engine = Engine::new(local, Arc::new(config), OwnContacts::default(), [1; 32], clock).expect("it can be");
        Self { engine, packet: Vec::new(), now: Time::ZERO }
    }

    /// Takes a packet in and seals all that comes of it; with a list, tells the messages.
    fn handle(&mut self, from: SocketAddr, datagram: &[u8], mut sent: Option<&mut Vec<(Message, wire::Hash)>>) {
        self.engine.handle_datagram(self.now, from, datagram).expect("it is taken in");
        loop {
            match self.engine.poll_output() {
                Output::Transmit(transmit) => {
                    self.engine.seal(&transmit, &mut self.packet);
                    black_box(&self.packet);
                    if let Some(sent) = &mut sent {
                        let hash = *self.packet.first_chunk().expect("a packet begins with its hash");
                        sent.push((transmit.message, hash));
                    }
                }
                Output::Wait(_) => break,
                _ => {}
            }
        }
    }

    /// Makes the peer a member of the table, which has a proof of us and we of it.
    fn bond(&mut self, n: u32) {
        let mut sent = Vec::new();
        self.handle(addr(n), &ping(n), Some(&mut sent));
        for (message, hash) in sent {
            if let Message::Ping(_) = message {
                let pong = Pong { to: endpoint(0), ping_hash: hash, expiration: UNIX + 60, enr_seq: None };
                self.handle(addr(n), &sealed(n, &Message::Pong(pong)), None);
            }
        }
    }
}

fn endpoint(n: u32) -> WireEndpoint {
    WireEndpoint { ip: Some(addr(n).ip()), udp: 30303, tcp: 30303 }
}

fn sealed(n: u32, message: &Message) -> Vec<u8> {
    let mut packet = Vec::new();
    wire::seal(&key(n), message, &mut packet);
    packet
}

fn ping(n: u32) -> Vec<u8> {
    let ping = Ping { from: endpoint(n), to: endpoint(0), expiration: UNIX + 60, enr_seq: Some(1) };
    sealed(n, &Message::Ping(ping))
}

fn answers(criterion: &mut Criterion) {
    let mut node = Node::new();
    (1..200).for_each(|n| node.bond(n));
    assert!(node.engine.table().len() >= 50, "{}", node.engine.table().len());
    let pings: Vec<_> = (1..65).map(|n| (addr(n), ping(n))).collect();
    let targets = (1..65).map(|n| {
        let find = FindNode { target: *key(1000 + n).public_key(), expiration: UNIX + 60 };
        (addr(n), sealed(n, &Message::FindNode(find)))
    });
    let targets: Vec<_> = targets.collect();
    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Elements(64));
    for (name, packets) in [("64 PINGs of known nodes", &pings), ("64 FINDNODEs", &targets)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                for (from, packet) in packets {
                    node.handle(*from, packet, None);
                }
            });
        });
    }
    let strangers: Vec<_> = (10_000..10_064).map(|n| (addr(n), ping(n))).collect();
    group.bench_function("64 PINGs of strangers", |b| {
        b.iter_batched_ref(
            Node::new,
            |node| {
                for (from, packet) in &strangers {
                    node.handle(*from, packet, None);
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}
