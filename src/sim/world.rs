//! Virtual time: the nodes, the packets under way between them, and the loop that moves time on.
//!
//! Nodes are dealt out to shards, one for each thread. A shard handles one bucket of events at a time, a bucket being as
//! wide as the shortest latency, so what its nodes send concerns others in later buckets only; after each bucket the
//! shards hand over what they have for one another. What a node sees, and in which order, depends on the seed alone.

use std::cmp::{Ordering as Order, Reverse};
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::network::{Latency, mix, unit};
use super::population::{Population, Shared, node_of};
use super::queue::{BucketQueue, Timed};
use super::truth::Truth;
use super::warm::{self, Choice};
use crate::proto::config::Config;
use crate::proto::contacts::NodeRef;
use crate::proto::engine::{Clock, Command, CommandId, Engine, LocalKey, LocalNode, Output, Reply, Transmit};
use crate::proto::identity::RecordContent;
use crate::proto::time::Time;
use crate::proto::wire::{Hash, Message, Opened};

/// How real the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fidelity {
    /// Every packet is encoded, signed, decoded and its sender recovered.
    Wire,
    /// The engine's messages are handed over as they are.
    Message,
}

/// What the simulated network is like.
#[derive(Clone, Debug)]
pub struct Network {
    /// One-way latency.
    pub latency: Latency,
    /// Share of the packets that are lost, 0 to 1.
    pub loss: f64,
    /// A split of the network, while it lasts.
    pub partition: Option<Partition>,
}

/// Nodes below a number and those from it on hear nothing of one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number of the first node of the other side.
    pub boundary: usize,
    /// From then on.
    pub from: Time,
    /// Until then.
    pub until: Time,
}

/// The Unix time at the start of every simulation, in microseconds: 1 January 2027.
const EPOCH_UNIX_MICROS: u64 = 1_798_761_600_000_000;

/// Something that happens to a node at a time.
#[derive(Debug)]
struct Event {
    at: u64,
    to: u32,
    from: u32,
    /// The sender's count of packets, so that events at the same time have an order.
    seq: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    Wake,
    Start(Box<[u32]>),
    Stop,
    Command(CommandId, Box<Command>),
    /// A packet, with the latency of its exchange.
    Sealed(u32, Bytes),
    Message(u32, Box<(Hash, Message)>),
}

impl Timed for Event {
    fn at(&self) -> u64 {
        self.at
    }
}

impl Event {
    fn rank(&self) -> (u64, u32, u32, u32) {
        (self.at, self.to, self.from, self.seq)
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Order {
        self.rank().cmp(&other.rank())
    }
}

/// An engine in the simulation.
pub type SimEngine = Engine<Shared>;

struct Node {
    engine: Option<Box<SimEngine>>,
    /// When it is to be woken next; wake-ups for other times are void.
    wake: u64,
    sent: u32,
    digest: u64,
    starts: u32,
}

/// Traffic by message kind, in the order of [`crate::proto::wire::MessageKind::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub sent: [u64; 6],
    /// Messages that arrived at a node that was there.
    pub delivered: u64,
    /// Bytes sent; known at wire fidelity only.
    pub bytes: u64,
    /// Events handled: packets, wake-ups, commands.
    pub events: u64,
}

struct Shard {
    at: usize,
    shards: usize,
    nodes: Vec<Node>,
    queue: BucketQueue<Event>,
    /// Wake-ups that fall into the bucket under way.
    soon: BinaryHeap<Reverse<(u64, u32)>>,
    outboxes: Vec<Vec<Event>>,
    replies: Vec<(Time, u32, CommandId, Reply)>,
    traffic: Traffic,
    packet: BytesMut,
}

/// What all shards look at and none changes.
#[derive(Debug)]
struct Common {
    population: Arc<Population>,
    config: Arc<Config>,
    fidelity: Fidelity,
    network: Network,
    seed: u64,
}

/// A simulated network.
pub struct World {
    common: Common,
    shards: Vec<Shard>,
    now: Time,
    commands: u32,
}

