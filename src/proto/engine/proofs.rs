//! Endpoint proofs of nodes that are not members of the table.

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
    /// It was a member and answered PINGs, but no FINDNODE.
    pub(super) unhelpful: bool,
}

impl Known {
    pub(super) fn merge(self, other: Known) -> Known {
        Known {
            proved: self.proved.max(other.proved),
            endorsed: self.endorsed.max(other.endorsed),
            lost: self.lost && other.lost,
            unhelpful: self.unhelpful || other.unhelpful,
        }
    }
}

/// Two generations of proofs. What is noted goes into the young one; when that is full it becomes the old one, and what
/// was old is forgotten. So at least the last `bound` nodes are remembered and at most twice as many.
#[derive(Clone, Debug, Default)]
pub(super) struct Proofs {
    young: Generation,
    old: Generation,
}

/// By handle. A million engines hold some 270 each, so there is no room to spare: it grows by an eighth at a time.
#[derive(Clone, Debug, Default)]
struct Generation(Vec<(NodeRef, Known)>);

impl Proofs {
    pub(super) fn get(&self, node: NodeRef) -> Known {
        self.young.get(node).or_else(|| self.old.get(node)).unwrap_or_default()
    }

    pub(super) fn contains(&self, node: NodeRef) -> bool {
        self.young.get(node).is_some() || self.old.get(node).is_some()
    }

    pub(super) fn put(&mut self, node: NodeRef, known: Known, bound: usize) {
        self.old.remove(node);
        self.young.put(node, known);
        if self.young.0.len() >= bound {
            self.old = mem::take(&mut self.young);
        }
    }

    pub(super) fn remove(&mut self, node: NodeRef) {
        self.young.remove(node);
        self.old.remove(node);
    }

    /// Forgets that anybody has a proof of us.
    pub(super) fn forget_endorsements(&mut self) {
        for (_, known) in self.young.0.iter_mut().chain(&mut self.old.0) {
            known.endorsed = Secs::NEVER;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.young.0.len() + self.old.0.len()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeRef> {
        self.young.0.iter().chain(&self.old.0).map(|(node, _)| *node)
    }
}

impl Generation {
    fn find(&self, node: NodeRef) -> Result<usize, usize> {
        self.0.binary_search_by_key(&node, |(node, _)| *node)
    }

    fn get(&self, node: NodeRef) -> Option<Known> {
        self.find(node).ok().map(|at| self.0[at].1)
    }

    fn put(&mut self, node: NodeRef, known: Known) {
        match self.find(node) {
            Ok(at) => self.0[at].1 = known,
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(self.0.len() / 8 + 4);
                }
                self.0.insert(at, (node, known));
            }
        }
    }

    fn remove(&mut self, node: NodeRef) {
        if let Ok(at) = self.find(node) {
            self.0.remove(at);
        }
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
