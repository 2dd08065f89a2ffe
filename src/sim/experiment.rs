//! A lookup experiment: fill a network, look things up in it, and compare what is found with the truth.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use thiserror::Error;

use super::network::{Latency, Network};
use super::population::{MAX_NODES, Population, node_of};
use super::random::mix;
use super::report::{Census, Report, Summary};
use super::truth::Truth;
use super::warm::Choice;
use super::world::{Fidelity, World};
use crate::proto::config::{Config, ConfigError, K};
use crate::proto::engine::{Command, CommandId, LookupReport, Reply};
use crate::proto::identity::PublicKey;
use crate::proto::time::Time;

/// How the tables come to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Every node joins by the protocol, through four bootnodes.
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

/// The settings of an experiment.
#[derive(Clone, Debug)]
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
    /// Which nodes a full bucket holds, where tables are filled from the list.
    pub choice: Choice,
    /// One-way latency.
    pub latency: Latency,
    /// Share of the packets that are lost.
    pub loss: f64,
    /// Share of the nodes that are in the tables and no longer answer.
    pub dead: f64,
    /// Concurrent requests of a lookup.
    pub alpha: usize,
    /// Entries of a bucket, and nodes that a lookup is after.
    pub k: usize,
    /// What is looked up.
    pub target: Target,
    /// Threads to run on; the result does not depend on it.
    pub threads: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 1000,
            lookups: 1000,
            seed: 1,
            fidelity: Fidelity::Message,
            fill: Fill::Join,
            choice: Choice::Diverse,
            latency: Latency::Uniform { low: 25.0, high: 75.0 },
            loss: 0.0,
            dead: 0.0,
            alpha: 3,
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
    /// Not a share.
    #[error("{0} is a share from 0 to below 1, not {1}")]
    Share(&'static str, f64),
    /// Nothing that the latency could be waited for.
    #[error("the latency has to be at least 1 microsecond and at most a minute")]
    Latency,
    /// The engine's settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Lookups begin this many microseconds after one another.
const LOOKUP_EVERY: u64 = 5_000;

/// Time after the last node has come in, or the last lookup has begun, until all is settled, in seconds.
const SETTLE: u64 = 60;

/// Nodes that start at time 0 and are everybody's bootnodes.
const BOOTNODES: usize = 4;

impl Setup {
    /// Says what is impossible about the settings, if anything.
    ///
    /// # Errors
    /// A sentence that names the setting and what it may be.
    pub fn check(&self) -> Result<(), SetupError> {
        if !(2..=MAX_NODES).contains(&self.nodes) {
            return Err(SetupError::Nodes(self.nodes));
        }
        if self.lookups == 0 {
            return Err(SetupError::Lookups);
        }
        for (name, share) in [("the loss", self.loss), ("the share of the dead", self.dead)] {
            if !(0.0..1.0).contains(&share) {
                return Err(SetupError::Share(name, share));
            }
        }
        // Constructed by hand it could be anything; a text is checked when it is read.
        if self.latency.to_string().parse::<Latency>().is_err() {
            return Err(SetupError::Latency);
        }
        Ok(self.config().check()?)
    }

    fn config(&self) -> Config {
        let mut config = Config { fetch_records: false, ..Config::default() };
        config.votes.enabled = false;
        config.lookup.alpha = self.alpha;
        config.table.k = self.k;
        config.table.diverse = self.choice == Choice::Diverse;
        config
    }

    /// Runs the experiment. `progress` is told what is being done, and from 0 to 1 how far it is.
    ///
    /// # Errors
    /// When the settings are impossible.
    pub fn run(&self, mut progress: impl FnMut(&'static str, f64)) -> Result<Report, SetupError> {
        self.check()?;
        progress("keys", 0.0);
        let sign = self.fidelity == Fidelity::Wire;
        let population = Arc::new(Population::new(self.nodes, self.seed, sign, self.threads));
        let network = Network { loss: self.loss, ..Network::new(self.latency) };
        let mut world = World::new(population.clone(), self.config(), network, self.fidelity, self.seed, self.threads);
        self.fill(&mut world, &mut progress);
        let mut rng = StdRng::seed_from_u64(mix(self.seed, 0x6c6f_6f6b));
        let alive = self.bury(&mut world, &mut rng);
        let targets = self.schedule(&mut world, &alive, &mut rng);
        let end = world.now().0 + targets.len() as u64 * LOOKUP_EVERY + SETTLE * 1_000_000;
        advance(&mut world, Time(end), "lookups", &mut progress);

        let truth = Truth::new(alive.iter().map(|&node| (*population.id(node), node as u32)));
        Ok(self.report(&mut world, &truth))
    }

    fn fill(&self, world: &mut World, progress: &mut impl FnMut(&'static str, f64)) {
        match self.fill {
            Fill::Warm => {
                progress("tables", 0.0);
                world.warm(self.choice);
            }
            Fill::Join => {
                // A thousand a second, and not all at once in a small network.
                let within = (self.nodes as u64 * 1_000).max(10_000_000);
                let bootnodes: Vec<usize> = (0..BOOTNODES.min(self.nodes)).collect();
                for node in 0..self.nodes {
                    let at = if node < BOOTNODES { 0 } else { within * node as u64 / self.nodes as u64 };
                    world.start(node, Time(at), &bootnodes);
                }
                advance(world, Time(within + SETTLE * 1_000_000), "joins", progress);
            }
        }
    }

    /// Stops the share of nodes that is to be dead, and returns the others.
    fn bury(&self, world: &mut World, rng: &mut StdRng) -> Vec<usize> {
        let now = world.now();
        let dead: Vec<bool> = (0..self.nodes).map(|_| rng.random_bool(self.dead)).collect();
        let (mut alive, mut buried) = (Vec::new(), Vec::new());
        for (node, dead) in dead.into_iter().enumerate() {
            if dead { buried.push(node) } else { alive.push(node) }
        }
        // Somebody has to ask.
        if alive.is_empty() {
            alive.extend(buried.pop());
        }
        buried.into_iter().for_each(|node| world.stop(node, now));
        alive
    }

    fn schedule(&self, world: &mut World, alive: &[usize], rng: &mut StdRng) -> Vec<PublicKey> {
        let begin = world.now().0;
        let mut targets = Vec::with_capacity(self.lookups);
        for number in 0..self.lookups {
            let asker = alive[rng.random_range(0..alive.len())];
            let target = match self.target {
                Target::Random => {
                    let mut bytes = [0; 64];
                    rng.fill(&mut bytes);
                    PublicKey(bytes)
                }
                Target::Node => *world.population().key(alive[rng.random_range(0..alive.len())]),
            };
            targets.push(target);
            let at = Time(begin + number as u64 * LOOKUP_EVERY);
            let command = Command::Lookup { target, until_found: false };
            world.command(asker, at, CommandId(number as u64), command);
        }
        targets
    }

    fn report(&self, world: &mut World, truth: &Truth) -> Report {
        let (mut hops, mut queries, mut took) = (Vec::new(), Vec::new(), Vec::new());
        let (mut nearest, mut all, mut done) = (0usize, 0usize, 0usize);
        for (_, asker, _, reply) in world.take_replies() {
            // Nobody makes so many lookups that one would be refused; it would count as not found.
            let Reply::Lookup(report) = reply else { continue };
            done += 1;
            let expected = truth.closest(&report.target.node_id(), self.k, Some(asker as u32));
            let found = found(&report);
            nearest += usize::from(!found.is_empty() && found.first() == expected.first());
            all += usize::from(found == expected);
            hops.extend(report.hops().map(f64::from));
            queries.push(f64::from(report.queries));
            took.push(report.took.as_secs_f64() * 1000.0);
        }
        let share = |count: usize| count as f64 / self.lookups as f64;
        let traffic = world.traffic();
        Report {
            nodes: self.nodes,
            lookups: self.lookups,
            seed: self.seed,
            event_hash: world.digest(),
            answered: share(done),
            hop_shares: shares(&hops),
            hops: Summary::of(hops),
            queries: Summary::of(queries),
            took_ms: Summary::of(took),
            found_closest: share(nearest),
            found_all: share(all),
            traffic,
            simulated_seconds: world.now().0 as f64 / 1e6,
            dead_told: 0.0,
            per_minute: Vec::new(),
            census: Census::default(),
            moments: Vec::new(),
            joiners: None,
        }
    }
}

/// The nodes that answered, nearest first.
fn found(report: &LookupReport) -> Vec<u32> {
    let answered = report.closest.iter().filter(|found| found.answered);
    answered.filter_map(|found| node_of(found.contact.endpoint.udp_addr())).map(|node| node as u32).collect()
}

/// The share of lookups at 0, 1, 2, … hops.
fn shares(hops: &[f64]) -> Vec<f64> {
    let most = hops.iter().copied().fold(0.0, f64::max) as usize;
    let mut counts = vec![0usize; if hops.is_empty() { 0 } else { most + 1 }];
    hops.iter().for_each(|&hops| counts[hops as usize] += 1);
    counts.into_iter().map(|count| count as f64 / hops.len() as f64).collect()
}

/// Lets time pass in steps, so that progress can be told.
fn advance(world: &mut World, end: Time, what: &'static str, progress: &mut impl FnMut(&'static str, f64)) {
    const STEPS: u64 = 100;
    let begin = world.now().0;
    for step in 1..=STEPS {
        progress(what, (step - 1) as f64 / STEPS as f64);
        world.run_until(Time(begin + (end.0.saturating_sub(begin)) * step / STEPS));
    }
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
        assert_eq!(refused(|s| s.loss = 1.0), "the loss is a share from 0 to below 1, not 1");
        assert_eq!(refused(|s| s.dead = -0.1), "the share of the dead is a share from 0 to below 1, not -0.1");
        assert_eq!(refused(|s| s.alpha = 0), "the setting lookup.alpha is 0; it has to be at least 1");
        assert_eq!(refused(|s| s.k = 17), "the setting table.k is 17; a FINDNODE is answered with at most 16 nodes");
        assert!(refused(|s| s.latency = Latency::Constant { ms: 0.0 }).starts_with("the latency"));
    }

    #[test]
    fn an_experiment_repeats_and_its_figures_hang_together() {
        let setup = Setup { nodes: 300, lookups: 200, fill: Fill::Warm, dead: 0.1, ..Setup::default() };
        let mut said = Vec::new();
        let report = setup.run(|what, share| said.push((what, share))).unwrap();
        assert_eq!(report, Setup { threads: 2, ..setup.clone() }.run(|_, _| ()).unwrap());
        assert_ne!(report.event_hash, Setup { seed: 2, ..setup }.run(|_, _| ()).unwrap().event_hash);
        assert_eq!((report.answered, report.found_closest), (1.0, 1.0));
        assert!((report.hop_shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let mean: f64 = report.hop_shares.iter().zip(0u32..).map(|(share, hops)| share * f64::from(hops)).sum();
        assert!((mean - report.hops.mean).abs() < 1e-9);
        assert!(report.queries.mean >= 16.0);
        assert!(said.iter().any(|(what, _)| *what == "lookups") && said.iter().all(|(_, share)| *share < 1.0));
    }
}
