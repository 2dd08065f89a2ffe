//! A lookup experiment: fill a network, look things up in it, and compare what is found with the truth.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::attack::Sybils;
use super::churn::Lives;
use super::network::{NatKind, Network, Partition};
use super::outcome::{Outcome, Outcomes};
use super::population::{Population, node_of, number};
use super::probes::Probes;
use super::random::mix;
use super::report::{Census, KindRate, Report, Summary, SybilFigures};
use super::setup::{Course, Fill, Setup, SetupError, Target, micros};
use super::truth::Truth;
use super::world::{Fidelity, SETTLED, Traffic, World};
use crate::proto::engine::{Command, CommandId, LookupReport, Reply};
use crate::proto::identity::PublicKey;
use crate::proto::time::Time;
use crate::proto::wire::MessageKind;

/// Time after the last lookup has begun until all have ended, in microseconds.
const SETTLE: u64 = 60_000_000;

/// Under churn, who makes a lookup has run for this long, in microseconds: whoever has just come back has still to find
/// its place.
const ASKER_SINCE: u64 = 10_000_000;

/// Under churn, who makes a lookup stays for this long, in microseconds: until the lookup has ended.
const ASKER_STAYS: u64 = 31_000_000;

impl Setup {
    /// Runs the experiment. `progress` is told what is being done, and from 0 to 1 how far it is.
    ///
    /// # Errors
    /// When the settings are impossible.
    pub fn run(&self, mut progress: impl FnMut(&'static str, f64)) -> Result<Report, SetupError> {
        self.check()?;
        progress("keys", 0.0);
        let sign = self.fidelity == Fidelity::Wire;
        let population = Arc::new(Population::new(self.population(), self.seed, sign, self.threads));
        let network = Network { partition: self.split().or(self.network.partition), ..self.network.clone() };
        let bootnodes = (0..self.population()).take_while(|&node| self.is_bootnode(node)).count();
        let sybils = (self.sybils > 0.0).then(|| Sybils::choose(&population, self.sybils, bootnodes, self.seed));
        let mut world = World::new(population, self.config(), network, self.fidelity, self.seed, self.threads);
        world.set_sybils(sybils);
        let lasts = self.lookups as u64 * self.pace() + SETTLE;
        let lives = match self.course {
            Course::Churn(sessions) => Some(Lives::new(sessions, self.population(), bootnodes, lasts, self.seed)),
            Course::Quiet | Course::Split { .. } => None,
        };
        let mut run = Run { setup: self, world, progress, lives, probes: Probes::default(), alarmed: BTreeSet::new() };
        run.fill();
        Ok(run.look_up(lasts))
    }

    /// When the tables are filled, in microseconds.
    fn filled(&self) -> u64 {
        match self.fill {
            Fill::Warm => micros(SETTLED),
            Fill::Join => self.last_arrival() + micros(self.settle),
        }
    }

    /// Whether everybody can reach a node, as far as translators before it go.
    fn is_open(&self, node: u32) -> bool {
        matches!(self.network.nat.kind(self.seed, node), NatKind::Open | NatKind::FullCone)
    }

    fn split(&self) -> Option<Partition> {
        let Course::Split { lasts } = self.course else { return None };
        let from = Time(self.filled());
        Some(Partition { boundary: self.nodes / 2, from, until: Time(from.0 + micros(lasts)) })
    }
}

/// An experiment under way.
struct Run<'a, P> {
    setup: &'a Setup,
    world: World,
    progress: P,
    /// Who comes and goes; `None` when nobody does.
    lives: Option<Lives>,
    probes: Probes,
    /// Who has raised an alarm.
    alarmed: BTreeSet<usize>,
}