impl World {
    /// A network in which nobody has started yet.
    pub fn new(
        population: Arc<Population>,
        config: Config,
        network: Network,
        fidelity: Fidelity,
        seed: u64,
        threads: usize,
    ) -> Self {
        let width = network.latency.floor();
        let count = threads.clamp(1, population.len().max(1));
        let shards = (0..count)
            .map(|at| Shard {
                at,
                shards: count,
                nodes: (at..population.len()).step_by(count).map(|_| Node::absent()).collect(),
                queue: BucketQueue::new(width),
                soon: BinaryHeap::new(),
                outboxes: (0..count).map(|_| Vec::new()).collect(),
                replies: Vec::new(),
                traffic: Traffic::default(),
                packet: BytesMut::new(),
            })
            .collect();
        let common = Common { population, config: Arc::new(config), fidelity, network, seed };
        Self { common, shards, now: Time::ZERO, commands: 0 }
    }

    /// The time that has been reached.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Who takes part.
    pub fn population(&self) -> &Arc<Population> {
        &self.common.population
    }

    /// Starts a node at a time, with these as its bootnodes. A node that runs is started anew and remembers nothing.
    pub fn start(&mut self, node: usize, at: Time, bootnodes: &[usize]) {
        let bootnodes = bootnodes.iter().map(|&bootnode| bootnode as u32).collect();
        self.schedule(node, at, What::Start(bootnodes));
    }

    /// Stops a node at a time; it says nothing of it to anybody.
    pub fn stop(&mut self, node: usize, at: Time) {
        self.schedule(node, at, What::Stop);
    }

    /// Gives a node a command at a time; its answer is among [`World::take_replies`].
    pub fn command(&mut self, node: usize, at: Time, id: CommandId, command: Command) {
        self.schedule(node, at, What::Command(id, Box::new(command)));
    }

    /// The engine of a node, if it runs.
    pub fn engine(&self, node: usize) -> Option<&SimEngine> {
        let shards = self.shards.len();
        self.shards[node % shards].nodes[node / shards].engine.as_deref()
    }

    /// The answers to commands since the last call: when, of which node, to which command. In the order of their time.
    pub fn take_replies(&mut self) -> Vec<(Time, usize, CommandId, Reply)> {
        let mut replies: Vec<_> = self.shards.iter_mut().flat_map(|shard| shard.replies.drain(..)).collect();
        replies.sort_by_key(|(at, node, id, _)| (*at, *node, *id));
        replies.into_iter().map(|(at, node, id, reply)| (at, node as usize, id, reply)).collect()
    }

    /// All traffic so far.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        for Traffic { sent, delivered, bytes, events } in self.shards.iter().map(|shard| shard.traffic) {
            sum.sent.iter_mut().zip(sent).for_each(|(sum, sent)| *sum += sent);
            sum.delivered += delivered;
            sum.bytes += bytes;
            sum.events += events;
        }
        sum
    }

    /// Events that wait: packets under way and wake-ups, void ones too.
    pub fn waiting(&self) -> usize {
        self.shards.iter().map(|shard| shard.queue.len()).sum()
    }

    /// One number for all that every node has seen, and when: the same for the same seed, on any number of threads.
    pub fn digest(&self) -> u64 {
        let shards = self.shards.len();
        (0..self.common.population.len())
            .fold(0, |sum, node| mix(sum, self.shards[node % shards].nodes[node / shards].digest))
    }

    /// Lets time pass until `end`, or a little longer: buckets are handled whole.
    pub fn run_until(&mut self, end: Time) {
        let common = &self.common;
        if let [shard] = &mut self.shards[..] {
            while let Some(bucket) = shard.queue.first().filter(|bucket| shard.queue.start_of(*bucket) <= end.0) {
                shard.run_bucket(bucket, common);
                let kept = std::mem::take(&mut shard.outboxes[0]);
                kept.into_iter().for_each(|event| shard.queue.push(event));
            }
        } else {
            run_threads(&mut self.shards, end.0, common);
        }
        let width = common.network.latency.floor();
        self.now = Time((end.0 / width + 1) * width);
    }

    /// Starts everybody at once, with tables filled from the list of all nodes and proofs granted on both sides.
    pub fn warm(&mut self, choice: Choice) {
        let population = self.common.population.clone();
        let truth = Truth::new((0..population.len()).map(|node| (*population.id(node), node as u32)));
        let (common, now) = (&self.common, self.now);
        std::thread::scope(|scope| {
            for shard in &mut self.shards {
                let truth = &truth;
                scope.spawn(move || shard.fill(truth, choice, now, common));
            }
        });
        // Whom I have in my table has to know me too. Handed over in parts, or all edges would be in memory at once.
        let longest = self.shards.iter().map(|shard| shard.nodes.len()).max().unwrap_or(0);
        for from in (0..longest).step_by(EDGES_AT_ONCE) {
            let edges: Vec<Vec<(u32, u32)>> =
                self.shards.iter().map(|shard| shard.edges(from..from + EDGES_AT_ONCE)).collect();
            std::thread::scope(|scope| {
                for shard in &mut self.shards {
                    let edges = &edges;
                    scope.spawn(move || shard.grant(edges, now));
                }
            });
        }
        for shard in &mut self.shards {
            for local in 0..shard.nodes.len() {
                let node = (local * shard.shards + shard.at) as u32;
                shard.drain(now.0, node, None, now.0, common);
            }
        }
    }

    fn schedule(&mut self, node: usize, at: Time, what: What) {
        self.commands += 1;
        let shards = self.shards.len();
        // Before all packets of the same instant, in the order in which they were scheduled.
        let event = Event { at: at.0.max(self.now.0), to: node as u32, from: 0, seq: self.commands, what };
        self.shards[node % shards].queue.push(event);
    }
}

