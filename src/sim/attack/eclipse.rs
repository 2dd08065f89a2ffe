//! The eclipse of one node by a few addresses with many keys.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use thiserror::Error;

use super::crowd::Crowd;
use super::report::{After, EclipseReport, EclipseRun};
use super::stage::Stage;
use crate::proto::config::Config;
use crate::proto::identity::PublicKey;
use crate::sim::random::mix;

/// Whether the victim limits how many nodes of one network it takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// By its default settings.
    On,
    /// It takes in whoever comes first, and whoever is in stays.
    Off,
}

/// The attack of Marcus, Heilman and Goldberg 2018 (ePrint 2018/236, section 4): identities that were made for the
/// victim's buckets, all at two addresses, ping it unsolicited for a day; then it restarts, and they go on.
///
/// The victim is a real engine. The others are scripted: honest nodes answer from tables filled from the list of all honest
/// nodes, and check the victim if they have it in theirs; attackers answer everything, and FINDNODE with one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eclipse {
    /// Honest nodes, each in a /24 of its own.
    pub honest: usize,
    /// Buckets of the victim that the attackers' identities are made for, the farthest ones.
    pub buckets: usize,
    /// Identities for each.
    pub per_bucket: usize,
    /// Addresses that they share, each in a /24 of its own.
    pub addresses: usize,
    /// How often each of them pings the victim.
    pub every: Duration,
    /// How long they do before it restarts.
    pub lasts: Duration,
    /// Lookups for random targets that the victim makes at each of the moments after a restart.
    pub lookups: usize,
    /// The victim's limits.
    pub limits: Limits,
    /// How many times all this is done; run `i`, from 0, has the seed and `i` as its seed.
    pub runs: usize,
    /// What all randomness follows from.
    pub seed: u64,
    /// Runs under way at a time; the result does not depend on it.
    pub threads: usize,
}

impl Default for Eclipse {
    fn default() -> Self {
        Self {
            honest: 10_000,
            buckets: 17,
            per_bucket: 16,
            addresses: 2,
            every: Duration::from_mins(1),
            lasts: Duration::from_hours(24),
            lookups: 20,
            limits: Limits::On,
            runs: 1,
            seed: 1,
            threads: 1,
        }
    }
}

/// Settings that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} has to be from {least} to {most}, not {given}")]
pub struct EclipseError {
    what: &'static str,
    least: usize,
    most: usize,
    given: usize,
}

/// How long the victim has run when the attack begins.
const SETTLED: Duration = Duration::from_mins(10);

/// When the victim is looked at after a restart. It is restarted for each anew, since its lookups change its table.
const MOMENTS: [Duration; 3] = [Duration::from_secs(5), Duration::from_mins(1), Duration::from_mins(10)];

/// When all attackers ping it after a restart, beside their pings each minute, in milliseconds.
const VOLLEYS: [u64; 9] = [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000];

/// How long a volley takes.
const VOLLEY: Duration = Duration::from_millis(10);

/// Time from one lookup to the next.
const LOOKUP_EVERY: Duration = Duration::from_millis(250);

/// Time after the last one by which all have ended.
const LOOKUPS_END: Duration = Duration::from_secs(31);

impl Eclipse {
    /// Says what is impossible about the settings, if anything.
    ///
    /// # Errors
    /// A sentence that names the setting and what it may be.
    pub fn check(&self) -> Result<(), EclipseError> {
        let seconds = |time: Duration| usize::try_from(time.as_secs()).unwrap_or(usize::MAX);
        for (what, given, least, most) in [
            ("the number of honest nodes", self.honest, 16, 1_000_000),
            // Each further one doubles the keys that have to be tried: these take half a second.
            ("the number of buckets", self.buckets, 1, 20),
            ("the number of identities for a bucket", self.per_bucket, 1, 256),
            ("the number of addresses", self.addresses, 1, 256),
            ("the number of seconds between two pings", seconds(self.every), 1, 86_400),
            ("the number of seconds that the attack lasts", seconds(self.lasts), 1, 30 * 86_400),
            ("the number of lookups", self.lookups, 1, 1000),
            ("the number of runs", self.runs, 1, 1_000_000),
            ("the number of threads", self.threads, 1, 1024),
        ] {
            if !(least..=most).contains(&given) {
                return Err(EclipseError { what, least, most, given });
            }
        }
        Ok(())
    }

