//! The settings of an experiment.

use std::time::Duration;

use thiserror::Error;

use super::churn::{SHAPES, Sessions};
use super::network::{Latency, Network, NetworkError};
use super::population::MAX_NODES;
use super::warm::Choice;
use super::world::Fidelity;
use crate::proto::config::{Config, ConfigError, K};

/// How the tables come to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Every node joins by the protocol, as [`Arrivals`] says.
    Join,
    /// Tables are filled from the list of all nodes.
    Warm,
}

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A random point of the ID space.
    Random,
    /// The key of a random node.
    Node,
}

/// How nodes join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// All join within this time, evenly spread. `None`: 1,000 a second, but within 10 s at least.
    pub within: Option<Duration>,
    /// Whom a node knows when it starts.
    pub contacts: Contacts,
    /// Nodes that are the bootnodes: the first ones.
    pub bootnodes: usize,
    /// When they start, since the beginning.
    pub bootnodes_after: Duration,
}

/// Whom a node knows when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contacts {
    /// The bootnodes.
    Bootnodes,
    /// The node before it; the first one knows the last.
    Ring,
}

/// What happens to the network beside the lookups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Course {
    /// Nothing.
    Quiet,
    /// Nodes come and go from when the tables are filled. There are twice as many nodes as [`Setup::nodes`] says, half of
    /// them at a time; bootnodes never leave. Whoever comes back has its key and its address and no memory.
    Churn(Sessions),
    /// When the tables are filled the network splits in the middle of the node numbers, and heals when the lookups
    /// begin. Every other lookup is for the key of a node of the other side.
    Split {
        /// How long it is split.
        lasts: Duration,
    },
}

/// The settings of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Nodes of the network.
    pub nodes: usize,
    /// Lookups, each by a random node.
    pub lookups: usize,
    /// What all randomness follows from.
    pub seed: u64,
    /// How real the packets are.
    pub fidelity: Fidelity,
    /// How tables are filled.
    pub fill: Fill,
    /// How nodes join, first and when they come back.
    pub arrivals: Arrivals,
    /// Where nodes join, the time from the last one's start until the lookups begin, 1 min by default. Tables are full by
    /// then, and go on becoming more diverse and a fairer sample for a quarter of an hour.
    pub settle: Duration,
    /// Which nodes a full bucket holds, where tables are filled from the list.
    pub choice: Choice,
    /// What the network between the nodes is like.
    pub network: Network,
    /// What happens to it.
    pub course: Course,
    /// Share of the nodes that fall silent at the moment at which the lookups begin. They stand in the tables then, and
    /// answer no longer.
    pub dead: f64,
    /// Share of the nodes that are Sybils from the beginning, the bootnodes not among them: each a member of the network at
    /// an address of its own, which keeps to the protocol, but answers FINDNODE with those Sybils that are nearest to the
    /// target. They make no lookups of those that are counted, and count as nodes that no lookup is after.
    pub sybils: f64,
    /// The time over which the lookups are evenly spread. `None`: one each 5 ms.
    pub watch: Option<Duration>,
    /// Joiners whose keys are looked up while they join, to see how soon they are found. It takes [`Fill::Join`] and no
    /// churn, and costs 7 lookups each.
    pub probes: usize,
    /// Concurrent requests of a lookup.
    pub alpha: usize,
    /// Disjoint paths of a lookup.
    pub paths: usize,
    /// Entries of a bucket, and nodes that a lookup is after.
    pub k: usize,
    /// What is looked up.
    pub target: Target,
    /// Threads to run on; the result does not depend on it.
    pub threads: usize,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { within: None, contacts: Contacts::Bootnodes, bootnodes: 4, bootnodes_after: Duration::ZERO }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 1000,
            lookups: 1000,
            seed: 1,
            fidelity: Fidelity::Message,
            fill: Fill::Join,
            arrivals: Arrivals::default(),
            settle: Duration::from_mins(1),
            choice: Choice::Diverse,
            network: Network::new(Latency::Uniform { low: 25.0, high: 75.0 }),
            course: Course::Quiet,
            dead: 0.0,
            sybils: 0.0,
            watch: None,
            probes: 0,
            alpha: 3,
            paths: 1,
            k: K,
            target: Target::Random,
            threads: 1,
        }
    }
}