fn run_threads(shards: &mut [Shard], end: u64, common: &Common) {
    let count = shards.len();
    let barrier = Barrier::new(count);
    let next: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(u64::MAX)).collect();
    let inboxes: Vec<Mutex<Vec<Event>>> = (0..count).map(|_| Mutex::new(Vec::new())).collect();
    std::thread::scope(|scope| {
        for shard in shards {
            let (barrier, next, inboxes) = (&barrier, &next, &inboxes);
            scope.spawn(move || {
                let at = shard.at;
                loop {
                    let arrived = std::mem::take(&mut *inboxes[at].lock().unwrap_or_else(PoisonError::into_inner));
                    arrived.into_iter().for_each(|event| shard.queue.push(event));
                    let first = shard.queue.first().filter(|bucket| shard.queue.start_of(*bucket) <= end);
                    next[at].store(first.unwrap_or(u64::MAX), Ordering::SeqCst);
                    barrier.wait();
                    let bucket = next.iter().map(|next| next.load(Ordering::SeqCst)).min().unwrap_or(u64::MAX);
                    if bucket == u64::MAX {
                        break;
                    }
                    if first == Some(bucket) {
                        shard.run_bucket(bucket, common);
                        for (inbox, outbox) in inboxes.iter().zip(&mut shard.outboxes) {
                            inbox.lock().unwrap_or_else(PoisonError::into_inner).append(outbox);
                        }
                    }
                    // Nobody looks at the next bucket before all have handed over.
                    barrier.wait();
                }
            });
        }
    });
}

impl Node {
    fn absent() -> Self {
        Self { engine: None, wake: u64::MAX, sent: 0, digest: 0, starts: 0 }
    }
}

/// Nodes of a shard whose table entries are told to their other ends at a time.
const EDGES_AT_ONCE: usize = 4096;

impl Shard {
    fn fill(&mut self, truth: &Truth, choice: Choice, now: Time, common: &Common) {
        for (local, node) in self.nodes.iter_mut().enumerate() {
            let own = (local * self.shards + self.at) as u32;
            node.starts += 1;
            let mut engine = common.engine(own, node.starts, now);
            let id = common.population.id(own as usize);
            for member in warm::members(truth, own, id, common.config.table.k, choice, common.seed) {
                engine.grant(now, NodeRef(member), true);
            }
            node.engine = Some(engine);
        }
    }

