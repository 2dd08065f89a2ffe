//! What a lookup ought to find: the nearest of all nodes that are there.

use std::ops::Range;

use crate::proto::identity::NodeId;

/// All IDs of a moment, sorted.
#[derive(Clone, Debug)]
pub struct Truth {
    ids: Vec<(NodeId, u32)>,
}

impl Truth {
    /// The truth about these nodes.
    pub fn new(nodes: impl IntoIterator<Item = (NodeId, u32)>) -> Self {
        let mut ids: Vec<(NodeId, u32)> = nodes.into_iter().collect();
        ids.sort_unstable();
        Self { ids }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The `count` nodes nearest to `target`, nearest first, without `except`.
    pub fn closest(&self, target: &NodeId, count: usize, except: Option<u32>) -> Vec<u32> {
        self.closest_where(target, count, |node| Some(node) != except)
    }

    /// The `count` nodes nearest to `target` among those that `counts` is true of, nearest first.
    pub fn closest_where(&self, target: &NodeId, count: usize, counts: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut found = Vec::with_capacity(count);
        self.descend(target, 0, 0..self.ids.len(), count, &counts, &mut found);
        found
    }

    /// The nodes at a log distance from `id`, 1 to 256: one run of the sorted list.
    pub fn bucket(&self, id: &NodeId, log_distance: u16) -> &[(NodeId, u32)] {
        // They share all bits above the one in which they differ.
        let bit = 256 - usize::from(log_distance);
        let mut low = *id;
        flip(&mut low, bit);
        let mut high = low;
        for below in bit + 1..256 {
            set(&mut low, below, false);
            set(&mut high, below, true);
        }
        let start = self.ids.partition_point(|(other, _)| *other < low);
        let end = self.ids.partition_point(|(other, _)| *other <= high);
        &self.ids[start..end]
    }

    /// Walks the binary trie that the sorted list is, the target's side first.
    fn descend(
        &self,
        target: &NodeId,
        bit: usize,
        range: Range<usize>,
        count: usize,
        counts: &impl Fn(u32) -> bool,
        found: &mut Vec<u32>,
    ) {
        if found.len() >= count || range.is_empty() {
            return;
        }
        if range.len() == 1 || bit == 256 {
            let nodes = self.ids[range].iter().map(|(_, node)| *node).filter(|node| counts(*node));
            let room = count - found.len();
            found.extend(nodes.take(room));
            return;
        }
        let middle = range.start + self.ids[range.clone()].partition_point(|(id, _)| !get(id, bit));
        let (zeros, ones) = (range.start..middle, middle..range.end);
        let (near, far) = if get(target, bit) { (ones, zeros) } else { (zeros, ones) };
        self.descend(target, bit + 1, near, count, counts, found);
        self.descend(target, bit + 1, far, count, counts, found);
    }
}

fn get(id: &NodeId, bit: usize) -> bool {
    id.0[bit / 8] >> (7 - bit % 8) & 1 == 1
}

fn flip(id: &mut NodeId, bit: usize) {
    id.0[bit / 8] ^= 1 << (7 - bit % 8);
}

fn set(id: &mut NodeId, bit: usize, value: bool) {
    if get(id, bit) != value {
        flip(id, bit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::crypto::keccak256;

    #[test]
    fn the_nearest_and_the_buckets_are_those_of_a_plain_search() {
        let ids: Vec<(NodeId, u32)> = (0..500u32).map(|n| (NodeId(keccak256(&n.to_be_bytes())), n)).collect();
        let truth = Truth::new(ids.iter().copied());
        for n in 0..50u32 {
            let target = NodeId(keccak256(&(n * 11).to_le_bytes()));
            let mut sorted = ids.clone();
            sorted.sort_by_key(|(id, _)| target.distance(id));
            let plain = |except: Option<u32>| -> Vec<u32> {
                sorted.iter().map(|(_, node)| *node).filter(|node| Some(*node) != except).take(16).collect()
            };
            assert_eq!(truth.closest(&target, 16, None), plain(None));
            let odd: Vec<u32> = sorted.iter().map(|(_, node)| *node).filter(|node| node % 2 == 1).take(16).collect();
            assert_eq!(truth.closest_where(&target, 16, |node| node % 2 == 1), odd);
            assert_eq!(truth.closest(&target, 16, Some(sorted[3].1)), plain(Some(sorted[3].1)));
            for log in 1..=256u16 {
                let mut plain: Vec<_> = ids.iter().filter(|(id, _)| target.log_distance(id) == log).copied().collect();
                plain.sort_unstable();
                assert_eq!(truth.bucket(&target, log), plain);
            }
        }
        assert_eq!(truth.closest(&ids[0].0, 600, None).len(), 500);
    }
}
