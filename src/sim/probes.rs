//! How soon are nodes found that join?

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::random::mix;
use super::report::Joiners;
use super::setup::{Contacts, Setup, micros};
use super::world::World;
use crate::proto::engine::{Command, CommandId, LookupReport};
use crate::proto::time::Time;

/// Ages at which joiners are looked up, in microseconds.
const AGES: [u64; 7] = [500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000, 32_000_000];

/// Who looks them up has run for this long, in microseconds.
const ASKER_SINCE: u64 = 5_000_000;

/// Where a command's number has its probe's age, counted from 1; the other lookups have 0 there.
const AGE_SHIFT: u32 = 48;

/// The share of lookups that has to find its joiner.
const ENOUGH: f64 = 0.95;

/// Lookups for the keys of nodes that join, at several ages of theirs.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    /// Of each age: how many were made, and how many found their node.
    counts: [(usize, usize); AGES.len()],
}

impl Probes {
    /// Schedules lookups for as many joiners as the settings say, each time by another random node.
    ///
    /// Where the bootnodes come late, ages count from then.
    pub(super) fn schedule(setup: &Setup, world: &mut World) -> Self {
        let mut probes = Self::default();
        let mut rng = StdRng::seed_from_u64(mix(setup.seed, 0x7072_6f62));
        let joiners: Vec<usize> = (0..setup.nodes).filter(|&node| !setup.is_bootnode(node)).collect();
        for at in sample(joiners.len(), setup.probes, &mut rng) {
            let joiner = joiners[at];
            let mut born = setup.arrival(joiner, joiner);
            if setup.arrivals.contacts == Contacts::Bootnodes {
                born = born.max(micros(setup.arrivals.bootnodes_after));
            }
            let target = *world.population().key(joiner);
            for (age, number) in AGES.into_iter().zip(0..) {
                let at = born + age;
                let mut draws = std::iter::repeat_with(|| rng.random_range(0..setup.nodes)).take(1000);
                let old = |node: usize| setup.arrival(node, node) + ASKER_SINCE <= at;
                let Some(asker) = draws.find(|&node| node != joiner && old(node)) else { continue };
                let id = CommandId((number + 1) << AGE_SHIFT | joiner as u64);
                world.command(asker, Time(at), id, Command::Lookup { target, until_found: true, paths: None });
                probes.counts[number as usize].0 += 1;
            }
        }
        probes
    }

    /// Notes the end of a lookup; false when it was no probe.
    pub(super) fn note(&mut self, id: CommandId, report: &LookupReport) -> bool {
        let Some(number) = (id.0 >> AGE_SHIFT).checked_sub(1) else { return false };
        let found = report.closest.iter().any(|found| found.answered && found.contact.key == report.target);
        self.counts[number as usize].1 += usize::from(found);
        true
    }

    /// What the lookups found; `None` when there were none.
    pub(super) fn report(self) -> Option<Joiners> {
        let made = AGES.iter().zip(self.counts).filter(|(_, (made, _))| *made > 0);
        let found: Vec<_> = made.map(|(&age, (made, found))| (age as f64 / 1e6, found as f64 / made as f64)).collect();
        let enough = found.iter().rev().take_while(|(_, share)| *share >= ENOUGH).last();
        let seconds_to_95 = enough.map(|(age, _)| *age);
        (!found.is_empty()).then_some(Joiners { found, seconds_to_95 })
    }
}

/// `count` different numbers below `of`, or all of them.
fn sample(of: usize, count: usize, rng: &mut StdRng) -> BTreeSet<usize> {
    if count >= of {
        return (0..of).collect();
    }
    let mut chosen = BTreeSet::new();
    while chosen.len() < count {
        chosen.insert(rng.random_range(0..of));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_probes_found_is_told_by_age() {
        assert_eq!(Probes::default().report(), None);
        let probes = Probes { counts: [(0, 0), (10, 5), (20, 20), (20, 18), (20, 19), (20, 20), (20, 20)] };
        let joiners = probes.report().unwrap();
        assert_eq!(joiners.found, [(1.0, 0.5), (2.0, 1.0), (4.0, 0.9), (8.0, 0.95), (16.0, 1.0), (32.0, 1.0)]);
        assert_eq!(joiners.seconds_to_95, Some(8.0));
        let probes = Probes { counts: [(20, 20); 7].map(|(made, _)| (made, 18)) };
        assert_eq!(probes.report().unwrap().seconds_to_95, None);
    }
}
