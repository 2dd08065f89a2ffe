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
    /// What can be counted of its answers; see [`Entry::set_record`].
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

/// Passed checks that are counted at most: by then the time between two has doubled as often as any settings let it.
const LIVENESS: u8 = 15;

/// Failed FINDNODEs in a row that an entry tells apart: none to four.
const FIND_FAILS: u8 = 5;

impl Entry {
    pub(super) fn new(node: NodeRef, below: u32, proof: Proof, now: Time) -> Self {
        let Proof { proved, endorsed, .. } = proof;
        let mut entry = Self { node, proved, endorsed, below, added: stamp(now), rtt: 0, record: 0 };
        entry.set_rtt(proof.rtt);
        entry.set_record(1, 0, 0);
        entry
    }

    /// Which sixteenth of its bucket it lies in, 0 to 15.
    pub(super) fn subrange(&self) -> u8 {
        subrange(self.below)
    }

    /// Checks that it has passed since it came in, saturating at 15.
    pub fn liveness(&self) -> u8 {
        self.record & LIVENESS
    }

    /// Checks that it has failed in a row.
    pub fn fails(&self) -> u8 {
        (self.record >> 4) / FIND_FAILS
    }

    /// FINDNODEs in a row that it has left unanswered, saturating at 4.
    pub fn find_fails(&self) -> u8 {
        (self.record >> 4) % FIND_FAILS
    }

    /// Whether the last check succeeded.
    pub fn is_live(&self) -> bool {
        self.record >> 4 < FIND_FAILS
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
            self.set_record(self.liveness() + 1, 0, self.find_fails());
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
        let fails = self.fails() + 1;
        self.set_record(self.liveness(), fails, self.find_fails());
        fails
    }

    /// Counts a FINDNODE that was not answered and returns how many there are in a row, at most five.
    pub(super) fn fail_find(&mut self) -> u8 {
        let find_fails = self.find_fails() + 1;
        self.set_record(self.liveness(), self.fails(), find_fails);
        find_fails
    }

    /// It has answered a FINDNODE.
    pub(super) fn answer_find(&mut self) {
        self.set_record(self.liveness(), self.fails(), 0);
    }

    /// Counts it as one that has been a member for more than an hour and has passed all checks that can be counted.
    pub(super) fn trust(&mut self) {
        self.added = self.added.wrapping_sub(SETTLED);
        self.set_record(LIVENESS, 0, 0);
    }

    /// Forgets failed checks. A doubtful member that was displaced and comes back would else never be due for a check:
    /// those of doubtful members are the engine's, which dropped them when it was displaced.
    pub(super) fn forgive(&mut self) {
        self.set_record(self.liveness(), 0, self.find_fails());
    }

    /// Passed checks take the low four bits. The high four are five times the failed checks in a row, up to two, since a
    /// member with three is none any more, and the failed FINDNODEs in a row, up to four.
    fn set_record(&mut self, liveness: u8, fails: u8, find_fails: u8) {
        self.record = liveness.min(LIVENESS) | (fails.min(2) * FIND_FAILS + find_fails.min(FIND_FAILS - 1)) << 4;
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
        assert_eq!((entry.liveness(), entry.fails()), (15, 0));
    }

    #[test]
    fn failed_checks_and_failed_findnodes_are_counted_side_by_side() {
        let mut entry = Entry::new(NodeRef(1), 0, proof(0, 1), Time::ZERO);
        let counts = |entry: &Entry| (entry.liveness(), entry.fails(), entry.find_fails());
        assert_eq!([0; 4].map(|_| entry.fail_find()), [1, 2, 3, 4]);
        assert_eq!((counts(&entry), entry.is_live()), ((1, 0, 4), true));
        assert_eq!((entry.fail_find(), entry.fail_find()), (5, 5), "what cannot be counted any more");
        assert_eq!([0; 3].map(|_| entry.fail()), [1, 2, 3]);
        assert_eq!((counts(&entry), entry.is_live()), ((1, 2, 4), false));
        entry.forgive();
        assert_eq!(counts(&entry), (1, 0, 4));
        // Answers to PINGs are no answers to FINDNODEs.
        for at in 1..100 {
            entry.succeed(proof(at * 10, 1));
        }
        assert_eq!((counts(&entry), entry.is_live()), ((15, 0, 4), true));
        entry.fail();
        entry.answer_find();
        assert_eq!((counts(&entry), entry.is_live()), ((15, 1, 0), false));
        entry.fail_find();
        entry.trust();
        assert_eq!(counts(&entry), (15, 0, 0));
    }

    #[test]
    fn age_counts_in_steps_of_64_seconds() {
        let entry = Entry::new(NodeRef(1), 0, proof(0, 1), Time::from_secs(1000));
        assert_eq!(entry.age(Time::from_secs(1000)), Duration::ZERO);
        assert_eq!(entry.age(Time::from_secs(1000 + 640)), Duration::from_secs(640));
    }
}
