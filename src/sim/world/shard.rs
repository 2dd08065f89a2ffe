//! The nodes of one thread.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;

use super::event::{Event, Ports, What};
use super::{Common, Fidelity, SETTLED, SimEngine, Traffic};
use crate::proto::contacts::NodeRef;
use crate::proto::engine::{Alarm, CommandId, Event as EngineEvent, Output, Reply, Transmit};
use crate::proto::identity::NodeId;
use crate::proto::time::Time;
use crate::proto::wire::{self, Hash, Message, Opened};
use crate::sim::network::{Lengths, Nat};
use crate::sim::population::{addr_of, handle, handle_of, number, port};
use crate::sim::queue::BucketQueue;
use crate::sim::random::mix;
use crate::sim::truth::Truth;
use crate::sim::warm::{self, Choice};

pub(super) struct Node {
    pub(super) engine: Option<Box<SimEngine>>,
    /// When its engine wants to be woken.
    pub(super) deadline: u64,
    /// The earliest wake-up in the queue, never later than the deadline; others are void. Most deadlines are moved to a
    /// later time before they come, so a wake-up that comes early only queues the next.
    pub(super) wake: u64,
    pub(super) sent: u32,
    pub(super) digest: u64,
    pub(super) starts: u32,
    pub(super) nat: Nat,
}

pub(super) struct Shard {
    pub(super) at: usize,
    pub(super) shards: usize,
    pub(super) nodes: Vec<Node>,
    pub(super) queue: BucketQueue<Event>,
    /// Wake-ups that fall into the bucket under way.
    pub(super) soon: BinaryHeap<Reverse<(u32, u64)>>,
    pub(super) outboxes: Vec<Vec<Event>>,
    pub(super) replies: Vec<(Time, u32, CommandId, Reply)>,
    pub(super) alarms: Vec<(Time, u32, Alarm)>,
    pub(super) traffic: Traffic,
    pub(super) packet: Vec<u8>,
    pub(super) lengths: Lengths,
    /// What the Sybil whose turn it is has just been asked for, until it has answered.
    pub(super) asked: Option<NodeId>,
}

impl Node {
    fn absent() -> Self {
        Self { engine: None, deadline: u64::MAX, wake: u64::MAX, sent: 0, digest: 0, starts: 0, nat: Nat::default() }
    }

    /// Who seems to have sent a packet, if what the node stands behind lets it through.
    fn admit(&self, now: Time, own: u32, from: u32, ports: Ports, common: &Common) -> Option<NodeRef> {
        let sender = handle(from as usize, ports.from);
        let kind = common.network.nat.kind(common.seed, own);
        self.nat.admits(kind, common.seed, own, sender, ports.to, now).then_some(sender)
    }
}

impl Shard {
    /// Shard number `at` of `shards`, with its share of `population` nodes, none of which runs.
    pub(super) fn new(at: usize, shards: usize, population: usize, width: u64) -> Self {
        Self {
            at,
            shards,
            nodes: (at..population).step_by(shards).map(|_| Node::absent()).collect(),
            queue: BucketQueue::new(width),
            soon: BinaryHeap::new(),
            outboxes: (0..shards).map(|_| Vec::new()).collect(),
            replies: Vec::new(),
            alarms: Vec::new(),
            traffic: Traffic::default(),
            packet: Vec::new(),
            lengths: Lengths::default(),
            asked: None,
        }
    }

    pub(super) fn fill(
        &mut self,
        truth: &Truth,
        runs: impl Fn(usize) -> bool,
        choice: Choice,
        now: Time,
        common: &Common,
    ) {
        for (local, node) in self.nodes.iter_mut().enumerate() {
            let own = (local * self.shards + self.at) as u32;
            if !runs(own as usize) {
                continue;
            }
            node.starts += 1;
            let mut engine = common.engine(own, node.starts, now);
            let id = common.population.id(own as usize);
            let members = warm::members(truth, own, id, common.config.table.k, choice, common.seed);
            let round = common.config.table.check_pace.saturating_mul(members.len() as u32);
            // No check is overdue, or everybody would begin with a burst of them: some come this much before the others.
            let round = round * 7 / 8;
            for member in members {
                engine.grant(now, NodeRef(member), true, common.age(own, member, round));
            }
            node.engine = Some(engine);
        }
    }

    /// From whom to whom the tables of some nodes point.
    pub(super) fn edges(&self, locals: std::ops::Range<usize>) -> Vec<(u32, u32)> {
        let mut edges = Vec::new();
        for (local, node) in self.nodes.iter().enumerate().take(locals.end).skip(locals.start) {
            let own = (local * self.shards + self.at) as u32;
            let members = node.engine.iter().flat_map(|engine| engine.table().entries());
            edges.extend(members.map(|(_, entry)| (own, number(entry.node) as u32)));
        }
        edges
    }

