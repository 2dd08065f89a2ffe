//! Endpoint proofs of nodes that are not members of the table.

use std::collections::BTreeMap;
use std::mem;

use crate::proto::contacts::NodeRef;
use crate::proto::time::Secs;

/// What each side has of the other's endpoint proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// When it answered our PING.
    pub(super) proved: Secs,
    /// When we answered its PING.
    pub(super) endorsed: Secs,
    /// It was a member and answered no longer. Its proof stands until it expires, but it has to be seen again.
    pub(super) lost: bool,
}

impl Known {
    pub(super) fn merge(self, other: Known) -> Known {
        Known {
            proved: self.proved.max(other.proved),
            endorsed: self.endorsed.max(other.endorsed),
            lost: self.lost && other.lost,
        }
    }
}

/// Two generations of proofs. What is noted goes into the young one; when that is full it becomes the old one, and what
/// was old is forgotten. So at least the last `bound` nodes are remembered and at most twice as many.
#[derive(Clone, Debug, Default)]
pub(super) struct Proofs {
    young: BTreeMap<NodeRef, Known>,
    old: BTreeMap<NodeRef, Known>,
}

impl Proofs {
    pub(super) fn get(&self, node: NodeRef) -> Known {
        self.young.get(&node).or_else(|| self.old.get(&node)).copied().unwrap_or_default()
    }

    pub(super) fn contains(&self, node: NodeRef) -> bool {
        self.young.contains_key(&node) || self.old.contains_key(&node)
    }

    pub(super) fn put(&mut self, node: NodeRef, known: Known, bound: usize) {
        self.old.remove(&node);
        self.young.insert(node, known);
        if self.young.len() >= bound {
            self.old = mem::take(&mut self.young);
        }
    }

    pub(super) fn remove(&mut self, node: NodeRef) {
        self.young.remove(&node);
        self.old.remove(&node);
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeRef> {
        self.young.keys().chain(self.old.keys()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_noted_are_forgotten() {
        let mut proofs = Proofs::default();
        for n in 1..=9 {
            proofs.put(NodeRef(n), Known { proved: Secs(n), ..Known::default() }, 4);
            assert!(proofs.len() < 8);
        }
        // 1 to 4 are gone with their generation, 5 to 8 are old, 9 is young.
        assert!(!proofs.contains(NodeRef(4)));
        assert_eq!(proofs.get(NodeRef(5)).proved, Secs(5));
        assert_eq!(proofs.get(NodeRef(9)).proved, Secs(9));
        proofs.put(NodeRef(5), Known { proved: Secs(50), ..Known::default() }, 4);
        assert_eq!(proofs.len(), 5);
        proofs.remove(NodeRef(5));
        assert_eq!(proofs.get(NodeRef(5)), Known::default());
    }
}
