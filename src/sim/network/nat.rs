//! Address translators (NAT), and what gets through them.
//!
//! In the terms of RFC 4787: a full cone maps and filters independently of the endpoint; a restricted one (address
//! restricted) maps independently of the endpoint and filters by address, whatever the port; a symmetric one maps and
//! filters by address and port. Packets that leave keep a mapping open, packets that come in do not (REQ-6 leaves that
//! open). Every node has a translator of its own, with an external address that is the node's. A symmetric translator
//! has 255 external ports and takes the same one for the same destination each time; destinations may share a port.

use std::time::Duration;

use crate::proto::contacts::NodeRef;
use crate::proto::time::Time;
use crate::sim::network::NatShares;
use crate::sim::population::number;
use crate::sim::random::{mix, unit};

/// Nodes below this number are reachable by everybody: they are the bootnodes.
pub(in crate::sim) const ALWAYS_OPEN: u32 = 4;

/// How long a mapping lasts after the last packet that left by it: the shortest that RFC 4787 allows (REQ-5).
pub(in crate::sim) const MAPPING_LASTS: Duration = Duration::from_secs(120);

/// Destinations that a translator remembers. Beyond, the one to which nothing has been sent for the longest time is
/// forgotten; home routers have room for about as many.
const MAX_SESSIONS: usize = 1024;

/// Below this many destinations it is not worth looking for those whose time is over.
const FIRST_SWEEP: usize = 16;

/// What a node stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum NatKind {
    Open,
    FullCone,
    Restricted,
    Symmetric,
}

/// The translator before a node. Nothing is allocated until something is sent through one.
#[derive(Debug, Default)]
pub(in crate::sim) struct Nat(Option<Box<Sessions>>);

#[derive(Debug, Default)]
struct Sessions {
    /// To whom something was sent and when last, in microseconds; sorted by the first. See [`session`].
    sent: Vec<(u32, u64)>,
    /// At this many it is swept.
    sweep_at: usize,
}

impl NatShares {
    /// What a node stands behind: drawn from its number, and the same each time.
    pub(in crate::sim) fn kind(&self, seed: u64, node: u32) -> NatKind {
        if node < ALWAYS_OPEN || *self == Self::default() {
            return NatKind::Open;
        }
        let draw = unit(mix(mix(seed, 0x6e61_7420), u64::from(node)));
        let kinds = [
            (NatKind::FullCone, self.full_cone),
            (NatKind::Restricted, self.restricted),
            (NatKind::Symmetric, self.symmetric),
        ];
        let mut below = 0.0;
        for (kind, share) in kinds {
            below += share;
            if draw < below {
                return kind;
            }
        }
        NatKind::Open
    }
}

impl NatKind {
    /// The port from which a packet of node `own` to `to` seems to come, 0 for its own.
    fn external_port(self, seed: u64, own: u32, to: NodeRef) -> u8 {
        match self {
            // From 1 to 255.
            NatKind::Symmetric => 1 + (mix(mix(seed, 0x706f_7274), u64::from(own) << 32 | u64::from(to.0)) % 255) as u8,
            _ => 0,
        }
    }

    /// What packets have to have in common with one that was sent, so that their answers get in by it.
    fn session(self, other: NodeRef) -> u32 {
        match self {
            NatKind::Open | NatKind::FullCone => 0,
            // The number is the address.
            NatKind::Restricted => number(other) as u32,
            NatKind::Symmetric => other.0,
        }
    }
}

impl Nat {
    /// A packet of node `own` leaves for `to`. Returns the port from which it seems to come, 0 for the node's own.
    pub(in crate::sim) fn send(&mut self, kind: NatKind, seed: u64, own: u32, to: NodeRef, now: Time) -> u8 {
        if kind != NatKind::Open {
            self.0.get_or_insert_default().note(kind.session(to), now);
        }
        kind.external_port(seed, own, to)
    }

    /// Whether a packet that `from` seems to have sent to a port of node `own` gets through to it.
    pub(in crate::sim) fn admits(
        &self,
        kind: NatKind,
        seed: u64,
        own: u32,
        from: NodeRef,
        port: u8,
        now: Time,
    ) -> bool {
        let open = || self.0.as_ref().is_some_and(|sessions| sessions.is_open(kind.session(from), now));
        port == kind.external_port(seed, own, from) && (kind == NatKind::Open || open())
    }
}

impl Sessions {
    fn is_open(&self, session: u32, now: Time) -> bool {
        self.sent.binary_search_by_key(&session, |(other, _)| *other).is_ok_and(|at| lasts(self.sent[at].1, now))
    }

    fn note(&mut self, session: u32, now: Time) {
        match self.sent.binary_search_by_key(&session, |(other, _)| *other) {
            Ok(at) => self.sent[at].1 = now.0,
            Err(_) => {
                if self.sent.len() >= self.sweep_at.max(FIRST_SWEEP) {
                    self.sweep(now);
                }
                let at = self.sent.partition_point(|(other, _)| *other < session);
                self.sent.insert(at, (session, now.0));
            }
        }
    }

    /// Forgets the sessions whose time is over, and if that makes no room, the one that has been idle for longest.
    fn sweep(&mut self, now: Time) {
        self.sent.retain(|(_, last)| lasts(*last, now));
        if self.sent.len() >= MAX_SESSIONS
            && let Some(at) = (0..self.sent.len()).min_by_key(|at| self.sent[*at].1)
        {
            self.sent.remove(at);
        }
        // Doubling keeps the cost of sweeping constant for each session taken in.
        self.sweep_at = (self.sent.len() * 2).clamp(FIRST_SWEEP, MAX_SESSIONS);
        self.sent.shrink_to(self.sweep_at);
    }
}

