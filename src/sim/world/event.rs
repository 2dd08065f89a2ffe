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
    Sealed(Route, Bytes),
    Message(Route, Box<(Hash, Message)>),
}

/// How a packet travels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    /// The latency of its exchange, in microseconds.
    pub(super) latency: u32,
    /// The port from which it seems to come; 0 for the sender's own, as in handles.
    pub(super) from_port: u8,
    /// The port to which it was sent.
    pub(super) to_port: u8,
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
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}
