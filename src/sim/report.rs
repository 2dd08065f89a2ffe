//! The figures of an experiment.

use super::world::Traffic;
use crate::proto::wire::MessageKind;

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
    /// Share of the entries of NEIGHBORS that were dead when they were sent, from when the lookups began.
    pub dead_told: f64,
    /// Traffic of all nodes, from the start.
    pub traffic: Traffic,
    /// What nodes send a minute, by kind of message, from when the lookups began.
    pub per_minute: Vec<KindRate>,
    /// Virtual time that has passed.
    pub simulated_seconds: f64,
    /// The tables at the end.
    pub census: Census,
    /// How the lookups fared in the course of time.
    pub moments: Vec<Moment>,
    /// Honest nodes that raised an alarm: too many IDs near their own, or of one network. Clocks are not watched.
    pub alarmed: usize,
    /// What Sybils came to; without Sybils, none.
    pub sybils: Option<SybilFigures>,
    /// How soon joiners were found; without joiners, none.
    pub joiners: Option<Joiners>,
}

/// What a node sends a minute of one kind of message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KindRate {
    /// Which kind.
    pub kind: MessageKind,
    /// Messages a node a minute.
    pub messages: f64,
    /// Bytes a node a minute, as on the wire without the headers of UDP and IP.
    pub bytes: f64,
}

/// Sybils in a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SybilFigures {
    /// How many there are.
    pub nodes: usize,
    /// Share of the entries of the honest nodes' tables that are Sybils, at the end.
    pub in_tables: f64,
    /// Share of the nodes that lookups found and that answered.
    pub in_results: f64,
    /// Share of the lookups that found no honest node.
    pub captured: f64,
}

/// The tables of all nodes that run, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// Nodes that run.
    pub running: usize,
    /// Entries of a table.
    pub entries: Summary,
    /// For each log distance at which anybody has a member, far first.
    pub buckets: Vec<BucketFill>,
    /// Share of the entries whose node is dead.
    pub stale: f64,
    /// Share of the nodes that are in the largest set in which everybody can be reached from everybody, entry by entry.
    pub connected: f64,
}

/// How full the buckets of one log distance are, over all tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BucketFill {
    /// Log distance, 1 to 256.
    pub log_distance: u16,
    /// Mean number of members.
    pub members: f64,
    /// Mean number of nodes that there are for it, at most k.
    pub possible: f64,
}

/// The lookups that began in a span of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The middle of the span, in seconds since the lookups began.
    pub seconds: f64,
    /// How many there were.
    pub lookups: usize,
    /// Share of them that found the nearest node alive.
    pub found_closest: f64,
    /// Share of them that found all k nearest nodes alive.
    pub found_all: f64,
    /// Mean hops.
    pub hops: f64,
}

/// How soon nodes that join are found by lookups for their keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Joiners {
    /// Seconds since the start of the joiner, or of the bootnodes where those are later, and the share of the lookups at that age that found it.
    pub found: Vec<(f64, f64)>,
    /// The first of those ages from which on at least 95 % were found.
    pub seconds_to_95: Option<f64>,
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
