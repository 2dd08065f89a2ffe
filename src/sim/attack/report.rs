//! The figures of an eclipse.

use std::time::Duration;

/// What came of the runs of an eclipse.
#[derive(Clone, Debug, PartialEq)]
pub struct EclipseReport {
    /// Honest nodes of the network.
    pub honest: usize,
    /// Identities of the attackers.
    pub identities: usize,
    /// Addresses that they share, each in a /24 of its own.
    pub addresses: usize,
    /// Members of the victim's table that may be attackers by the limits on one /24; `None` where the limits are off.
    pub allowed: Option<usize>,
    /// The runs, by seed.
    pub runs: Vec<EclipseRun>,
}

/// One run of an eclipse.
#[derive(Clone, Debug, PartialEq)]
pub struct EclipseRun {
    /// What all its randomness followed from.
    pub seed: u64,
    /// One number for all that the victim got, and when.
    pub event_hash: u64,
    /// Members of the victim's table after a day under attack, and how many of them are attackers.
    pub before: (usize, usize),
    /// The victim after restarts, each a new one: 5 s, 60 s and 600 s.
    pub after: Vec<After>,
}

/// The victim some time after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct After {
    /// Since the restart.
    pub time: Duration,
    /// Members of its table.
    pub members: usize,
    /// Those of them that are attackers.
    pub attackers: usize,
    /// Lookups for random targets that it began then.
    pub lookups: usize,
    /// Nodes that these found and that answered.
    pub found: usize,
    /// Those of them that are attackers.
    pub found_attackers: usize,
    /// Lookups for random targets that found no honest node.
    pub captured: usize,
    /// Nodes that a lookup for the victim's own key found and that answered, and how many of them are attackers.
    pub own: (usize, usize),
}

impl EclipseReport {
    /// The runs that did not end as they ought to.
    ///
    /// With the limits the attackers have at most the places that are allowed, and no lookup for a random target finds
    /// attackers alone. Without them the attackers have most of the table after every restart, or the experiment would show
    /// nothing.
    pub fn failed(&self) -> Vec<&EclipseRun> {
        let fits = |run: &&EclipseRun| match self.allowed {
            Some(allowed) => {
                run.before.1 <= allowed && run.after.iter().all(|a| a.attackers <= allowed && a.captured == 0)
            }
            None => run.after.iter().all(|after| 2 * after.attackers > after.members),
        };
        self.runs.iter().filter(|run| !fits(run)).collect()
    }

    /// A figure of all runs at one of the moments after a restart.
    pub fn figures(&self, moment: usize, of: impl Fn(&After) -> usize) -> Vec<f64> {
        self.runs.iter().filter_map(|run| run.after.get(moment)).map(|after| of(after) as f64).collect()
    }
}