/// Settings that cannot be.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SetupError {
    /// No network of less than two nodes, nor of more than have an address.
    #[error("a network has from 2 to {MAX_NODES} nodes, not {0}")]
    Nodes(usize),
    /// Nothing to measure.
    #[error("the number of lookups has to be at least 1")]
    Lookups,
    /// Nobody to join through.
    #[error("the number of bootnodes has to be from 1 to 1024, not {0}")]
    Bootnodes(usize),
    /// Not a share.
    #[error("the share of the dead is a share from 0 to below 1, not {0}")]
    Dead(f64),
    /// Not a share that leaves anybody.
    #[error("the share of the Sybils is a share from 0 to 0.9, not {0}")]
    Sybils(f64),
    /// Too short, or too long to be simulated.
    #[error("{0} has to be from 1 second to 30 days, not {seconds} s", seconds = _1.as_secs_f64())]
    Time(&'static str, Duration),
    /// No distribution that could be drawn from.
    #[error("the shape of the sessions has to be from {min} to {max}, not {0}", min = SHAPES.start(), max = SHAPES.end())]
    Shape(f64),
    /// They would come back.
    #[error("nodes that come and go cannot be dead as well")]
    DeadInChurn,
    /// The network between the nodes.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The engine's settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The longest time that a setting may have.
const LONGEST: Duration = Duration::from_hours(30 * 24);

impl Setup {
    /// Says what is impossible about the settings, if anything.
    ///
    /// # Errors
    /// A sentence that names the setting and what it may be.
    pub fn check(&self) -> Result<(), SetupError> {
        if self.nodes < 2 || self.nodes > MAX_NODES || self.population() > MAX_NODES {
            return Err(SetupError::Nodes(self.nodes));
        }
        if self.lookups == 0 {
            return Err(SetupError::Lookups);
        }
        if !(1..=1024).contains(&self.arrivals.bootnodes) {
            return Err(SetupError::Bootnodes(self.arrivals.bootnodes));
        }
        if !(0.0..1.0).contains(&self.dead) {
            return Err(SetupError::Dead(self.dead));
        }
        if !(0.0..=0.9).contains(&self.sybils) {
            return Err(SetupError::Sybils(self.sybils));
        }
        if !self.arrivals.bootnodes_after.is_zero() {
            check_time("the time until the bootnodes start", self.arrivals.bootnodes_after)?;
        }
        check_time("the time to settle", self.settle)?;
        for (name, time) in [("the time to join", self.arrivals.within), ("the time of the lookups", self.watch)] {
            time.map_or(Ok(()), |time| check_time(name, time))?;
        }
        match self.course {
            Course::Quiet => {}
            Course::Split { lasts } => check_time("the time of the split", lasts)?,
            Course::Churn(_) if self.dead > 0.0 => return Err(SetupError::DeadInChurn),
            Course::Churn(Sessions { shape, .. }) if !SHAPES.contains(&shape) => return Err(SetupError::Shape(shape)),
            Course::Churn(Sessions { median, .. }) => check_time("the median session", median)?,
        }
        self.network.check()?;
        Ok(self.config().check()?)
    }

    /// The settings of every engine.
    pub(super) fn config(&self) -> Config {
        let mut config = Config { fetch_records: false, ..Config::default() };
        config.votes.enabled = false;
        // Nobody floods, and a million nodes have no room for it.
        config.limits.sources = 0;
        // Of clocks too each node would keep what others say, in more memory than its table takes.
        config.alarms.skew = false;
        config.lookup.alpha = self.alpha;
        config.lookup.paths = self.paths;
        config.table.k = self.k;
        config.table.diverse = self.choice == Choice::Diverse;
        config
    }

    /// All who are there at some time.
    pub(super) fn population(&self) -> usize {
        match self.course {
            Course::Churn(_) => self.nodes.saturating_mul(2),
            Course::Quiet | Course::Split { .. } => self.nodes,
        }
    }

    /// Whether a node is one of the bootnodes.
    pub(super) fn is_bootnode(&self, node: usize) -> bool {
        self.arrivals.contacts == Contacts::Bootnodes && node < self.arrivals.bootnodes
    }

    /// Whom a node knows when it starts.
    pub(super) fn contacts(&self, node: usize) -> Vec<usize> {
        match self.arrivals.contacts {
            Contacts::Bootnodes => (0..self.arrivals.bootnodes.min(self.nodes)).collect(),
            Contacts::Ring => vec![node.checked_sub(1).unwrap_or(self.population() - 1)],
        }
    }

    /// When node `number` of those that join starts, in microseconds.
    pub(super) fn arrival(&self, node: usize, number: usize) -> u64 {
        match self.is_bootnode(node) {
            true => micros(self.arrivals.bootnodes_after),
            false => self.joined_within() * number as u64 / self.nodes as u64,
        }
    }

    /// When the last one starts, in microseconds.
    pub(super) fn last_arrival(&self) -> u64 {
        self.joined_within().max(micros(self.arrivals.bootnodes_after))
    }

    /// Microseconds between two lookups.
    pub(super) fn pace(&self) -> u64 {
        self.watch.map_or(LOOKUP_EVERY, |watch| (micros(watch) / self.lookups as u64).max(1))
    }

    fn joined_within(&self) -> u64 {
        self.arrivals.within.map_or((self.nodes as u64 * 1_000).max(10_000_000), micros)
    }
}

/// Lookups begin this many microseconds after one another.
const LOOKUP_EVERY: u64 = 5_000;

/// Of a time that was checked.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn check_time(name: &'static str, time: Duration) -> Result<(), SetupError> {
    if (Duration::from_secs(1)..=LONGEST).contains(&time) { Ok(()) } else { Err(SetupError::Time(name, time)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Setup)) -> String {
        let mut setup = Setup::default();
        change(&mut setup);
        setup.check().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_runs() {
        assert_eq!(Setup::default().check(), Ok(()));
        assert_eq!(refused(|s| s.nodes = 0), "a network has from 2 to 16777216 nodes, not 0");
        assert_eq!(refused(|s| s.lookups = 0), "the number of lookups has to be at least 1");
        assert_eq!(refused(|s| s.network.loss = 1.0), "the loss is a share from 0 to below 1, not 1");
        assert_eq!(refused(|s| s.dead = -0.1), "the share of the dead is a share from 0 to below 1, not -0.1");
        assert_eq!(refused(|s| s.sybils = 1.0), "the share of the Sybils is a share from 0 to 0.9, not 1");
        assert_eq!(refused(|s| s.alpha = 0), "the setting lookup.alpha is 0; it has to be at least 1");
        assert_eq!(refused(|s| s.paths = 9), "the setting lookup.paths is 9; a lookup goes along 1 to 8 paths");
        assert_eq!(refused(|s| s.k = 17), "the setting table.k is 17; a FINDNODE is answered with at most 16 nodes");
        assert!(refused(|s| s.network.latency = Latency::Constant { ms: 0.0 }).starts_with("the latency"));
        assert_eq!(refused(|s| s.arrivals.bootnodes = 0), "the number of bootnodes has to be from 1 to 1024, not 0");
        assert_eq!(
            refused(|s| s.watch = Some(Duration::ZERO)),
            "the time of the lookups has to be from 1 second to 30 days, not 0 s"
        );
        assert_eq!(
            refused(|s| s.settle = Duration::ZERO),
            "the time to settle has to be from 1 second to 30 days, not 0 s"
        );
        let churn = |shape, secs| Course::Churn(Sessions::weibull(shape, Duration::from_secs(secs)));
        assert_eq!(
            refused(|s| s.course = churn(0.1, 60)),
            "the shape of the sessions has to be from 0.2 to 10, not 0.1"
        );
        assert!(refused(|s| s.course = churn(0.5, 0)).starts_with("the median session has to be from 1 second"));
        assert_eq!(
            refused(|s| (s.course, s.dead) = (churn(0.5, 60), 0.2)),
            "nodes that come and go cannot be dead as well"
        );
        let too_many = refused(|s| (s.course, s.nodes) = (churn(0.5, 60), MAX_NODES));
        assert!(too_many.starts_with("a network has"), "{too_many}");
        assert!(refused(|s| s.course = Course::Split { lasts: Duration::MAX }).starts_with("the time of the split"));
    }
}
