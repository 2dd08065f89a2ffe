//! Who runs when: what was asked of the world, so that every thread can look at it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::proto::time::Time;
use crate::proto::wire::NodeEntry;
use crate::sim::population::node_of;

/// When nodes start and stop. It changes between runs only.
#[derive(Debug)]
pub(super) struct Lives {
    /// The first start of each node in microseconds; the largest number for none.
    first: Vec<u64>,
    /// All starts (true) and stops (false) of the nodes that have more than a first start, in the order of their time.
    changes: BTreeMap<u32, Vec<(u64, bool)>>,
}

impl Lives {
    /// Of nodes of which none ever starts.
    pub(super) fn new(nodes: usize) -> Self {
        Self { first: vec![u64::MAX; nodes], changes: BTreeMap::new() }
    }

    /// Notes that a node starts or stops at a time.
    pub(super) fn note(&mut self, node: usize, at: Time, starts: bool) {
        let first = self.first[node];
        let number = node as u32;
        if starts && first == u64::MAX && !self.changes.contains_key(&number) {
            self.first[node] = at.0;
            return;
        }
        let changes = self.changes.entry(number).or_default();
        if changes.is_empty() && first != u64::MAX {
            changes.push((first, true));
        }
        // Of those at one instant, the last that was asked for is the last that is done.
        let place = changes.partition_point(|(other, _)| *other <= at.0);
        changes.insert(place, (at.0, starts));
    }

    /// Whether a node runs at a time.
    pub(super) fn is_running(&self, node: usize, at: Time) -> bool {
        match self.changes.get(&(node as u32)) {
            Some(changes) => last(changes, at) == Some(true),
            None => self.first.get(node).is_some_and(|first| *first <= at.0),
        }
    }

    /// How many of these entries name a node that has been stopped, and not started since.
    pub(super) fn dead_among(&self, entries: &[NodeEntry], at: Time) -> u64 {
        if self.changes.is_empty() {
            return 0;
        }
        let is_dead = |entry: &&NodeEntry| {
            let node = entry.endpoint.ip.and_then(|ip| node_of(SocketAddr::new(ip, entry.endpoint.udp)));
            let changes = node.and_then(|node| self.changes.get(&(node as u32)));
            changes.is_some_and(|changes| last(changes, at) == Some(false))
        };
        entries.iter().filter(is_dead).count() as u64
    }
}

/// What the last change up to a time was.
fn last(changes: &[(u64, bool)], at: Time) -> Option<bool> {
    let until = changes.partition_point(|(other, _)| *other <= at.0);
    changes[..until].last().map(|(_, starts)| *starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::population::Population;

    #[test]
    fn lives_are_told_whatever_the_order_in_which_they_were_asked_for() {
        let mut lives = Lives::new(5);
        let secs = Time::from_secs;
        lives.note(0, secs(5), true);
        assert!(lives.changes.is_empty(), "who never stops costs nothing more");
        lives.note(1, secs(9), true);
        lives.note(1, secs(7), false);
        lives.note(1, secs(3), true);
        lives.note(2, secs(4), false);
        lives.note(2, secs(4), true);
        lives.note(3, secs(4), true);
        lives.note(3, secs(4), false);
        let running = |second| [0, 1, 2, 3, 4].map(|node| lives.is_running(node, secs(second)));
        assert_eq!(running(2), [false, false, false, false, false]);
        assert_eq!(running(3), [false, true, false, false, false]);
        assert_eq!(running(4), [false, true, true, false, false]);
        assert_eq!(running(6), [true, true, true, false, false]);
        assert_eq!(running(7), [true, false, true, false, false]);
        assert_eq!(running(9), [true, true, true, false, false]);
        let population = Population::new(5, 1, false, 1);
        let told: Vec<NodeEntry> = (0..5).map(|node| population.contact(node).into()).collect();
        let dead = |second| lives.dead_among(&told, secs(second));
        // Node 4 has never been there, so it is not dead either.
        assert_eq!([3, 4, 7, 8, 9].map(dead), [0, 1, 2, 2, 1]);
    }
}
