//! What a network cannot be.

use thiserror::Error;

use crate::sim::network::{Latency, Network};

/// The longest jitter in milliseconds, which is also the longest constant latency.
const MAX_JITTER_MS: f64 = 60_000.0;

/// The most seconds by which a clock is wrong: a year, so that Unix times keep their length on the wire.
const MAX_CLOCK_SECONDS: f64 = 365.0 * 86_400.0;

/// Shares that are written as decimals may add up to a little more than 1.
const ROUNDING: f64 = 1e-9;

/// Why there is no such network.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NetworkError {
    /// Nothing that could be waited for.
    #[error("the latency has to be at least 1 microsecond and at most a minute")]
    Latency,
    /// Not that long, or no number.
    #[error("the jitter is from 0 to 60000 milliseconds, not {0}")]
    Jitter(f64),
    /// With all packets nothing would ever arrive, or come to an end.
    #[error("{0} is a share from 0 to below 1, not {1}")]
    Share(&'static str, f64),
    /// Not a share of the nodes.
    #[error("the share of the nodes {0} is from 0 to 1, not {1}")]
    Nodes(&'static str, f64),
    /// More than all nodes.
    #[error("the shares of the nodes behind address translators add up to {0}, more than 1")]
    Nat(f64),
    /// Not that wrong, or no number.
    #[error("wrong clocks are off by 0 to 31536000 seconds, not {0}")]
    Clocks(f64),
    /// A span of time that ends before it begins.
    #[error("the partition ends before it begins")]
    Partition,
}

impl Network {
    /// Says what is impossible about the network, if anything.
    ///
    /// # Errors
    /// A sentence that names the setting and what it may be.
    pub fn check(&self) -> Result<(), NetworkError> {
        // Constructed by hand it could be anything; a text is checked when it is read.
        if self.latency.to_string().parse::<Latency>().is_err() {
            return Err(NetworkError::Latency);
        }
        if !(0.0..=MAX_JITTER_MS).contains(&self.jitter) {
            return Err(NetworkError::Jitter(self.jitter));
        }
        let shares = [("the loss", self.loss), ("duplication", self.duplicate), ("reordering", self.reorder)];
        for (name, share) in shares {
            if !(0.0..1.0).contains(&share) {
                return Err(NetworkError::Share(name, share));
            }
        }
        let nodes = [
            ("behind full cone NAT", self.nat.full_cone),
            ("behind restricted NAT", self.nat.restricted),
            ("behind symmetric NAT", self.nat.symmetric),
            ("with wrong clocks", self.clocks.share),
        ];
        for (name, share) in nodes {
            if !(0.0..=1.0).contains(&share) {
                return Err(NetworkError::Nodes(name, share));
            }
        }
        let behind = self.nat.full_cone + self.nat.restricted + self.nat.symmetric;
        if behind > 1.0 + ROUNDING {
            return Err(NetworkError::Nat(behind));
        }
        if !(0.0..=MAX_CLOCK_SECONDS).contains(&self.clocks.seconds) {
            return Err(NetworkError::Clocks(self.clocks.seconds));
        }
        if self.partition.is_some_and(|split| split.until < split.from) {
            return Err(NetworkError::Partition);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::Time;
    use crate::sim::network::{NatShares, Partition, WrongClocks};

    fn refused(change: impl FnOnce(&mut Network)) -> String {
        let mut network = Network::new(Latency::Plane);
        change(&mut network);
        network.check().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence() {
        let network = Network {
            jitter: 60_000.0,
            loss: 0.99,
            duplicate: 0.99,
            reorder: 0.99,
            nat: NatShares { full_cone: 0.7, restricted: 0.1, symmetric: 0.2 },
            clocks: WrongClocks { share: 1.0, seconds: 31_536_000.0 },
            partition: Some(Partition { boundary: 0, from: Time(5), until: Time(5) }),
            ..Network::new(Latency::Plane)
        };
        assert_eq!(network.check(), Ok(()));
        let latency = "the latency has to be at least 1 microsecond and at most a minute";
        assert_eq!(refused(|n| n.latency = Latency::Constant { ms: 0.0 }), latency);
        assert_eq!(refused(|n| n.latency = Latency::Uniform { low: 2.0, high: 1.0 }), latency);
        assert_eq!(refused(|n| n.latency = Latency::Constant { ms: f64::INFINITY }), latency);
        assert_eq!(refused(|n| n.jitter = -1.0), "the jitter is from 0 to 60000 milliseconds, not -1");
        assert_eq!(refused(|n| n.jitter = f64::NAN), "the jitter is from 0 to 60000 milliseconds, not NaN");
        assert_eq!(refused(|n| n.jitter = 60_001.0), "the jitter is from 0 to 60000 milliseconds, not 60001");
        assert_eq!(refused(|n| n.loss = 1.0), "the loss is a share from 0 to below 1, not 1");
        assert_eq!(refused(|n| n.duplicate = -0.1), "duplication is a share from 0 to below 1, not -0.1");
        assert_eq!(refused(|n| n.reorder = f64::NAN), "reordering is a share from 0 to below 1, not NaN");
        assert_eq!(
            refused(|n| n.nat.symmetric = 1.5),
            "the share of the nodes behind symmetric NAT is from 0 to 1, not 1.5"
        );
        assert_eq!(
            refused(|n| n.nat = NatShares { full_cone: 0.5, restricted: 0.75, symmetric: 0.0 }),
            "the shares of the nodes behind address translators add up to 1.25, more than 1"
        );
        assert_eq!(
            refused(|n| n.clocks.share = -1.0),
            "the share of the nodes with wrong clocks is from 0 to 1, not -1"
        );
        assert_eq!(
            refused(|n| n.clocks.seconds = 1e9),
            "wrong clocks are off by 0 to 31536000 seconds, not 1000000000"
        );
        let split = Partition { boundary: 1, from: Time(2), until: Time(1) };
        assert_eq!(refused(|n| n.partition = Some(split)), "the partition ends before it begins");
    }
}
