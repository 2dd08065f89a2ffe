//! Former members: nodes that were in the table and fell silent.
//!
//! Most of them are gone for good. When many fell silent together, though, the network may have been split, and each half
//! fills its tables with its own; nobody but those who remember can bring the halves together again. So one of them is
//! pinged now and then, and when one is back, all others are tried at once.

use std::collections::VecDeque;
use std::time::Duration;

use rand::RngExt;

use super::bond::Why;
use super::{Engine, Timer};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::time::Time;

/// The former members that are remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Former {
    /// Those that were tried last stand last.
    nodes: VecDeque<NodeRef>,
    next: Option<Time>,
    every: Duration,
    /// How many are still to be tried at once, because one is back.
    round: usize,
}

/// Time between the batches in which all are tried.
const BATCHES: Duration = Duration::from_millis(200);

impl Former {
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeRef> {
        self.nodes.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The next to be tried, and after that the last.
    fn turn(&mut self) -> Option<NodeRef> {
        let node = self.nodes.pop_front()?;
        self.nodes.push_back(node);
        Some(node)
    }
}

impl<C: Contacts> Engine<C> {
    /// Remembers a member that was one for so long and has died.
    pub(super) fn remember_former(&mut self, now: Time, node: NodeRef, age: Duration) {
        let config = &self.config.refresh;
        if age < config.former_age || config.max_former == 0 || !config.enabled {
            return;
        }
        let (every, _) = config.former_every;
        while self.former.nodes.len() >= config.max_former {
            self.former.nodes.pop_front();
        }
        self.former.nodes.push_back(node);
        if self.former.every != every || self.former.next.is_none() {
            self.former.every = every;
            self.try_former_after(now, every);
        }
    }

    /// A node has answered. If it is a former member that is back, the others may be as well.
    pub(super) fn on_former_answered(&mut self, now: Time, node: NodeRef) {
        let before = self.former.nodes.len();
        self.former.nodes.retain(|former| *former != node);
        if self.former.nodes.len() == before || self.former.round > 0 {
            return;
        }
        self.former.round = self.former.nodes.len();
        self.former.every = self.config.refresh.former_every.0;
        self.try_former_after(now, Duration::ZERO);
        self.refresh_soon(now);
    }

    pub(super) fn on_former_due(&mut self, now: Time) {
        self.former.next = None;
        self.former.round = self.former.round.min(self.former.nodes.len());
        if self.former.nodes.is_empty() {
            return;
        }
        if self.former.round > 0 {
            self.ping_former(now);
            self.former.round = self.former.round.saturating_sub(self.config.refresh.former_pings.max(1));
            let wait = if self.former.round > 0 { BATCHES } else { self.former.every };
            self.try_former_after(now, wait);
            return;
        }
        if let Some(node) = self.former.turn() {
            self.ping(now, node, Why::OwnAccord);
        }
        let longest = self.config.refresh.former_every.1;
        self.former.every = (self.former.every * 2).min(longest);
        self.try_former_after(now, self.former.every);
    }

    /// Pings a few of them.
    pub(super) fn ping_former(&mut self, now: Time) {
        for _ in 0..self.config.refresh.former_pings.min(self.former.nodes.len()) {
            if let Some(node) = self.former.turn() {
                self.ping(now, node, Why::OwnAccord);
            }
        }
    }

    /// Sets the time of the next try: up to an eighth sooner, so that nodes that lost one another together do not try
    /// together.
    fn try_former_after(&mut self, now: Time, wait: Duration) {
        let early = wait.mul_f64(self.rng.random_range(0.0..0.125));
        let at = now + (wait - early).max(Duration::from_millis(1));
        if let Some(old) = self.former.next.replace(at) {
            self.timers.cancel(old, Timer::Former);
        }
        self.timers.set(at, Timer::Former);
    }
}
