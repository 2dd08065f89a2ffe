//! Virtual time: the nodes, the packets under way between them, and the loop that moves time on.
//!
//! Nodes are dealt out to shards, one for each thread. A shard handles one bucket of events at a time, a bucket being as
//! wide as the shortest latency, so what its nodes send concerns others in later buckets only; after each bucket the
//! shards hand over what they have for one another. What a node sees, and in which order, depends on the seed alone.

mod event;
mod lives;
mod shard;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::Duration;

use self::event::{Event, What};
use self::lives::Lives;
use self::shard::Shard;
use super::attack::Sybils;
use super::network::Network;
use super::population::{Population, Shared};
use super::random::{mix, unit};
use super::truth::Truth;
use super::warm::Choice;
use crate::proto::config::Config;
use crate::proto::engine::{Alarm, Clock, Command, CommandId, Engine, LocalKey, LocalNode, Reply};
use crate::proto::identity::RecordContent;
use crate::proto::time::Time;

/// How real the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fidelity {
    /// Every packet is encoded, signed, decoded and its sender recovered.
    Wire,
    /// The engine's messages are handed over as they are.
    Message,
}

/// The Unix time at the start of every simulation, in microseconds: 1 January 2027.
pub(super) const EPOCH_UNIX_MICROS: u64 = 1_798_761_600_000_000;

/// An engine in the simulation.
pub type SimEngine = Engine<Shared>;

/// Traffic by message kind, in the order of [`crate::proto::wire::MessageKind::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub sent: [u64; 6],
    /// Bytes sent, as on the wire without the headers of UDP and IP. The same at both fidelities.
    pub bytes: [u64; 6],
    /// Messages that arrived at a node that was there.
    pub delivered: u64,
    /// Entries of the NEIGHBORS sent.
    pub told: u64,
    /// Those of them that named a node which had been stopped, and not started since.
    pub told_dead: u64,
    /// Events handled: packets, wake-ups, commands.
    pub events: u64,
}

impl Traffic {
    /// Messages sent, of all kinds.
    pub fn messages(&self) -> u64 {
        self.sent.iter().sum()
    }

    fn add(&mut self, other: &Traffic) {
        let Traffic { sent, bytes, delivered, told, told_dead, events } = other;
        self.sent.iter_mut().zip(sent).for_each(|(sum, sent)| *sum += sent);
        self.bytes.iter_mut().zip(bytes).for_each(|(sum, bytes)| *sum += bytes);
        self.delivered += delivered;
        self.told += told;
        self.told_dead += told_dead;
        self.events += events;
    }
}

/// What all shards look at and none changes.
#[derive(Debug)]
struct Common {
    population: Arc<Population>,
    config: Arc<Config>,
    fidelity: Fidelity,
    network: Network,
    lives: Lives,
    /// Who answers FINDNODE with its own kind; `None` when nobody does.
    sybils: Option<Sybils>,
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
        let shards = (0..count).map(|at| Shard::new(at, count, population.len(), width)).collect();
        let lives = Lives::new(population.len());
        let common = Common { population, config: Arc::new(config), fidelity, network, lives, sybils: None, seed };
        Self { common, shards, now: Time::ZERO, commands: 0 }
    }

    /// Makes some of the nodes Sybils, from now on.
    pub(super) fn set_sybils(&mut self, sybils: Option<Sybils>) {
        self.common.sybils = sybils;
    }

    /// The Sybils, if there are any.
    pub(super) fn sybils(&self) -> Option<&Sybils> {
        self.common.sybils.as_ref()
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

    /// Whether a node runs at a time, as far as its starts and stops have been asked for.
    pub fn is_running(&self, node: usize, at: Time) -> bool {
        self.common.lives.is_running(node, at)
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

    /// The alarms raised since the last call: when, by which node, and what it is. In the order of their time.
    pub fn take_alarms(&mut self) -> Vec<(Time, usize, Alarm)> {
        let mut alarms: Vec<_> = self.shards.iter_mut().flat_map(|shard| shard.alarms.drain(..)).collect();
        alarms.sort_by_key(|(at, node, _)| (*at, *node));
        alarms.into_iter().map(|(at, node, alarm)| (at, node as usize, alarm)).collect()
    }

    /// All traffic so far.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.traffic));
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
        self.warm_where(choice, |_| true);
    }

    /// As [`World::warm`], but only the nodes that `runs` is true of are started and known to anybody.
    pub fn warm_where(&mut self, choice: Choice, runs: impl Fn(usize) -> bool + Sync) {
        let population = self.common.population.clone();
        // Not all proofs of a settled network are new.
        self.now = self.now.max(Time::ZERO + SETTLED);
        let running: Vec<usize> = (0..population.len()).filter(|&node| runs(node)).collect();
        running.iter().for_each(|&node| self.common.lives.note(node, self.now, true));
        let truth = Truth::new(running.into_iter().map(|node| (*population.id(node), node as u32)));
        let (common, now) = (&self.common, self.now);
        std::thread::scope(|scope| {
            for shard in &mut self.shards {
                let (truth, runs) = (&truth, &runs);
                scope.spawn(move || shard.fill(truth, runs, choice, now, common));
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
                    scope.spawn(move || shard.grant(edges, now, common));
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
        let at = at.max(self.now);
        match what {
            What::Start(_) => self.common.lives.note(node, at, true),
            What::Stop => self.common.lives.note(node, at, false),
            _ => {}
        }
        // Before all packets of the same instant, in the order in which they were scheduled.
        let event = Event { at: at.0, to: node as u32, from: 0, seq: self.commands, what };
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

/// How long a network has been running that begins with filled tables.
pub(super) const SETTLED: Duration = Duration::from_hours(1);

/// Nodes of a shard whose table entries are told to their other ends at a time.
const EDGES_AT_ONCE: usize = 4096;

impl Common {
    /// How long ago two nodes of a settled network have seen one another, at most `longest`.
    fn age(&self, node: u32, other: u32, longest: Duration) -> Duration {
        let random = mix(mix(self.seed, 0x0061_6765), u64::from(node) << 32 | u64::from(other));
        longest.min(SETTLED).mul_f64(unit(random))
    }

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
        let wrong = self.network.clocks.offset(self.seed, node);
        let clock = Clock { now, unix_micros: (EPOCH_UNIX_MICROS + now.0).saturating_add_signed(wrong) };
        let engine = Engine::new(local, self.config.clone(), Shared::new(population.clone()), seed, clock);
        Box::new(engine.expect("the settings were checked, and an empty record always fits"))
    }
}