impl<P: FnMut(&'static str, f64)> Run<'_, P> {
    /// Fills the tables, and lets the network split if it is to.
    fn fill(&mut self) {
        let setup = self.setup;
        let lives = self.lives.as_ref();
        let runs = |node: usize| lives.is_none_or(|lives| lives.run(node, 0, 0));
        match setup.fill {
            Fill::Warm => {
                (self.progress)("tables", 0.0);
                self.world.warm_where(setup.choice, runs);
            }
            Fill::Join => {
                for (number, node) in (0..setup.population()).filter(|&node| runs(node)).enumerate() {
                    // Under churn a few more or less than half of the population begin.
                    let at = setup.arrival(node, number).min(setup.last_arrival());
                    self.world.start(node, Time(at), &setup.contacts(node));
                }
                if lives.is_none() {
                    self.probes = Probes::schedule(setup, &mut self.world);
                }
                self.advance(setup.filled(), "joins", usize::MAX, |_, _, _| ());
            }
        }
        if let Some(split) = setup.split() {
            self.advance(split.until.0, "split", usize::MAX, |_, _, _| ());
        }
    }

    /// Makes the lookups, and waits until all have answered, at most `lasts` microseconds from now.
    fn look_up(mut self, lasts: u64) -> Report {
        let setup = self.setup;
        let mut rng = StdRng::seed_from_u64(mix(setup.seed, 0x6c6f_6f6b));
        let (begin, before) = (self.world.now(), self.world.traffic());
        let alive = self.bury(&mut rng);
        if let Some(lives) = &self.lives {
            lives.play(&mut self.world, begin, |node| setup.contacts(node));
        }
        for number in 0..setup.lookups {
            let after = number as u64 * setup.pace();
            let (asker, target) = self.lookup(number, after, &alive, &mut rng);
            let command = Command::Lookup { target, until_found: false, paths: None };
            self.world.command(asker, Time(begin.0 + after), CommandId(number as u64), command);
        }

        let population = self.world.population().clone();
        let truth = Truth::new(alive.iter().map(|&node| (*population.id(node), node as u32)));
        drop(alive);
        let mut outcomes = Outcomes::new(setup.lookups, setup.pace());
        let lives = self.lives.take();
        let sybils = self.world.sybils().cloned();
        self.advance(begin.0 + lasts, "lookups", setup.lookups, |ended, asker, report| {
            let until = ended.0.saturating_sub(begin.0);
            let from = until.saturating_sub(micros(report.took));
            let stayed = |node: u32| lives.as_ref().is_none_or(|lives| lives.run(node as usize, from, until));
            // Those whom an address translator hides from strangers cannot be found, and are no part of the truth.
            let is_sybil = |node: u32| is_sybil(sybils.as_ref(), node);
            let counts = |node: u32| node as usize != asker && setup.is_open(node) && stayed(node) && !is_sybil(node);
            judge(report, setup.k, &truth, counts, is_sybil)
        })
        .into_iter()
        .for_each(|(number, outcome)| outcomes.note(number, outcome));
        drop(truth);
        (self.progress)("census", 0.0);
        self.report(begin, &before, &outcomes)
    }

    /// Stops the share of nodes that is to be dead, and returns the others; under churn everybody.
    fn bury(&mut self, rng: &mut StdRng) -> Vec<usize> {
        let now = self.world.now();
        let (mut alive, mut buried) = (Vec::new(), Vec::new());
        for node in 0..self.setup.population() {
            if rng.random_bool(self.setup.dead) { buried.push(node) } else { alive.push(node) }
        }
        // Somebody has to ask.
        if alive.is_empty() {
            alive.extend(buried.pop());
        }
        buried.into_iter().for_each(|node| self.world.stop(node, now));
        alive
    }

    /// Who makes a lookup, `after` microseconds since they began, and for what.
    fn lookup(&self, number: usize, after: u64, alive: &[usize], rng: &mut StdRng) -> (usize, PublicKey) {
        let population = self.world.population();
        let middle = self.setup.nodes / 2;
        let asker = self.somebody(after.saturating_sub(ASKER_SINCE), after + ASKER_STAYS, alive, rng, |node| {
            !is_sybil(self.world.sybils(), node as u32)
        });
        let across = matches!(self.setup.course, Course::Split { .. }) && number.is_multiple_of(2);
        if across || self.setup.target == Target::Node {
            let there = |node: usize| !across || (node < middle) != (asker < middle);
            let target = self.somebody(after, after + ASKER_STAYS, alive, rng, there);
            return (asker, *population.key(target));
        }
        let mut bytes = [0; 64];
        rng.fill(&mut bytes);
        (asker, PublicKey(bytes))
    }

    /// A random node that `fits` and runs from one time to another, in microseconds since the lookups began; any, if
    /// luck has it that there is none.
    fn somebody(
        &self,
        from: u64,
        until: u64,
        alive: &[usize],
        rng: &mut StdRng,
        fits: impl Fn(usize) -> bool,
    ) -> usize {
        let runs = |node: usize| self.lives.as_ref().is_none_or(|lives| lives.run(node, from, until));
        let mut draws = std::iter::repeat_with(|| alive[rng.random_range(0..alive.len())]).take(1000);
        draws.find(|&node| runs(node) && fits(node)).unwrap_or(alive[0])
    }

    /// Lets time pass until `end`, or until there are `enough` answers. In steps, so that progress can be told, and the
    /// answers need not all be kept.
    fn advance<R>(
        &mut self,
        end: u64,
        what: &'static str,
        enough: usize,
        judge: impl Fn(Time, usize, &LookupReport) -> R,
    ) -> Vec<(usize, R)> {
        const STEPS: u64 = 100;
        let begin = self.world.now().0;
        let mut judged = Vec::new();
        for step in 1..=STEPS {
            if judged.len() >= enough {
                break;
            }
            (self.progress)(what, (step - 1) as f64 / STEPS as f64);
            self.world.run_until(Time(begin + end.saturating_sub(begin) * step / STEPS));
            self.alarmed.extend(self.world.take_alarms().into_iter().map(|(_, node, _)| node));
            for (ended, asker, id, reply) in self.world.take_replies() {
                // Nobody makes so many lookups that one would be refused; it would count as not found.
                let Reply::Lookup(report) = reply else { continue };
                if !self.probes.note(id, &report) {
                    judged.push((id.0 as usize, judge(ended, asker, &report)));
                }
            }
        }
        judged
    }

    fn sybils(&self, sybils: &Sybils, outcomes: &Outcomes) -> SybilFigures {
        let (mut entries, mut theirs) = (0u64, 0u64);
        for node in (0..self.setup.population()).filter(|&node| !sybils.contains(node as u32)) {
            for (_, entry) in self.world.engine(node).into_iter().flat_map(|engine| engine.table().entries()) {
                entries += 1;
                theirs += u64::from(sybils.contains(number(entry.node) as u32));
            }
        }
        let sum = |of: fn((usize, usize)) -> usize| {
            outcomes.values(|outcome| Some(of(outcome.found) as f64)).into_iter().sum::<f64>()
        };
        SybilFigures {
            nodes: sybils.len(),
            in_tables: theirs as f64 / entries.max(1) as f64,
            in_results: sum(|(_, theirs)| theirs) / sum(|(found, _)| found).max(1.0),
            captured: outcomes.share(|outcome| outcome.found.0 == outcome.found.1),
        }
    }

    fn report(mut self, begin: Time, before: &Traffic, outcomes: &Outcomes) -> Report {
        let (setup, now, traffic) = (self.setup, self.world.now(), self.world.traffic());
        let census = Census::take(&self.world, setup.k, setup.seed);
        // A network that begins with filled tables has only been said to have run till then.
        let before_all = if setup.fill == Fill::Warm { setup.filled() } else { 0 };
        let minutes = (now.0 - begin.0) as f64 / 60e6;
        let hops = outcomes.values(|outcome| outcome.hops.map(f64::from));
        Report {
            nodes: setup.nodes,
            lookups: setup.lookups,
            seed: setup.seed,
            event_hash: self.world.digest(),
            answered: outcomes.share(|_| true),
            hop_shares: shares(&hops),
            hops: Summary::of(hops),
            queries: Summary::of(outcomes.values(|outcome| Some(f64::from(outcome.queries)))),
            took_ms: Summary::of(outcomes.values(|outcome| Some(outcome.took_ms))),
            found_closest: outcomes.share(|outcome| outcome.closest),
            found_all: outcomes.share(|outcome| outcome.all),
            dead_told: dead_told(before, &traffic),
            per_minute: rates(before, &traffic, census.running as f64 * minutes),
            traffic,
            simulated_seconds: (now.0 - before_all) as f64 / 1e6,
            census,
            moments: outcomes.moments(),
            alarmed: self.alarmed.iter().filter(|&&node| !is_sybil(self.world.sybils(), node as u32)).count(),
            sybils: self.world.sybils().map(|sybils| self.sybils(sybils, outcomes)),
            joiners: std::mem::take(&mut self.probes).report(),
        }
    }
}

fn is_sybil(sybils: Option<&Sybils>, node: u32) -> bool {
    sybils.is_some_and(|sybils| sybils.contains(node))
}

/// Compares a lookup with the truth: the nearest of the nodes that count.
///
/// Others that have answered, such as nodes behind a translator that the asker happens to know, are no mistakes, but take
/// places among the k that a lookup brings.
fn judge(
    report: &LookupReport,
    k: usize,
    truth: &Truth,
    counts: impl Fn(u32) -> bool,
    is_sybil: impl Fn(u32) -> bool,
) -> Outcome {
    let mut expected = truth.closest_where(&report.target.node_id(), k, &counts);
    let answered = report.closest.iter().filter(|found| found.answered);
    let found = answered.filter_map(|found| node_of(found.contact.endpoint.udp_addr())).map(|node| node as u32);
    let (found, others): (Vec<u32>, Vec<u32>) = found.partition(|&node| counts(node));
    expected.truncate(k - others.len().min(k));
    let sybils = others.iter().filter(|&&node| is_sybil(node)).count();
    Outcome {
        closest: !found.is_empty() && found.first() == expected.first(),
        // Where others have all the places nobody is expected, and nobody was found.
        all: !found.is_empty() && found == expected,
        hops: report.hops(),
        queries: report.queries,
        took_ms: report.took.as_secs_f64() * 1000.0,
        found: (found.len() + others.len(), sybils),
    }
}

/// The share of the entries of NEIGHBORS that were dead when they were sent.
fn dead_told(before: &Traffic, after: &Traffic) -> f64 {
    (after.told_dead - before.told_dead) as f64 / (after.told - before.told).max(1) as f64
}

/// What was sent between two moments, by kind, for each of so many minutes of nodes.
fn rates(before: &Traffic, after: &Traffic, node_minutes: f64) -> Vec<KindRate> {
    let rate = |before: &[u64; 6], after: &[u64; 6], at: usize| (after[at] - before[at]) as f64 / node_minutes;
    let kinds = MessageKind::ALL.into_iter().enumerate().map(|(at, kind)| KindRate {
        kind,
        messages: rate(&before.sent, &after.sent, at),
        bytes: rate(&before.bytes, &after.bytes, at),
    });
    kinds.filter(|rate| rate.messages > 0.0).collect()
}

/// The share of lookups at 0, 1, 2, … hops.
fn shares(hops: &[f64]) -> Vec<f64> {
    let most = hops.iter().copied().fold(0.0, f64::max) as usize;
    let mut counts = vec![0usize; if hops.is_empty() { 0 } else { most + 1 }];
    hops.iter().for_each(|&hops| counts[hops as usize] += 1);
    counts.into_iter().map(|count| count as f64 / hops.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn lookups_along_disjoint_paths_find_the_same_and_ask_more() {
        let run = |paths| {
            let setup = Setup { nodes: 300, lookups: 100, fill: Fill::Warm, paths, ..Setup::default() };
            setup.run(|_, _| ()).unwrap()
        };
        let [one, four] = [1, 4].map(run);
        assert_eq!((one.found_all, four.found_all), (1.0, 1.0));
        let times = four.queries.mean / one.queries.mean;
        assert!((2.0..4.5).contains(&times), "{times} times the requests");
    }
}
