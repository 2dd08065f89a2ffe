//! The queue of events: buckets as wide as the shortest latency.
//!
//! What a node does in one bucket can concern others in a later bucket only, so a bucket is taken out whole and sorted
//! once, and an insertion is a push. Only wake-ups of the same node can fall into the bucket under way; they go through
//! a small heap beside it.

use std::collections::BTreeMap;

/// Events that have a time.
pub trait Timed {
    /// Microseconds.
    fn at(&self) -> u64;
}

/// Events in buckets of equal width.
#[derive(Debug)]
pub struct BucketQueue<E> {
    width: u64,
    buckets: BTreeMap<u64, Vec<E>>,
    /// Emptied buckets, to be filled again.
    spare: Vec<Vec<E>>,
    /// The bucket that was taken out last.
    taken: u64,
    len: usize,
}

/// Emptied buckets kept for another time.
const SPARES: usize = 8;

/// Buckets ahead of the present one that are filled from spares. What is far ahead are a few wake-ups, which would hold
/// the room of a bucket full of packets for minutes: 700 MB more with a million of them (`benches/queue.rs`).
const NEAR: u64 = 64;

impl<E: Timed> BucketQueue<E> {
    /// An empty queue whose buckets are this many microseconds wide.
    pub fn new(width: u64) -> Self {
        Self { width: width.max(1), buckets: BTreeMap::new(), spare: Vec::new(), taken: 0, len: 0 }
    }

    /// Puts an event in.
    pub fn push(&mut self, event: E) {
        let bucket = event.at() / self.width;
        let near = bucket <= self.taken.saturating_add(NEAR);
        let spare = &mut self.spare;
        let fresh = || if near { spare.pop().unwrap_or_default() } else { Vec::new() };
        self.buckets.entry(bucket).or_insert_with(fresh).push(event);
        self.len += 1;
    }

    /// The number of the earliest bucket.
    pub fn first(&self) -> Option<u64> {
        self.buckets.first_key_value().map(|(bucket, _)| *bucket)
    }

    /// The first microsecond of a bucket.
    pub fn start_of(&self, bucket: u64) -> u64 {
        bucket.saturating_mul(self.width)
    }

    /// When a bucket ends: the first microsecond that is not in it.
    pub fn end_of(&self, bucket: u64) -> u64 {
        (bucket + 1).saturating_mul(self.width)
    }

    /// Takes a bucket out.
    pub fn take(&mut self, bucket: u64) -> Vec<E> {
        let events = self.buckets.remove(&bucket).unwrap_or_default();
        self.len -= events.len();
        self.taken = bucket;
        events
    }

    /// Gives an emptied bucket back.
    pub fn recycle(&mut self, mut events: Vec<E>) {
        events.clear();
        if self.spare.len() < SPARES && events.capacity() > 0 {
            self.spare.push(events);
        }
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timed for u64 {
        fn at(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn a_bucket_far_ahead_does_not_take_the_room_of_a_full_one() {
        let mut queue = BucketQueue::new(10);
        (0..1000).for_each(|_| queue.push(5));
        let full = queue.take(0);
        queue.recycle(full);
        queue.push(1_000_000);
        assert!(queue.take(100_000).capacity() < 10);
        queue.push(1_000_010);
        assert!(queue.take(100_001).capacity() >= 1000);
    }

    #[test]
    fn buckets_come_out_in_order_with_all_that_is_in_them() {
        let mut queue = BucketQueue::new(10);
        for at in [25, 3, 9, 10, 1_000_000, 29] {
            queue.push(at);
        }
        let mut seen = Vec::new();
        while let Some(bucket) = queue.first() {
            let events = queue.take(bucket);
            assert!(events.iter().all(|at| (bucket * 10..queue.end_of(bucket)).contains(at)));
            seen.push(events.clone());
            queue.recycle(events);
        }
        assert_eq!(seen, [vec![3, 9], vec![10], vec![25, 29], vec![1_000_000]]);
        assert_eq!(queue.len(), 0);
    }
}