    /// From whom to whom the tables of some nodes point.
    fn edges(&self, locals: std::ops::Range<usize>) -> Vec<(u32, u32)> {
        let mut edges = Vec::new();
        for (local, node) in self.nodes.iter().enumerate().take(locals.end).skip(locals.start) {
            let own = (local * self.shards + self.at) as u32;
            let members = node.engine.iter().flat_map(|engine| engine.table().entries());
            edges.extend(members.map(|(_, entry)| (own, entry.node.0)));
        }
        edges
    }

    fn grant(&mut self, edges: &[Vec<(u32, u32)>], now: Time) {
        for (from, to) in edges.iter().flatten().filter(|(_, to)| *to as usize % self.shards == self.at) {
            if let Some(engine) = &mut self.nodes[*to as usize / self.shards].engine {
                engine.grant(now, NodeRef(*from), false);
            }
        }
    }

    /// Handles the events of a bucket.
    fn run_bucket(&mut self, bucket: u64, common: &Common) {
        let mut events = self.queue.take(bucket);
        let bucket_end = self.queue.end_of(bucket);
        events.sort_unstable();
        let mut waiting = events.drain(..).peekable();
        loop {
            let wake = self.soon.peek().map(|Reverse(wake)| *wake);
            let packet = waiting.peek().map(|event| (event.at, event.to));
            match (wake, packet) {
                (Some((at, to)), _) if packet.is_none_or(|packet| (at, to) <= packet) => {
                    self.soon.pop();
                    self.handle(at, to, 0, What::Wake, bucket_end, common);
                }
                _ => match waiting.next() {
                    Some(Event { at, to, from, what, .. }) => self.handle(at, to, from, what, bucket_end, common),
                    None => break,
                },
            }
        }
        drop(waiting);
        self.queue.recycle(events);
    }

    fn handle(&mut self, at: u64, to: u32, from: u32, what: What, bucket_end: u64, common: &Common) {
        self.traffic.events += 1;
        let now = Time(at);
        let node = &mut self.nodes[to as usize / self.shards];
        // A deadline at the same instant comes before the packet.
        if node.wake <= at
            && let Some(engine) = &mut node.engine
        {
            node.wake = u64::MAX;
            engine.handle_timeout(now);
            self.drain(at, to, None, bucket_end, common);
        }
        let node = &mut self.nodes[to as usize / self.shards];
        let mut source = None;
        match what {
            What::Wake => return,
            What::Start(bootnodes) => {
                node.starts += 1;
                let mut engine = common.engine(to, node.starts, now);
                for bootnode in bootnodes {
                    // Its own address among them is no mistake.
                    let _ = engine.add_bootnode(now, &common.population.contact(bootnode as usize));
                }
                node.engine = Some(engine);
            }
            What::Stop => {
                node.engine = None;
                node.wake = u64::MAX;
                return;
            }
            What::Command(id, command) => {
                if let Some(engine) = &mut node.engine {
                    engine.handle_command(now, id, *command);
                }
            }
            What::Sealed(latency, packet) => {
                let Some(engine) = &mut node.engine else { return };
                source = Some((from, latency));
                self.traffic.delivered += 1;
                // The kind of message; the rest differs between fidelities.
                node.digest = mix(mix(node.digest, at), u64::from(from) << 8 | u64::from(packet[97]));
                let _ = engine.handle_datagram(now, common.population.addr(from as usize), &packet);
            }
            What::Message(latency, packet) => {
                let Some(engine) = &mut node.engine else { return };
                source = Some((from, latency));
                self.traffic.delivered += 1;
                let (hash, message) = *packet;
                node.digest = mix(mix(node.digest, at), u64::from(from) << 8 | message.kind() as u64);
                let sender = from as usize;
                let (key, id) = (*common.population.key(sender), *common.population.id(sender));
                let opened = Opened { hash, sender: key, id, message };
                let _ = engine.handle_message(now, common.population.addr(sender), opened);
            }
        }
        self.drain(at, to, source, bucket_end, common);
    }

