//! Which of the nodes that are remembered are tried first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::proto::identity::Prefix;

/// Seeds of one /24 of IPv4 or /64 of IPv6: somebody who fills a network with nodes must not be all that is remembered.
/// Loopback and private networks are exempt, as in the table.
const PER_PREFIX: u8 = 2;

/// Acquaintance beyond this counts no more: 30 days.
const LONG: u64 = 30 * 24;

/// What the choice depends on. Times are in seconds of Unix time.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    pub(super) first_seen: u64,
    pub(super) last_seen: u64,
    pub(super) successes: u64,
    pub(super) failures: u64,
}

impl History {
    /// How promising a node is, seen from the newest answer of any.
    ///
    /// Nodes that were up long stay up long (Saroiu, Gummadi and Gribble 2002), so the time between its first and its
    /// last answer counts, in doublings of hours; the share of its successes, taking one of each for granted, for those
    /// that come and go; and a node that has been silent for n days is worth a part in n + 1 of what it was.
    pub(super) fn score(&self, newest: u64) -> f64 {
        let acquaintance = (self.last_seen.saturating_sub(self.first_seen) / 3600).min(LONG);
        let standing = 1.0 + (1.0 + acquaintance as f64).log2();
        let (successes, failures) = (self.successes as f64, self.failures as f64);
        let reliability = (successes + 1.0) / (successes + failures + 2.0);
        let silent_days = newest.saturating_sub(self.last_seen) as f64 / 86_400.0;
        standing * reliability / (1.0 + silent_days)
    }
}

/// Spreads seeds over networks.
#[derive(Debug, Default)]
pub(super) struct Spread(BTreeMap<Prefix, u8>);

impl Spread {
    /// Whether one more of this network is wanted.
    pub(super) fn admits(&mut self, ip: IpAddr) -> bool {
        let Some(prefix) = Prefix::limited(ip, true) else { return true };
        let taken = self.0.entry(prefix).or_default();
        if *taken == PER_PREFIX {
            return false;
        }
        *taken += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    const NOW: u64 = 1_700_000_000;

    fn score(known: u64, silent: u64, successes: u64, failures: u64) -> f64 {
        let last_seen = NOW - silent;
        History { first_seen: last_seen - known, last_seen, successes, failures }.score(NOW)
    }

    #[test]
    fn old_reliable_and_recent_ones_come_first() {
        // Each is better than the next one.
        let order = [
            score(30 * DAY, 0, 2000, 3),
            score(3 * DAY, HOUR, 300, 0),
            score(30 * DAY, 0, 50, 50),
            score(5 * HOUR, 0, 5, 0),
            score(30 * DAY, 3 * DAY, 2000, 0),
            score(HOUR, 0, 2, 1),
            score(0, 0, 1, 0),
            score(30 * DAY, 20 * DAY, 2000, 0),
            score(0, DAY, 1, 0),
            score(0, 29 * DAY, 1, 9),
        ];
        assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
        assert_eq!(score(31 * DAY, 0, 9, 0), score(300 * DAY, 0, 9, 0));
    }

    #[test]
    fn nonsense_is_no_trouble() {
        // As a damaged file, or a clock that was wrong, may have it.
        let worst = History { first_seen: u64::MAX, last_seen: 0, successes: 0, failures: u64::MAX };
        let best = History { first_seen: 0, last_seen: u64::MAX, successes: u64::MAX, failures: 0 };
        for newest in [0, NOW, u64::MAX] {
            assert!(worst.score(newest).is_finite() && best.score(newest).is_finite());
        }
    }

    #[test]
    fn two_of_a_network() {
        let mut spread = Spread::default();
        let mut admits = |text: &str| spread.admits(text.parse().unwrap());
        let asked = ["1.2.3.4", "1.2.3.5", "1.2.3.6", "1.2.4.6", "2a00::1", "2a00::2", "2a00::3", "2a00:0:0:1::3"];
        assert_eq!(asked.map(&mut admits), [true, true, false, true, true, true, false, true]);
        assert!(["127.0.0.1", "10.0.0.1", "fd00::1"].iter().all(|ip| (0..5).all(|_| admits(ip))));
    }
}
