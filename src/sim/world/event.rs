//! What happens to nodes, and in which order.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::proto::engine::{Command, CommandId};
use crate::proto::wire::{Hash, Message};
use crate::sim::queue::Timed;

/// Something that happens to a node at a time.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) at: u64,
    pub(super) to: u32,
    pub(super) from: u32,
    /// The sender's count of packets, so that events at the same time have an order.
    pub(super) seq: u32,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Wake,
    Start(Box<[u32]>),
    Stop,
    Command(CommandId, Box<Command>),
    /// A packet, with the latency of its exchange in microseconds.
    Sealed(u32, Ports, Bytes),
    Message(u32, Ports, Box<(Hash, Message)>),
}

/// The ports of a packet, as in handles: 0 is a node's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// Where it seems to come from.
    pub(super) from: u8,
    /// Where it was sent.
    pub(super) to: u8,
}

// Millions of them wait at a time.
const _: () = assert!(size_of::<Event>() <= 64);

impl Timed for Event {
    fn at(&self) -> u64 {
        self.at
    }
}

impl Event {
    /// Node by node: within a bucket none can concern another, and what one has to do is done while it is in the cache.
    fn rank(&self) -> (u32, u64, u32, u32) {
        (self.to, self.at, self.from, self.seq)
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}
