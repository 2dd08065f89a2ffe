//! Sleeps and moves: what a clock that jumps, and addresses of this host that change, say about our proofs.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::proto::time::Time;

/// Addresses of this host, one for each family.
type Host = (Option<Ipv4Addr>, Option<Ipv6Addr>);

/// How often the loop wakes at least, and the addresses of this host are looked at. A look takes some microseconds.
const EVERY: Duration = Duration::from_secs(5);

/// A loop that wakes so long after it should have, or a clock that is so far ahead, was asleep. Less than that bonds and
/// requests outlive. Since it wants to wake every five seconds, it notices each sleep of ten.
pub(super) const SLEEP: Duration = Duration::from_secs(5);

/// Why all proofs are to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing was done for so long.
    Slept(Duration),
    /// This host has other addresses.
    Moved(Host),
}

/// Looks out for both.
pub(super) struct Watch {
    /// `None` for a socket that is bound to one address, which cannot change.
    host: Option<Host>,
    look: fn() -> Host,
    next: Time,
}

impl Watch {
    /// Begins with the addresses as they are.
    pub(super) fn new(host: Option<Host>, look: fn() -> Host) -> Self {
        Self { host, look, next: Time::ZERO + EVERY }
    }

    /// When the loop has to wake at the latest.
    pub(super) fn deadline(&self) -> Time {
        self.next
    }

    /// What has happened, now that the loop is awake which had something to do at `due`.
    pub(super) fn wake(&mut self, due: Time, now: Time) -> Option<Cause> {
        let asleep = now.since(due.min(self.next));
        if now < self.next && asleep < SLEEP {
            return None;
        }
        self.next = now + EVERY;
        if asleep >= SLEEP {
            return Some(Cause::Slept(asleep));
        }
        let known = self.host?;
        let host = (self.look)();
        // A network that is gone for a moment is no move.
        if host == known || host == (None, None) {
            return None;
        }
        self.host = Some(host);
        Some(Cause::Moved(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::from_secs(secs)
    }

    #[test]
    fn a_move_is_told_once_and_a_network_that_is_gone_for_a_moment_is_none() {
        const HOME: Host = (Some(Ipv4Addr::new(192, 168, 1, 2)), None);
        const CAFE: Host = (Some(Ipv4Addr::new(10, 0, 0, 7)), None);
        let mut watch = Watch::new(Some(HOME), || HOME);
        let wake = |watch: &mut Watch, secs, look: fn() -> Host| {
            watch.look = look;
            watch.wake(Time::NEVER, at(secs))
        };
        assert_eq!(watch.deadline(), at(5));
        assert_eq!(wake(&mut watch, 4, || CAFE), None, "it is looked at every five seconds");
        assert_eq!(wake(&mut watch, 5, || HOME), None);
        assert_eq!(watch.deadline(), at(10));
        assert_eq!(wake(&mut watch, 10, || (None, None)), None);
        assert_eq!(wake(&mut watch, 15, || HOME), None);
        assert_eq!(wake(&mut watch, 20, || CAFE), Some(Cause::Moved(CAFE)));
        assert_eq!(wake(&mut watch, 25, || CAFE), None);
    }

    #[test]
    fn a_loop_that_wakes_late_was_asleep() {
        let mut watch = Watch::new(None, || panic!("there is nothing to look at"));
        assert_eq!(watch.wake(at(1), at(5)), None);
        assert_eq!(watch.wake(at(9), at(9)), None);
        assert_eq!(watch.deadline(), at(10), "it was awake in between, and looks all the same");
        assert_eq!(watch.wake(at(8), at(13)), Some(Cause::Slept(Duration::from_secs(5))));
        assert_eq!(watch.deadline(), at(18));
        // With nothing to do it would have been awake at 18 s.
        assert_eq!(watch.wake(at(60), at(23)), Some(Cause::Slept(Duration::from_secs(5))));
        assert_eq!(watch.wake(at(60), at(24)), None);
    }
}
