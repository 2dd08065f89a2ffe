//! A real engine among scripted peers, in virtual time.
//!
//! Honest peers keep to the protocol: they answer PING, answer FINDNODE to whom they have a proof of, and prove the victim
//! when it pings them; those that have it in their tables check it now and then. They need no engine of their own, which
//! is what makes a day of the victim's life cost a second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::crowd::Crowd;
use crate::proto::config::{Config, EXPIRATION_SECS, PROOF_LASTS};
use crate::proto::contacts::OwnContacts;
use crate::proto::engine::{
    Clock, Command, CommandId, Engine, LocalKey, LocalNode, LookupReport, Output, Reply, Transmit,
};
use crate::proto::identity::{PublicKey, RecordContent};
use crate::proto::time::Time;
use crate::proto::wire::{FindNode, Hash, Message, Neighbors, NodeEntry, Opened, Ping, Pong};
use crate::sim::network::Latency;
use crate::sim::random::mix;
use crate::sim::world::EPOCH_UNIX_MICROS;

/// One-way latency between the victim and an honest node.
const LATENCY: Latency = Latency::Uniform { low: 25.0, high: 75.0 };

/// One-way latency between the victim and an attacker, in microseconds: they sit nearer than anybody else.
const ATTACKER_LATENCY: u64 = 5_000;

/// How often an honest node checks a member of its table, in microseconds: 15 min, about what a full table comes to.
const CHECK_EVERY: u64 = 900_000_000;

/// Honest nodes that are the victim's bootnodes.
const BOOTNODES: u32 = 4;

/// What happens next.
#[derive(Debug)]
enum What {
    /// A message reaches the victim.
    Comes(Hash, Message),
    /// A message of the victim's reaches a peer.
    Goes(Hash, Message),
    /// A peer pings the victim, and again after so many microseconds; 0: not again.
    Pings(u64),
}

#[derive(Debug)]
struct Event {
    at: u64,
    /// In the order in which they were scheduled.
    seq: u64,
    peer: u32,
    what: What,
}

/// The victim and what surrounds it.
pub(super) struct Stage {
    pub(super) crowd: Crowd,
    config: Arc<Config>,
    seed: u64,
    now: u64,
    starts: u64,
    victim: Option<Engine<OwnContacts>>,
    deadline: u64,
    queue: BinaryHeap<Reverse<Event>>,
    seq: u64,
    /// For each peer when the victim last answered a PING of its, in microseconds; 0 for never.
    proofs: Vec<u64>,
    replies: Vec<LookupReport>,
    /// One number for all that the victim has got, and when.
    pub(super) digest: u64,
}

impl Stage {
    /// Nobody runs yet but the honest nodes.
    pub(super) fn new(crowd: Crowd, config: Config, seed: u64) -> Self {
        let peers = crowd.attackers().end as usize;
        let mut stage = Self {
            crowd,
            config: Arc::new(config),
            seed,
            now: 0,
            starts: 0,
            victim: None,
            deadline: u64::MAX,
            queue: BinaryHeap::new(),
            seq: 0,
            proofs: vec![0; peers],
            replies: Vec::new(),
            digest: 0,
        };
        for peer in stage.crowd.honest().filter(|peer| stage.crowd.knows_victim(*peer)).collect::<Vec<_>>() {
            let at = mix(mix(seed, 0x6368_6563), u64::from(peer)) % CHECK_EVERY;
            stage.schedule(at, peer, What::Pings(CHECK_EVERY));
        }
        stage
    }

    /// The victim, which has been started.
    pub(super) fn victim(&self) -> &Engine<OwnContacts> {
        self.victim.as_ref().expect("it was started")
    }

    /// The time that has been reached.
    pub(super) fn now(&self) -> Time {
        Time(self.now)
    }

    /// Starts the victim, or starts it anew: the same key at the same address, an empty table, and bootnodes.
    pub(super) fn start(&mut self) {
        self.starts += 1;
        let contact = self.crowd.victim;
        let local = LocalNode {
            key: LocalKey::Public(contact.key, contact.id()),
            content: RecordContent::default(),
            seq: 1,
            bound: contact.endpoint.udp_addr(),
            host: (None, None),
            tcp: 0,
        };
        let mut seed = [0; 32];
        for (chunk, part) in seed.chunks_exact_mut(8).zip(0..) {
            chunk.copy_from_slice(&mix(mix(self.seed, self.starts << 32), part).to_be_bytes());
        }
        let clock = Clock { now: Time(self.now), unix_micros: EPOCH_UNIX_MICROS + self.now };
        let engine = Engine::new(local, self.config.clone(), OwnContacts::default(), seed, clock);
        let mut engine = engine.expect("the settings were checked, and there is no record to be made");
        for bootnode in self.crowd.honest().take(BOOTNODES as usize) {
            engine.add_bootnode(Time(self.now), self.crowd.contact(bootnode)).expect("it is another node's address");
        }
        self.victim = Some(engine);
        self.drain();
    }

    /// All attackers ping the victim, the first so long from now, one after the other within `within`; and again and
    /// again, if there is a time after which they do.
    pub(super) fn pester(&mut self, after: Duration, within: Duration, again: Option<Duration>) {
        let attackers = self.crowd.attackers();
        let (count, from) = (attackers.len() as u64, self.now + micros(after));
        for (number, peer) in (0..).zip(attackers) {
            self.schedule(from + micros(within) * number / count, peer, What::Pings(again.map_or(0, micros)));
        }
    }

