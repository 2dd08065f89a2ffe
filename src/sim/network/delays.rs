//! When the copies of a packet arrive.

use crate::sim::network::Network;
use crate::sim::random::{mix, unit};

impl Network {
    /// Whether a packet is lost, given its 64 random bits.
    pub(in crate::sim) fn loses(&self, random: u64) -> bool {
        unit(random) < self.loss
    }

    /// How long a packet is under way and, if it arrives twice, how long its copy is, in microseconds: never shorter
    /// than `latency`, which is that of its exchange. The bits are those of the packet, so a request and its answer are
    /// held up each for itself.
    pub(in crate::sim) fn delays(&self, latency: u32, random: u64) -> (u64, Option<u64>) {
        let latency = u64::from(latency);
        let part = |whole: f64, salt: u64| (whole * unit(mix(random, salt))) as u64;
        let happens = |share: f64, salt: u64| share > 0.0 && unit(mix(random, salt)) < share;
        let mut delay = latency;
        if self.jitter > 0.0 {
            delay += part(self.jitter * 1000.0, 3);
        }
        if happens(self.reorder, 4) {
            delay += part(latency as f64, 5);
        }
        let copy = happens(self.duplicate, 6).then(|| delay + part(latency as f64, 7));
        (delay, copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_disturbance_has_its_share_and_its_bounds() {
        let calm = Network::new("constant:50".parse().unwrap());
        assert_eq!(calm.delays(50_000, 7), (50_000, None));
        let draws = |network: Network| -> Vec<(u64, Option<u64>)> {
            (0..10_000).map(|n| network.delays(50_000, mix(1, n))).collect()
        };
        let late = |draws: &[(u64, Option<u64>)]| {
            let mut late: Vec<u64> = draws.iter().map(|(delay, _)| delay - 50_000).collect();
            late.sort_unstable();
            late
        };

        let jitter = draws(Network { jitter: 10.0, ..calm.clone() });
        let lateness = late(&jitter);
        assert!(lateness[0] < 10 && lateness[9_999] < 10_000 && lateness[9_999] > 9_900);
        assert!(lateness[5_000].abs_diff(5_000) < 200);
        assert!(jitter.iter().all(|(_, copy)| copy.is_none()));

        let reordered = late(&draws(Network { reorder: 0.25, ..calm.clone() }));
        assert!(reordered.iter().filter(|late| **late > 0).count().abs_diff(2_500) < 150);
        assert!(reordered[9_999] < 50_000 && reordered[9_999] > 49_000);

        let twice = draws(Network { duplicate: 0.1, ..calm });
        assert_eq!(late(&twice)[9_999], 0, "the first to arrive is not held up");
        let copies: Vec<u64> = twice.iter().filter_map(|(_, copy)| *copy).collect();
        assert!(copies.len().abs_diff(1_000) < 100);
        assert!(copies.iter().all(|copy| (50_000..100_000).contains(copy)));
    }
}
