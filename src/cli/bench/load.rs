//! Requests that are answered: one under way in each slot, or so many a second.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::now;
use super::packets::{Packets, hash_of};
use super::slot::{Expect, Heard, Slot, read};
use crate::cli::failure::Failure;
use crate::proto::wire::Hash;

/// A slot that has got nothing for so many requests in a row sends no more: the target is gone, and each further
/// request would cost a timeout.
pub(super) const PATIENCE: u32 = 5;

/// How requests follow one another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// The next one when the last one is answered.
    Answers,
    /// So many a second over all slots, whatever comes back.
    Rate(f64),
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Requests sent.
    pub(super) sent: u64,
    /// Nanoseconds that each answer took, in no order.
    pub(super) latencies: Vec<u64>,
    /// Nodes in the NEIGHBORS that counted as answers.
    pub(super) nodes: u64,
    /// From the first request to the last one sent, and to the last answer.
    pub(super) sending: Duration,
    pub(super) took: Duration,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.sent += other.sent;
        self.latencies.extend(other.latencies);
        self.nodes += other.nodes;
        self.sending = self.sending.max(other.sending);
        self.took = self.took.max(other.took);
    }
}

/// Runs the load: each slot has its own requests.
pub(super) async fn run(
    slots: Vec<(Slot, Packets)>,
    expect: Expect,
    pace: Pace,
    timeout: Duration,
) -> Result<Tally, Failure> {
    let (start, count) = (now(), slots.len());
    let mut tasks = JoinSet::new();
    for (number, (slot, requests)) in slots.into_iter().enumerate() {
        let lane = Lane { slot, requests, expect, timeout, start };
        match pace {
            Pace::Answers => tasks.spawn(lane.closed()),
            Pace::Rate(rate) => {
                let offset = Duration::from_secs_f64(number as f64 / rate);
                tasks.spawn(lane.paced(offset, Duration::from_secs_f64(count as f64 / rate)))
            }
        };
    }
    let mut tally = Tally::default();
    while let Some(ended) = tasks.join_next().await {
        tally.add(ended.map_err(|error| Failure::runtime(format!("the load has failed: {error}")))??);
    }
    Ok(tally)
}

/// One slot with its share of the load.
struct Lane {
    slot: Slot,
    requests: Packets,
    expect: Expect,
    timeout: Duration,
    start: Instant,
}

impl Lane {
    /// Each request when the last one is answered or given up.
    async fn closed(self) -> Result<Tally, Failure> {
        let Self { mut slot, requests, expect, timeout, start } = self;
        let mut tally = Tally::default();
        tally.latencies.reserve_exact(requests.len());
        let mut silent = 0;
        slot.nodes = 0;
        for packet in requests.iter() {
            tally.sent += 1;
            tally.sending = now() - start;
            match slot.request(packet, expect, timeout).await? {
                Some(latency) => {
                    silent = 0;
                    tally.latencies.push(nanoseconds(latency));
                    tally.took = now() - start;
                }
                None => silent += 1,
            }
            if silent == PATIENCE {
                break;
            }
        }
        tally.nodes = slot.nodes;
        Ok(tally)
    }

    /// A request each `step`, the first after `offset`, whatever comes back.
    async fn paced(self, offset: Duration, step: Duration) -> Result<Tally, Failure> {
        let Self { mut slot, requests, expect, timeout, start } = self;
        let mut tally = Tally::default();
        tally.latencies.reserve_exact(requests.len());
        let mut pending = Pending::new(expect);
        for (number, packet) in requests.iter().enumerate() {
            let due = start + offset + step.mul_f64(number as f64);
            // Never a wait where the next one is late already; but what has arrived is always taken in.
            while let Some(received) = slot.receive(due).await? {
                pending.take(read(&received), start, timeout, &mut tally);
            }
            slot.send(packet).await?;
            let sent = now();
            pending.sent(packet, sent);
            tally.sent += 1;
            tally.sending = sent - start;
        }
        let end = now() + timeout;
        while !pending.is_empty()
            && let Some(received) = slot.receive(end).await?
        {
            pending.take(read(&received), start, timeout, &mut tally);
        }
        Ok(tally)
    }
}