    /// Lets this much time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + micros(time);
        loop {
            let next = self.queue.peek().map_or(u64::MAX, |Reverse(event)| event.at);
            if next.min(self.deadline) > end {
                break;
            }
            if self.deadline <= next {
                self.now = self.now.max(self.deadline);
                if let Some(victim) = &mut self.victim {
                    victim.handle_timeout(Time(self.now));
                }
                self.drain();
            } else if let Some(Reverse(event)) = self.queue.pop() {
                self.now = event.at;
                self.happen(event);
            }
        }
        self.now = end;
    }

    /// Has the victim make a lookup now.
    pub(super) fn look_up(&mut self, target: PublicKey) {
        if let Some(victim) = &mut self.victim {
            let command = Command::Lookup { target, until_found: false, paths: None };
            victim.handle_command(Time(self.now), CommandId(self.seq), command);
        }
        self.drain();
    }

    /// The lookups that have ended since the last call.
    pub(super) fn take_lookups(&mut self) -> Vec<LookupReport> {
        std::mem::take(&mut self.replies)
    }

    fn happen(&mut self, event: Event) {
        let Event { at, peer, what, .. } = event;
        match what {
            What::Pings(again) => {
                self.ping(peer);
                if again > 0 {
                    self.schedule(at + again, peer, What::Pings(again));
                }
            }
            What::Goes(hash, message) => self.on_message(peer, hash, &message),
            What::Comes(hash, message) => {
                let contact = self.crowd.contact(peer);
                self.digest = mix(mix(self.digest, at), u64::from(peer) << 8 | message.kind() as u64);
                let (from, sender) = (contact.endpoint.udp_addr(), contact.key);
                if let Some(victim) = &mut self.victim {
                    let _ = victim.handle_message(Time(at), from, Opened { hash, sender, message });
                }
                self.drain();
            }
        }
    }

    /// A peer gets a message of the victim's.
    fn on_message(&mut self, peer: u32, hash: Hash, message: &Message) {
        let proof = self.proofs[peer as usize];
        let proved = proof != 0 && self.now - proof < micros(PROOF_LASTS);
        match message {
            Message::Ping(_) => {
                let to = self.crowd.victim.endpoint.into();
                let pong = Pong { to, ping_hash: hash, expiration: self.expiration(), enr_seq: None };
                self.say(peer, Message::Pong(pong));
                if !proved {
                    self.ping(peer);
                }
            }
            Message::Pong(_) => self.proofs[peer as usize] = self.now,
            Message::FindNode(FindNode { target, .. }) if proved || self.crowd.is_attacker(peer) => {
                let told = self.crowd.neighbors(peer, &target.node_id());
                let expiration = self.expiration();
                for nodes in told.chunks(Neighbors::MAX_SENT) {
                    let nodes = nodes.iter().copied().map(NodeEntry::from).collect();
                    self.say(peer, Message::Neighbors(Neighbors { nodes, expiration }));
                }
            }
            _ => {}
        }
    }

    fn ping(&mut self, peer: u32) {
        let (from, to) = (self.crowd.contact(peer).endpoint.into(), self.crowd.victim.endpoint.into());
        self.say(peer, Message::Ping(Ping { from, to, expiration: self.expiration(), enr_seq: None }));
    }

    /// A peer sends the victim a message, whose hash nobody but the victim looks at.
    fn say(&mut self, peer: u32, message: Message) {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.seq.to_be_bytes());
        self.schedule(self.now + self.latency(peer), peer, What::Comes(hash, message));
    }

    /// Does what the victim wants.
    fn drain(&mut self) {
        while let Some(victim) = &mut self.victim {
            match victim.poll_output() {
                Output::Transmit(transmit) => {
                    let hash = stand_in(&transmit);
                    if let Some(request) = transmit.request {
                        victim.handle_sealed(request, hash);
                    }
                    if let Some(peer) = self.crowd.at(transmit.to) {
                        self.schedule(self.now + self.latency(peer), peer, What::Goes(hash, transmit.message));
                    }
                }
                Output::Reply(_, Reply::Lookup(report)) => self.replies.push(report),
                Output::Reply(..) | Output::Event(_) => {}
                Output::Wait(deadline) => {
                    self.deadline = deadline.0;
                    return;
                }
            }
        }
    }

    fn latency(&self, peer: u32) -> u64 {
        if self.crowd.is_attacker(peer) {
            ATTACKER_LATENCY
        } else {
            LATENCY.between(self.seed, peer, u32::MAX, self.now)
        }
    }

    fn expiration(&self) -> u64 {
        (EPOCH_UNIX_MICROS + self.now) / 1_000_000 + EXPIRATION_SECS
    }

    fn schedule(&mut self, at: u64, peer: u32, what: What) {
        self.seq += 1;
        self.queue.push(Reverse(Event { at, seq: self.seq, peer, what }));
    }
}

/// What stands for the hash of a packet of the victim's: a request that is repeated goes by the same name.
fn stand_in(transmit: &Transmit) -> Hash {
    let mut hash = [0; 32];
    hash[0] = transmit.message.kind() as u8;
    hash[1] = 1;
    hash[8..16].copy_from_slice(&transmit.message.expiration().unwrap_or(0).to_be_bytes());
    hash
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}