fn lasts(last: u64, now: Time) -> bool {
    now.since(Time(last)) < MAPPING_LASTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::population::handle;

    const SEED: u64 = 5;
    const OWN: u32 = 9;

    /// Whether a packet from a port of a node, sent to a port of ours, gets in at a second.
    fn admits(nat: &Nat, kind: NatKind, from: NodeRef, port: u8, second: u64) -> bool {
        nat.admits(kind, SEED, OWN, from, port, Time::from_secs(second))
    }

    #[test]
    fn who_gets_in_and_for_how_long() {
        use NatKind::{FullCone, Open, Restricted, Symmetric};
        // We send to node 20 at its own port at 0 s, and at 100 s to node 30 at its port 3.
        let (friend, other, stranger) = (handle(20, 0), handle(30, 3), handle(40, 0));
        // Kind, and whether those get in: before anything was sent; then friend, friend from another port, other and
        // stranger at 119 s; and friend and other at 120 s and 219 s.
        let table = [
            (Open, true, [true, true, true, true], [true, true], [true, true]),
            (FullCone, false, [true, true, true, true], [true, true], [true, true]),
            (Restricted, false, [true, true, true, false], [false, true], [false, true]),
            (Symmetric, false, [true, false, true, false], [false, true], [false, true]),
        ];
        for (kind, before, at_119, at_120, at_219) in table {
            let mut nat = Nat::default();
            let port = |to| kind.external_port(SEED, OWN, to);
            assert_eq!(admits(&nat, kind, friend, port(friend), 0), before, "{kind:?}");
            assert_eq!(nat.send(kind, SEED, OWN, friend, Time::ZERO), port(friend));
            assert_eq!(nat.send(kind, SEED, OWN, other, Time::from_secs(100)), port(other));
            let moved = handle(20, 7);
            // The stranger and the friend at another port try the port that is open to the friend.
            let from = [(friend, friend), (moved, friend), (other, other), (stranger, friend)];
            let seen = from.map(|(from, by)| admits(&nat, kind, from, port(by), 119));
            assert_eq!(seen, at_119, "{kind:?}");
            let seen = |nat: &Nat, second| [friend, other].map(|from| admits(nat, kind, from, port(from), second));
            assert_eq!(seen(&nat, 120), at_120, "{kind:?}");
            assert_eq!(seen(&nat, 219), at_219, "{kind:?}");
            // All is over two minutes after the last packet, and comes back with another one.
            let open = kind == Open;
            assert_eq!(seen(&nat, 220), [open, open], "{kind:?}");
            nat.send(kind, SEED, OWN, friend, Time::from_secs(300));
            assert!(seen(&nat, 301)[0], "{kind:?}");
            // What comes in keeps nothing open; and a port that nothing was sent from is closed.
            assert_eq!(seen(&nat, 420)[0], open, "{kind:?}");
            assert!(!admits(&nat, kind, friend, port(friend).wrapping_add(1), 301), "{kind:?}");
            assert_eq!(kind == Symmetric, port(friend) != 0);
            assert_eq!(nat.0.is_none(), open, "nothing is allocated for an open node");
        }
    }

    #[test]
    fn a_symmetric_one_has_a_port_for_each_destination() {
        let ports: Vec<u8> = (0..1000).map(|to| NatKind::Symmetric.external_port(SEED, OWN, handle(to, 0))).collect();
        let mut distinct = ports.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(!distinct.contains(&0) && distinct.len() > 240, "{}", distinct.len());
        let again: Vec<u8> = (0..1000).map(|to| NatKind::Symmetric.external_port(SEED, OWN, handle(to, 0))).collect();
        assert_eq!(ports, again);
    }

    #[test]
    fn sessions_are_bounded_and_swept() {
        let mut nat = Nat::default();
        let kind = NatKind::Restricted;
        for to in 0..3000 {
            nat.send(kind, SEED, OWN, handle(to, 0), Time(to as u64));
        }
        assert_eq!(nat.0.as_ref().unwrap().sent.len(), MAX_SESSIONS);
        assert!(!admits(&nat, kind, handle(3000 - MAX_SESSIONS - 1, 0), 0, 1), "the oldest went");
        assert!(admits(&nat, kind, handle(3000 - MAX_SESSIONS, 0), 0, 1));
        nat.send(kind, SEED, OWN, handle(5000, 0), Time::from_secs(1000));
        let sessions = nat.0.as_ref().unwrap();
        assert_eq!(sessions.sent, [(5000, 1_000_000_000)]);
        assert!(sessions.sent.capacity() <= FIRST_SWEEP);
    }

    #[test]
    fn shares_come_out_and_bootnodes_are_open() {
        let shares = NatShares { full_cone: 0.2, restricted: 0.4, symmetric: 0.1 };
        let kinds: Vec<NatKind> = (ALWAYS_OPEN..20_000).map(|node| shares.kind(SEED, node)).collect();
        let share = |kind| kinds.iter().filter(|other| **other == kind).count() as f64 / kinds.len() as f64;
        assert!((share(NatKind::FullCone) - 0.2).abs() < 0.01);
        assert!((share(NatKind::Restricted) - 0.4).abs() < 0.01);
        assert!((share(NatKind::Symmetric) - 0.1).abs() < 0.01);
        let all = NatShares { symmetric: 1.0, ..NatShares::default() };
        assert!((0..ALWAYS_OPEN).all(|node| all.kind(SEED, node) == NatKind::Open));
        assert!((ALWAYS_OPEN..1000).all(|node| all.kind(SEED, node) == NatKind::Symmetric));
        assert!((0..1000).all(|node| NatShares::default().kind(SEED, node) == NatKind::Open));
    }
}