/// Requests under way in a slot whose load does not wait for answers.
enum Pending {
    /// By the hash that the answer will name.
    Echo(BTreeMap<Hash, Instant>),
    /// NEIGHBORS name no request, so they are taken in the order of the requests: when each was sent, and how many
    /// packets have come for the first one of so many.
    Neighbors { sent: VecDeque<Instant>, packets: usize, wanted: usize },
}

impl Pending {
    fn new(expect: Expect) -> Self {
        match expect {
            Expect::Echo => Self::Echo(BTreeMap::new()),
            Expect::Neighbors(wanted) => Self::Neighbors { sent: VecDeque::new(), packets: 0, wanted },
        }
    }

    fn sent(&mut self, packet: &[u8], at: Instant) {
        match self {
            Self::Echo(pending) => {
                pending.insert(hash_of(packet), at);
            }
            Self::Neighbors { sent, .. } => sent.push_back(at),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Echo(pending) => pending.is_empty(),
            Self::Neighbors { sent, .. } => sent.is_empty(),
        }
    }

    /// Takes in a packet, which may be the answer to a request under way, or the last one of it.
    fn take(&mut self, heard: Heard, start: Instant, timeout: Duration, tally: &mut Tally) {
        let at = now();
        let asked = match (self, heard) {
            (Self::Echo(pending), Heard::Echo(hash)) => pending.remove(&hash),
            (Self::Neighbors { sent, packets, wanted }, Heard::Neighbors(nodes)) => {
                while sent.front().is_some_and(|&sent| at - sent > timeout) {
                    sent.pop_front();
                    *packets = 0;
                }
                *packets += 1;
                tally.nodes += nodes as u64;
                if *packets < *wanted {
                    None
                } else {
                    *packets = 0;
                    sent.pop_front()
                }
            }
            _ => None,
        };
        if let Some(asked) = asked
            && at - asked <= timeout
        {
            tally.latencies.push(nanoseconds(at - asked));
            tally.took = at - start;
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    // Five centuries fit.
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn answers_are_matched_by_hash_in_any_order_and_once() {
        let (start, mut tally) = (now(), Tally::default());
        let mut pending = Pending::new(Expect::Echo);
        pending.sent(&[1; 40], start);
        pending.sent(&[2; 40], start);
        for (heard, answers) in [
            (Heard::Echo([3; 32]), 0),
            (Heard::Echo([2; 32]), 1),
            (Heard::Echo([2; 32]), 1),
            (Heard::Neighbors(3), 1),
            (Heard::Other, 1),
            (Heard::Echo([1; 32]), 2),
        ] {
            pending.take(heard, start, SECOND, &mut tally);
            assert_eq!(tally.latencies.len(), answers, "{heard:?}");
        }
        assert!(pending.is_empty());
    }

    #[test]
    fn neighbors_are_counted_and_late_ones_are_no_answers() {
        let (start, mut tally) = (now(), Tally::default());
        let mut pending = Pending::new(Expect::Neighbors(2));
        pending.sent(&[], start);
        pending.sent(&[], start);
        for (nodes, answers) in [(12, 0), (4, 1), (12, 1), (4, 2)] {
            pending.take(Heard::Neighbors(nodes), start, SECOND, &mut tally);
            assert_eq!(tally.latencies.len(), answers);
        }
        assert_eq!((tally.nodes, pending.is_empty()), (32, true));

        pending.sent(&[], start);
        while now() == start {}
        pending.take(Heard::Neighbors(12), start, Duration::ZERO, &mut tally);
        assert_eq!((tally.latencies.len(), pending.is_empty()), (2, true));
    }
}
