//! How the lookups of an experiment ended.

use super::report::Moment;

/// How one lookup ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// It found the nearest node.
    pub(super) closest: bool,
    /// It found all k nearest ones.
    pub(super) all: bool,
    pub(super) hops: Option<u8>,
    pub(super) queries: u32,
    pub(super) took_ms: f64,
    /// Nodes that it found and that answered, and how many of them are Sybils.
    pub(super) found: (usize, usize),
}

/// Of all lookups of an experiment, in the order in which they began.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    of: Vec<Option<Outcome>>,
    /// Microseconds from one to the next.
    pace: u64,
}

/// The most spans of time that are told apart.
const SPANS: usize = 60;

impl Outcomes {
    /// None yet of `count` lookups.
    pub(super) fn new(count: usize, pace: u64) -> Self {
        Self { of: vec![None; count], pace }
    }

    /// Notes how lookup `number` ended.
    pub(super) fn note(&mut self, number: usize, outcome: Outcome) {
        if let Some(place) = self.of.get_mut(number) {
            *place = Some(outcome);
        }
    }

    /// The share of all lookups that ended, and so.
    pub(super) fn share(&self, is: impl Fn(&Outcome) -> bool) -> f64 {
        share(&self.of, is)
    }

    /// A figure of each lookup that has it.
    pub(super) fn values(&self, of: impl Fn(&Outcome) -> Option<f64>) -> Vec<f64> {
        self.of.iter().flatten().filter_map(of).collect()
    }

    /// The course of time, in at most [`SPANS`] spans of equal width with about the same number of lookups each.
    pub(super) fn moments(&self) -> Vec<Moment> {
        let count = self.of.len();
        let spans = SPANS.min(count);
        let spans = (0..spans).map(|span| {
            // The lookups that begin in this span of time.
            let (from, until) = ((span * count).div_ceil(spans), ((span + 1) * count).div_ceil(spans));
            let these = &self.of[from..until];
            let hops: Vec<f64> = these.iter().flatten().filter_map(|o| o.hops).map(f64::from).collect();
            Moment {
                seconds: (span as f64 + 0.5) / spans as f64 * count as f64 * self.pace as f64 / 1e6,
                lookups: these.len(),
                found_closest: share(these, |outcome| outcome.closest),
                found_all: share(these, |outcome| outcome.all),
                hops: hops.iter().sum::<f64>() / hops.len().max(1) as f64,
            }
        });
        spans.collect()
    }
}

fn share(outcomes: &[Option<Outcome>], is: impl Fn(&Outcome) -> bool) -> f64 {
    outcomes.iter().flatten().filter(|outcome| is(outcome)).count() as f64 / outcomes.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_fall_into_spans_of_time() {
        let mut outcomes = Outcomes::new(150, 2_000_000);
        for number in 0..149 {
            let closest = number >= 5;
            outcomes.note(
                number,
                Outcome { closest, all: false, hops: Some(1), queries: 20, took_ms: 250.0, found: (16, 0) },
            );
        }
        let moments = outcomes.moments();
        assert_eq!(moments.len(), 60);
        assert_eq!(moments.iter().map(|moment| moment.lookups).sum::<usize>(), 150);
        assert!(moments.iter().all(|moment| (2..=3).contains(&moment.lookups)));
        assert_eq!((moments[0].seconds, moments[59].seconds), (2.5, 297.5));
        let found: Vec<f64> = moments.iter().map(|moment| moment.found_closest).collect();
        assert_eq!(found[..3], [0.0, 0.0, 1.0]);
        assert_eq!((found[58], found[59]), (1.0, 0.5), "the last one never ended");
        assert_eq!((outcomes.share(|_| true), outcomes.share(|o| o.closest)), (149.0 / 150.0, 144.0 / 150.0));
        assert_eq!(Outcomes::new(3, 1).moments().len(), 3);
    }
}