    pub(super) fn grant(&mut self, edges: &[Vec<(u32, u32)>], now: Time, common: &Common) {
        for (from, to) in edges.iter().flatten().filter(|(_, to)| *to as usize % self.shards == self.at) {
            if let Some(engine) = &mut self.nodes[*to as usize / self.shards].engine {
                engine.grant(now, NodeRef(*from), false, common.age(*to, *from, SETTLED));
            }
        }
    }

    /// Handles the events of a bucket.
    pub(super) fn run_bucket(&mut self, bucket: u64, common: &Common) {
        let mut events = self.queue.take(bucket);
        let bucket_end = self.queue.end_of(bucket);
        events.sort_unstable();
        let mut waiting = events.drain(..).peekable();
        loop {
            let wake = self.soon.peek().map(|Reverse(wake)| *wake);
            let packet = waiting.peek().map(|event| (event.to, event.at));
            match (wake, packet) {
                (Some((to, at)), _) if packet.is_none_or(|packet| (to, at) <= packet) => {
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
        let now = Time(at);
        let node = &mut self.nodes[to as usize / self.shards];
        if matches!(what, What::Wake) {
            if node.wake != at {
                return;
            }
            node.wake = u64::MAX;
            if node.deadline > at {
                self.wake_at_deadline(to, bucket_end);
                return;
            }
        }
        // A deadline at the same instant comes before the packet.
        if node.deadline <= at
            && let Some(engine) = &mut node.engine
        {
            self.traffic.events += 1;
            engine.handle_timeout(now);
            self.drain(at, to, None, bucket_end, common);
        }
        if matches!(what, What::Wake) {
            return;
        }
        self.traffic.events += 1;
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
                node.deadline = u64::MAX;
                return;
            }
            What::Command(id, command) => {
                if let Some(engine) = &mut node.engine {
                    engine.handle_command(now, id, *command);
                }
            }
            What::Sealed(latency, ports, packet) => {
                let Some(sender) = node.admit(now, to, from, ports, common) else { return };
                let Some(engine) = &mut node.engine else { return };
                source = Some((from, latency));
                self.traffic.delivered += 1;
                // The kind of message; the rest differs between fidelities.
                node.digest = mix(mix(node.digest, at), u64::from(sender.0) << 8 | u64::from(packet[97]));
                if common.is_sybil(to) {
                    self.asked = wire::frame(&packet).ok().and_then(|framed| target_of(&framed.message().ok()?));
                }
                let _ = engine.handle_datagram(now, addr_of(sender), &packet);
            }
            What::Message(latency, ports, packet) => {
                let Some(sender) = node.admit(now, to, from, ports, common) else { return };
                let Some(engine) = &mut node.engine else { return };
                source = Some((from, latency));
                self.traffic.delivered += 1;
                let (hash, message) = *packet;
                node.digest = mix(mix(node.digest, at), u64::from(sender.0) << 8 | message.kind() as u64);
                if common.is_sybil(to) {
                    self.asked = target_of(&message);
                }
                let key = *common.population.key(from as usize);
                let opened = Opened { hash, sender: key, message };
                let _ = engine.handle_message(now, addr_of(sender), opened);
            }
        }
        self.drain(at, to, source, bucket_end, common);
        self.asked = None;
    }

    /// Does what the engine wants. Answers to `source` take as long as what they answer took.
    pub(super) fn drain(&mut self, at: u64, node: u32, source: Option<(u32, u32)>, bucket_end: u64, common: &Common) {
        let local = node as usize / self.shards;
        while let Some(engine) = &mut self.nodes[local].engine {
            match engine.poll_output() {
                Output::Transmit(transmit) if common.lies(node, &transmit.message) => {
                    self.lie(at, node, transmit, source, common);
                }
                Output::Transmit(transmit) => self.transmit(at, node, transmit, source, common),
                Output::Event(EngineEvent::Alarm(alarm)) => self.alarms.push((Time(at), node, alarm)),
                Output::Event(_) => {}
                Output::Reply(id, reply) => self.replies.push((Time(at), node, id, reply)),
                Output::Wait(deadline) => {
                    self.nodes[local].deadline = deadline.0;
                    self.wake_at_deadline(node, bucket_end);
                    return;
                }
            }
        }
    }

    /// Has a Sybil name its kind where its engine would tell what its table holds; once for each question.
    fn lie(&mut self, at: u64, node: u32, truth: Transmit, source: Option<(u32, u32)>, common: &Common) {
        let (Some(target), Some(sybils)) = (self.asked.take(), &common.sybils) else { return };
        let expiration = truth.message.expiration().unwrap_or(0);
        for message in sybils.answer(&common.population, node, &target, expiration) {
            self.transmit(at, node, Transmit { to: truth.to, message, request: None }, source, common);
        }
    }

    fn wake_at_deadline(&mut self, to: u32, bucket_end: u64) {
        let node = &mut self.nodes[to as usize / self.shards];
        let at = node.deadline;
        if at >= node.wake {
            return;
        }
        node.wake = at;
        if at < bucket_end {
            self.soon.push(Reverse((to, at)));
        } else {
            self.queue.push(Event { at, to, from: 0, seq: 0, what: What::Wake });
        }
    }

    fn transmit(&mut self, at: u64, from: u32, transmit: Transmit, source: Option<(u32, u32)>, common: &Common) {
        let node = &mut self.nodes[from as usize / self.shards];
        let Some(engine) = &mut node.engine else { return };
        node.sent = node.sent.wrapping_add(1);
        let kind = transmit.message.kind() as usize - 1;
        self.traffic.sent[kind] += 1;
        if let Message::Neighbors(neighbors) = &transmit.message {
            self.traffic.told += neighbors.nodes.len() as u64;
            self.traffic.told_dead += common.lives.dead_among(&neighbors.nodes, Time(at));
        }
        let packet = match common.fidelity {
            Fidelity::Wire => {
                engine.seal(&transmit, &mut self.packet);
                self.traffic.bytes[kind] += self.packet.len() as u64;
                Err(Bytes::copy_from_slice(&self.packet))
            }
            Fidelity::Message => {
                self.traffic.bytes[kind] += self.lengths.of(&transmit.message);
                let hash = stand_in(from, &transmit);
                if let Some(request) = transmit.request {
                    engine.handle_sealed(request, hash);
                }
                Ok(hash)
            }
        };
        let Some(target) = handle_of(transmit.to).filter(|to| number(*to) < common.population.len()) else { return };
        let to = number(target) as u32;
        let network = &common.network;
        let from_port = node.nat.send(network.nat.kind(common.seed, from), common.seed, from, target, Time(at));
        let random = mix(mix(common.seed, u64::from(from)), u64::from(node.sent));
        if network.loses(random) || network.separates(from as usize, to as usize, Time(at)) {
            return;
        }
        let latency = match source {
            Some((asker, latency)) if asker == to => latency,
            _ => u32::try_from(network.latency.between(common.seed, from, to, at)).unwrap_or(u32::MAX),
        };
        let ports = Ports { from: from_port, to: port(target) };
        let what = match packet {
            Ok(hash) => What::Message(latency, ports, Box::new((hash, transmit.message))),
            Err(bytes) => What::Sealed(latency, ports, bytes),
        };
        let (delay, copy) = network.delays(latency, random);
        let outbox = &mut self.outboxes[to as usize % self.shards];
        if let Some(delay) = copy {
            outbox.push(Event { at: at + delay, to, from, seq: node.sent, what: what.clone() });
        }
        outbox.push(Event { at: at + delay, to, from, seq: node.sent, what });
    }
}

/// What a FINDNODE asks for.
fn target_of(message: &Message) -> Option<NodeId> {
    match message {
        Message::FindNode(find) => Some(find.target.node_id()),
        _ => None,
    }
}

impl Common {
    fn is_sybil(&self, node: u32) -> bool {
        self.sybils.as_ref().is_some_and(|sybils| sybils.contains(node))
    }

    /// Whether a node sends something else than this message of its engine's.
    fn lies(&self, node: u32, message: &Message) -> bool {
        matches!(message, Message::Neighbors(_)) && self.is_sybil(node)
    }
}

/// What stands for the hash of a packet that is not made. Like a true one it follows from the sender and what is said, so
/// a request that is repeated within a second goes by the same name.
fn stand_in(from: u32, transmit: &Transmit) -> Hash {
    let to = handle_of(transmit.to).map_or(0, |to| to.0);
    let mut hash = [0; 32];
    hash[0] = transmit.message.kind() as u8;
    hash[4..8].copy_from_slice(&from.to_be_bytes());
    hash[8..12].copy_from_slice(&to.to_be_bytes());
    hash[12..20].copy_from_slice(&transmit.message.expiration().unwrap_or(0).to_be_bytes());
    hash
}
