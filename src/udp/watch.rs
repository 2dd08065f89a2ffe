//! Sleeps and moves: what a clock that jumps, and addresses of this host that change, say about our proofs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    /// Whether the socket has to do with IPv6.
    ipv6: bool,
    look: fn() -> Host,
    next: Time,
}

impl Watch {
    /// Begins with the addresses as they are, for a socket that is bound to `bound`.
    pub(super) fn new(bound: IpAddr, host: Host, look: fn() -> Host) -> Self {
        let host = bound.is_unspecified().then_some(host);
        Self { host, ipv6: bound.is_ipv6(), look, next: Time::ZERO + EVERY }
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
        let (v4, v6) = (self.look)();
        // A network that is gone for a moment is no move.
        let host = (v4.or(known.0), v6.filter(|_| self.ipv6).or(known.1));
        if host == known {
            return None;
        }
        self.host = Some(host);
        Some(Cause::Moved(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Host = (Some(Ipv4Addr::new(192, 168, 1, 2)), None);
    const CAFE: Host = (Some(Ipv4Addr::new(10, 0, 0, 7)), None);
    const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

    fn at(secs: u64) -> Time {
        Time::from_secs(secs)
    }

    fn wake(watch: &mut Watch, secs: u64, look: fn() -> Host) -> Option<Cause> {
        watch.look = look;
        watch.wake(Time::NEVER, at(secs))
    }

    #[test]
    fn a_move_is_told_once_and_a_network_that_is_gone_for_a_moment_is_none() {
        let mut watch = Watch::new(ANY[0], HOME, || HOME);
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
    fn each_family_moves_for_itself_and_none_where_it_is_not_heard() {
        const fn both(last: u16) -> Host {
            (HOME.0, Some(Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, last)))
        }
        let [mut v4, mut v6] = ANY.map(|any| Watch::new(any, both(1), || both(1)));
        let mut wake = |secs, look: fn() -> Host| [wake(&mut v4, secs, look), wake(&mut v6, secs, look)];
        assert_eq!(wake(5, || both(1)), [None, None]);
        assert_eq!(wake(10, || HOME), [None, None], "gone for a moment");
        assert_eq!(wake(15, || both(1)), [None, None]);
        assert_eq!(wake(20, || both(2)), [None, Some(Cause::Moved(both(2)))]);
        assert_eq!(wake(25, || (None, both(2).1)), [None, None]);
        let moved = (CAFE.0, both(2).1);
        assert_eq!(wake(30, || CAFE), [Some(Cause::Moved((CAFE.0, both(1).1))), Some(Cause::Moved(moved))]);
    }

    #[test]
    fn a_socket_that_is_bound_to_one_address_stays_there() {
        let mut watch = Watch::new(Ipv4Addr::new(192, 168, 1, 2).into(), HOME, || HOME);
        assert_eq!(wake(&mut watch, 5, || panic!("there is nothing to look at")), None);
        assert_eq!(watch.deadline(), at(10));
    }

    #[test]
    fn a_loop_that_wakes_late_was_asleep() {
        let mut watch = Watch::new(ANY[0], HOME, || HOME);
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
