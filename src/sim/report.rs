//! The figures of an experiment.

/// A sample in a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard error of the mean.
    pub se: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of these values; all zero when there is none. A percentile is the smallest value that this share does not exceed.
    pub fn of(mut values: Vec<f64>) -> Self {
        let count = values.len();
        if count == 0 {
            return Self::default();
        }
        values.sort_unstable_by(f64::total_cmp);
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let se = if count < 2 { 0.0 } else { (squares / (count - 1) as f64 / count as f64).sqrt() };
        let at = |share: f64| values[((count as f64 * share).ceil() as usize).clamp(1, count) - 1];
        Self { mean, se, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: values[count - 1] }
    }
}

/// What came of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Nodes of the network.
    pub nodes: usize,
    /// Lookups made.
    pub lookups: usize,
    /// What all randomness followed from.
    pub seed: u64,
    /// One number for all that every node saw, and when.
    pub event_hash: u64,
    /// Share of the lookups that ended.
    pub answered: f64,
    /// Depth of the responder that first named the nearest node found; 0: it was in the asker's own table.
    pub hops: Summary,
    /// Share of the lookups at 0, 1, 2, … hops.
    pub hop_shares: Vec<f64>,
    /// FINDNODEs a lookup.
    pub queries: Summary,
    /// Milliseconds a lookup.
    pub took_ms: Summary,
    /// Share of the lookups that found the nearest node alive.
    pub found_closest: f64,
    /// Share of the lookups that found all k nearest nodes alive, and nothing else.
    pub found_all: f64,
    /// Messages sent by all nodes, from the start.
    pub messages: u64,
    /// Events handled: packets, wake-ups, commands.
    pub events: u64,
    /// Bytes sent; known at wire fidelity only.
    pub bytes: u64,
    /// Virtual time that has passed.
    pub simulated_seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        assert_eq!(Summary::of(vec![]), Summary::default());
        let one = Summary::of(vec![3.0]);
        assert_eq!((one.mean, one.se, one.p50, one.max), (3.0, 0.0, 3.0, 3.0));
        let summary = Summary::of((1..=100).map(f64::from).collect());
        assert_eq!((summary.mean, summary.p50, summary.p90, summary.p99, summary.max), (50.5, 50.0, 90.0, 99.0, 100.0));
        // The standard deviation of 1 to 100 is 29.01.
        assert!((summary.se - 2.901).abs() < 0.001);
    }
}