    /// Runs it as often as is asked for. `progress` is told from 0 to 1 how far it is.
    ///
    /// # Errors
    /// When the settings are impossible.
    pub fn run(&self, mut progress: impl FnMut(&'static str, f64)) -> Result<EclipseReport, EclipseError> {
        self.check()?;
        let mut runs: Vec<EclipseRun> = Vec::with_capacity(self.runs);
        let next = AtomicUsize::new(0);
        let (done, ended) = mpsc::channel();
        progress("runs", 0.0);
        std::thread::scope(|scope| {
            for _ in 0..self.threads.min(self.runs) {
                let (done, next) = (done.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let run = next.fetch_add(1, Ordering::Relaxed);
                        if run >= self.runs {
                            break;
                        }
                        // Whoever waits for them is there until all have come.
                        let _ = done.send(self.one(self.seed.wrapping_add(run as u64)));
                    }
                });
            }
            drop(done);
            for run in ended {
                runs.push(run);
                progress("runs", runs.len() as f64 / self.runs as f64);
            }
        });
        runs.sort_unstable_by_key(|run| run.seed.wrapping_sub(self.seed));
        Ok(EclipseReport {
            honest: self.honest,
            identities: self.buckets * self.per_bucket,
            addresses: self.addresses,
            allowed: self.allowed(),
            runs,
        })
    }

    /// The settings of the victim.
    fn config(&self) -> Config {
        let mut config = Config::default();
        if self.limits == Limits::Off {
            config.table.bucket_per_v4_prefix = usize::MAX;
            config.table.table_per_v4_prefix = usize::MAX;
            config.lookup.per_v4_prefix = usize::MAX;
            config.limits.sources = 0;
            // Nobody who is in has to yield to whom a lookup finds.
            config.table.diverse = false;
            config.table.settled_age = Duration::ZERO;
        }
        config
    }

    /// Places that the attackers may have by the victim's limits.
    fn allowed(&self) -> Option<usize> {
        let table = self.config().table;
        let in_buckets = self.buckets.saturating_mul(table.bucket_per_v4_prefix);
        (self.limits == Limits::On).then(|| self.addresses * in_buckets.min(table.table_per_v4_prefix))
    }

    fn one(&self, seed: u64) -> EclipseRun {
        let crowd = Crowd::new(self.honest, self.buckets, self.per_bucket, self.addresses, seed);
        let mut stage = Stage::new(crowd, self.config(), seed);
        let mut rng = StdRng::seed_from_u64(mix(seed, 0x7461_7267));
        stage.start();
        stage.run(SETTLED);
        stage.pester(Duration::ZERO, self.every, Some(self.every));
        stage.run(self.lasts);
        let before = members(&stage);
        let after = MOMENTS.map(|time| self.restart(&mut stage, time, &mut rng));
        EclipseRun { seed, event_hash: stage.digest, before, after: after.to_vec() }
    }

    /// Restarts the victim, and looks at it some time later.
    fn restart(&self, stage: &mut Stage, time: Duration, rng: &mut StdRng) -> After {
        for volley in VOLLEYS.map(Duration::from_millis).into_iter().filter(|volley| *volley < time) {
            stage.pester(volley, VOLLEY, None);
        }
        stage.start();
        stage.run(time);
        let (members, attackers) = members(stage);
        let own = stage.crowd.victim.key;
        let targets = std::iter::repeat_with(|| {
            let mut target = PublicKey([0; 64]);
            rng.fill(&mut target.0);
            target
        });
        for target in targets.take(self.lookups).chain([own]).collect::<Vec<_>>() {
            stage.look_up(target);
            stage.run(LOOKUP_EVERY);
        }
        stage.run(LOOKUPS_END);
        let mut after =
            After { time, members, attackers, lookups: 0, found: 0, found_attackers: 0, captured: 0, own: (0, 0) };
        for report in stage.take_lookups() {
            let answered = report.closest.iter().filter(|found| found.answered);
            let ips: Vec<_> = answered.map(|found| found.contact.endpoint.ip).collect();
            let theirs = ips.iter().filter(|ip| stage.crowd.is_theirs(**ip)).count();
            if report.target == own {
                after.own = (ips.len(), theirs);
                continue;
            }
            after.lookups += 1;
            after.found += ips.len();
            after.found_attackers += theirs;
            after.captured += usize::from(theirs == ips.len());
        }
        after
    }
}

/// Members of the victim's table, and how many of them are attackers.
fn members(stage: &Stage) -> (usize, usize) {
    use crate::proto::contacts::Contacts as _;
    let victim = stage.victim();
    victim.assert_invariants(stage.now());
    let ips = victim.table().entries().map(|(_, entry)| victim.contacts().endpoint(entry.node).ip);
    (victim.table().len(), ips.filter(|ip| stage.crowd.is_theirs(*ip)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_repeat_on_any_number_of_threads() {
        let small = Eclipse { honest: 200, buckets: 8, lasts: Duration::from_mins(20), runs: 3, ..Eclipse::default() };
        let report = small.run(|_, _| ()).unwrap();
        assert_eq!(report, Eclipse { threads: 2, ..small.clone() }.run(|_, _| ()).unwrap());
        assert_eq!((report.identities, report.allowed), (128, Some(20)));
        assert_eq!(report.runs.iter().map(|run| run.seed).collect::<Vec<_>>(), [1, 2, 3]);
        assert_ne!(report.runs[0].event_hash, report.runs[1].event_hash);
        let alone = Eclipse { runs: 1, seed: 2, ..small }.run(|_, _| ()).unwrap();
        assert_eq!(alone.runs[0], report.runs[1]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |eclipse: Eclipse| eclipse.check().unwrap_err().to_string();
        assert_eq!(Eclipse::default().check(), Ok(()));
        assert_eq!(
            refused(Eclipse { honest: 3, ..Eclipse::default() }),
            "the number of honest nodes has to be from 16 to 1000000, not 3"
        );
        assert_eq!(
            refused(Eclipse { buckets: 30, ..Eclipse::default() }),
            "the number of buckets has to be from 1 to 20, not 30"
        );
    }
}