    /// Does what the engine wants. Answers to `source` take as long as what they answer took.
    fn drain(&mut self, at: u64, node: u32, source: Option<(u32, u32)>, bucket_end: u64, common: &Common) {
        let local = node as usize / self.shards;
        while let Some(engine) = &mut self.nodes[local].engine {
            match engine.poll_output() {
                Output::Transmit(transmit) => self.transmit(at, node, &transmit, source, common),
                Output::Event(_) => {}
                Output::Reply(id, reply) => self.replies.push((Time(at), node, id, reply)),
                Output::Wait(deadline) => {
                    let wake = deadline.0;
                    if wake != u64::MAX && wake != self.nodes[local].wake {
                        self.nodes[local].wake = wake;
                        if wake < bucket_end {
                            self.soon.push(Reverse((wake, node)));
                        } else {
                            self.queue.push(Event { at: wake, to: node, from: 0, seq: 0, what: What::Wake });
                        }
                    }
                    return;
                }
            }
        }
    }

    fn transmit(&mut self, at: u64, from: u32, transmit: &Transmit, source: Option<(u32, u32)>, common: &Common) {
        let node = &mut self.nodes[from as usize / self.shards];
        let Some(engine) = &mut node.engine else { return };
        node.sent = node.sent.wrapping_add(1);
        self.traffic.sent[transmit.message.kind() as usize - 1] += 1;
        let packet = match common.fidelity {
            Fidelity::Wire => {
                engine.seal(transmit, &mut self.packet);
                self.traffic.bytes += self.packet.len() as u64;
                Err(Bytes::copy_from_slice(&self.packet))
            }
            Fidelity::Message => {
                // Sender, start and number name a packet as well as its hash does.
                let mut hash = [0; 32];
                hash[..4].copy_from_slice(&from.to_be_bytes());
                hash[4..8].copy_from_slice(&node.starts.to_be_bytes());
                hash[8..12].copy_from_slice(&node.sent.to_be_bytes());
                if let Some(request) = transmit.request {
                    engine.handle_sealed(request, hash);
                }
                Ok(hash)
            }
        };
        let Some(to) = node_of(transmit.to).filter(|&to| to < common.population.len()) else { return };
        let random = mix(mix(common.seed, u64::from(from)), u64::from(node.sent));
        let network = &common.network;
        if unit(random) < network.loss || network.separates(from as usize, to, Time(at)) {
            return;
        }
        let to = to as u32;
        let latency = match source {
            Some((asker, latency)) if asker == to => latency,
            _ => u32::try_from(network.latency.draw(common.seed, from, to, mix(random, 2))).unwrap_or(u32::MAX),
        };
        let what = match packet {
            Ok(hash) => What::Message(latency, Box::new((hash, transmit.message.clone()))),
            Err(bytes) => What::Sealed(latency, bytes),
        };
        let event = Event { at: at + u64::from(latency), to, from, seq: node.sent, what };
        self.outboxes[to as usize % self.shards].push(event);
    }
}

impl Network {
    fn separates(&self, a: usize, b: usize, now: Time) -> bool {
        self.partition.is_some_and(|split| {
            (split.from..split.until).contains(&now) && (a < split.boundary) != (b < split.boundary)
        })
    }
}

impl Common {
    fn engine(&self, node: u32, starts: u32, now: Time) -> Box<SimEngine> {
        let at = node as usize;
        let population = &self.population;
        let key = match population.private(at) {
            Some(key) => LocalKey::Private(key.clone()),
            None => LocalKey::Public(*population.key(at), *population.id(at)),
        };
        let local = LocalNode {
            key,
            content: RecordContent::default(),
            seq: 1,
            bound: population.addr(at),
            host: (None, None),
            tcp: 0,
        };
        let mut seed = [0; 32];
        for (chunk, part) in seed.chunks_exact_mut(8).zip(0..) {
            let random = mix(mix(self.seed, u64::from(node) << 32 | u64::from(starts)), part);
            chunk.copy_from_slice(&random.to_be_bytes());
        }
        let clock = Clock { now, unix_micros: EPOCH_UNIX_MICROS + now.0 };
        let engine = Engine::new(local, self.config.clone(), Shared::new(population.clone()), seed, clock);
        Box::new(engine.expect("the settings were checked, and an empty record always fits"))
    }
}
