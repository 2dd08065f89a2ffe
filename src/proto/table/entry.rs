//! One member of the table, in 20 bytes.

use std::cmp::Ordering;
use std::time::Duration;

use crate::proto::contacts::NodeRef;
use crate::proto::identity::subrange;
use crate::proto::time::{Secs, Time};

/// A node in a bucket or in its replacement list. Every one of them has proved its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which node.
    pub node: NodeRef,
    /// When it last answered one of our PINGs: its endpoint proof.
    pub proved: Secs,
    /// When we last answered one of its PINGs: the proof that it has of us.
    pub endorsed: Secs,
    /// The bits of its distance to the local node that follow the one which names its bucket: most questions that a
    /// bucket is asked are answered by them, without a look at the store of contacts.
    pub(super) below: u32,
    added: u16,
    rtt: u8,
    /// Successful checks in the low six bits, failed ones in a row in the high two.
    record: u8,
}

// A million engines in one process hold 269 of them each.
const _: () = assert!(size_of::<Entry>() == 20);

/// What is known about a node at the moment it is offered to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// When it answered our PING.
    pub proved: Secs,
    /// When we answered its PING.
    pub endorsed: Secs,
    /// The round trip time of that PING.
    pub rtt: Duration,
}

const LIVENESS: u8 = 0x3f;

impl Entry {
    pub(super) fn new(node: NodeRef, below: u32, proof: Proof, now: Time) -> Self {
        let Proof { proved, endorsed, .. } = proof;
        let mut entry = Self { node, proved, endorsed, below, added: stamp(now), rtt: 0, record: 1 };
        entry.set_rtt(proof.rtt);
        entry
    }

    /// Which sixteenth of its bucket it lies in, 0 to 15.
    pub(super) fn subrange(&self) -> u8 {
        subrange(self.below)
    }

    /// Checks that it has passed since it came in, saturating at 63.
    pub fn liveness(&self) -> u8 {
        self.record & LIVENESS
    }

    /// Checks that it has failed in a row.
    pub fn fails(&self) -> u8 {
        self.record >> 6
    }

    /// Whether the last check succeeded.
    pub fn is_live(&self) -> bool {
        self.fails() == 0
    }

    /// How long it has been in the table, in steps of 64 s. The count starts again after 48 days, where a very old
    /// member may look young for an hour: in a full bucket it then yields to one that makes it more diverse, or that
    /// comes before it in the order of the table.
    pub fn age(&self, now: Time) -> Duration {
        Duration::from_secs(64 * u64::from(stamp(now).wrapping_sub(self.added)))
    }

    /// The smoothed round trip time, within 10 %.
    pub fn rtt(&self) -> Duration {
        Duration::from_micros((100.0 * RTT_STEP.powi(i32::from(self.rtt))) as u64)
    }

    pub(super) fn succeed(&mut self, proof: Proof) {
        // Proofs in quick succession are one check.
        if !self.is_live() || proof.proved.0 >= self.proved.0.saturating_add(MIN_CHECK_GAP) {
            let liveness = self.liveness();
            self.record = if liveness == LIVENESS { liveness } else { liveness + 1 };
        }
        self.proved = self.proved.max(proof.proved);
        self.endorsed = self.endorsed.max(proof.endorsed);
        let old = self.rtt;
        // Seven parts old to one part new, as TCP smooths its estimate (RFC 6298).
        self.set_rtt((self.rtt() * 7 + proof.rtt) / 8);
        if self.rtt == old {
            // An eighth of a difference below 20 % is less than half a step: rounding would keep the old value for ever.
            self.rtt = match steps(proof.rtt).cmp(&old) {
                Ordering::Less => old - 1,
                Ordering::Equal => old,
                Ordering::Greater => old + 1,
            };
        }
    }

    /// Counts a failed check and returns how many there are in a row.
    pub(super) fn fail(&mut self) -> u8 {
        let fails = (self.fails() + 1).min(3);
        self.record = self.liveness() | fails << 6;
        fails
    }

    /// Counts it as one that has been a member for more than an hour and has passed all checks that can be counted.
    pub(super) fn trust(&mut self) {
        self.added = self.added.wrapping_sub(SETTLED);
        self.record = LIVENESS;
    }

    /// Forgets failed checks. A doubtful member that was displaced and comes back would else never be due for a check:
    /// those of doubtful members are the engine's, which dropped them when it was displaced.
    pub(super) fn forgive(&mut self) {
        self.record &= LIVENESS;
    }

    fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = steps(rtt);
    }
}

/// The nearest step of a logarithmic scale from 0.1 ms to 15 s.
fn steps(rtt: Duration) -> u8 {
    let steps = ((rtt.as_micros().max(100) as f64) / 100.0).ln() / RTT_STEP.ln();
    steps.round().min(245.0) as u8
}

/// Seconds that must lie between two proofs for both to count as passed checks.
const MIN_CHECK_GAP: u32 = 5;

/// The age that [`Entry::trust`] adds, in steps of 64 s: a little more than an hour.
const SETTLED: u16 = 57;

const RTT_STEP: f64 = 1.05;

fn stamp(now: Time) -> u16 {
    (now.secs().0 / 64) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(at: u64, rtt_ms: u64) -> Proof {
        Proof { proved: Time::from_secs(at).secs(), endorsed: Secs::NEVER, rtt: Duration::from_millis(rtt_ms) }
    }

    #[test]
    fn round_trip_times_are_kept_within_a_tenth() {
        for ms in [1, 7, 40, 150, 900, 5000] {
            let entry = Entry::new(NodeRef(1), 0, proof(0, ms), Time::ZERO);
            let ratio = entry.rtt().as_secs_f64() / (ms as f64 / 1e3);
            assert!((0.95..1.05).contains(&ratio), "{ms} ms became {:?}", entry.rtt());
        }
        // What stays the same is known in the end, however near or far it was guessed before.
        for (first, then) in [(10, 100), (100, 10), (100, 120), (100, 110), (100, 80), (100, 92)] {
            let mut entry = Entry::new(NodeRef(1), 0, proof(0, first), Time::ZERO);
            for at in 1..100 {
                entry.succeed(proof(at, then));
            }
            let ratio = entry.rtt().as_secs_f64() / (then as f64 / 1e3);
            assert!((0.95..1.05).contains(&ratio), "{first} ms, then {then} ms became {:?}", entry.rtt());
        }
    }

    #[test]
    fn checks_in_quick_succession_count_once() {
        let mut entry = Entry::new(NodeRef(1), 0, proof(0, 1), Time::ZERO);
        entry.succeed(proof(1, 1));
        assert_eq!(entry.liveness(), 1);
        entry.succeed(proof(6, 1));
        assert_eq!(entry.liveness(), 2);
        assert_eq!((entry.fail(), entry.fail()), (1, 2));
        assert!(!entry.is_live());
        entry.succeed(proof(7, 1));
        assert_eq!((entry.liveness(), entry.fails()), (3, 0));
        for at in 2..200 {
            entry.succeed(proof(at * 10, 1));
        }
        assert_eq!((entry.liveness(), entry.fails()), (63, 0));
    }

    #[test]
    fn age_counts_in_steps_of_64_seconds() {
        let entry = Entry::new(NodeRef(1), 0, proof(0, 1), Time::from_secs(1000));
        assert_eq!(entry.age(Time::from_secs(1000)), Duration::ZERO);
        assert_eq!(entry.age(Time::from_secs(1000 + 640)), Duration::from_secs(640));
    }
}
