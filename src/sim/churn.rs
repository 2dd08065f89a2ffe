//! Nodes that come and go.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::random::mix;
use super::world::World;
use crate::proto::time::Time;

/// How long nodes stay, and stay away: a Weibull distribution.
///
/// A shape below 1 means that whoever has stayed for long will stay for long. Measurements of real peer-to-peer networks
/// found shapes of 0.4 to 0.6 (Stutzbach and Rejaie 2006; Steiner, En-Najjary and Biersack 2007). With shape 1 it is the
/// exponential distribution, in which age says nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sessions {
    /// Shape of the distribution, 0.2 to 10.
    pub shape: f64,
    /// Half of the sessions are shorter.
    pub median: Duration,
}

/// Shapes for which draws are sound.
pub(super) const SHAPES: std::ops::RangeInclusive<f64> = 0.2..=10.0;

/// No session is shorter, in microseconds: it bounds how many there are.
const SHORTEST: u64 = 1_000_000;

impl Sessions {
    /// Sessions whose length is exponentially distributed.
    pub fn exponential(median: Duration) -> Self {
        Self { shape: 1.0, median }
    }

    /// Sessions whose length has a Weibull distribution.
    pub fn weibull(shape: f64, median: Duration) -> Self {
        Self { shape, median }
    }

    /// The scale of the distribution, in microseconds.
    fn scale(&self) -> f64 {
        self.median.as_secs_f64() * 1e6 / std::f64::consts::LN_2.powf(1.0 / self.shape)
    }

    /// The length of a session, in microseconds.
    fn draw(&self, rng: &mut StdRng) -> u64 {
        ((self.scale() * exponential(rng).powf(1.0 / self.shape)) as u64).max(SHORTEST)
    }

    /// What is left, in microseconds, of the session in which a node is met at a moment that has nothing to do with it.
    ///
    /// Such a rest has the density `(1 - F(x)) / mean`, with F the distribution of the sessions; for Weibull sessions the
    /// power `shape` of the rest, in units of the scale, has a gamma distribution of shape `1 / shape`.
    fn draw_rest(&self, rng: &mut StdRng) -> u64 {
        ((self.scale() * gamma(1.0 / self.shape, rng).powf(1.0 / self.shape)) as u64).max(1)
    }
}

/// Who runs when: the sessions of each node, in microseconds since churn began, in order and apart.
#[derive(Clone, Debug)]
pub(super) struct Lives {
    sessions: Vec<Vec<Range<u64>>>,
}

impl Lives {
    /// The lives of `population` nodes for `lasts` microseconds, of which the first `always` never leave.
    ///
    /// The others are there and away by turns, for times of the same distribution, and are met in equilibrium: each is
    /// there with probability one half, at any time.
    pub(super) fn new(sessions: Sessions, population: usize, always: usize, lasts: u64, seed: u64) -> Self {
        let life = |node: usize| {
            if node < always {
                return std::iter::once(0..u64::MAX).collect();
            }
            let mut rng = StdRng::seed_from_u64(mix(mix(seed, 0x6368_726e), node as u64));
            let mut there = rng.random_bool(0.5);
            let (mut from, mut until) = (0, sessions.draw_rest(&mut rng));
            let mut life = Vec::new();
            loop {
                if there {
                    life.push(from..until);
                }
                if until > lasts {
                    return life;
                }
                there = !there;
                from = until;
                until = from.saturating_add(sessions.draw(&mut rng));
            }
        };
        Self { sessions: (0..population).map(life).collect() }
    }

    /// Whether a node runs at one time, and until another without a break.
    pub(super) fn run(&self, node: usize, from: u64, until: u64) -> bool {
        let sessions = &self.sessions[node];
        let at = sessions.partition_point(|session| session.start <= from);
        at > 0 && until < sessions[at - 1].end
    }

    /// Has the nodes come and go in `world` from `begin` on. Those that come back know their `contacts` alone.
    pub(super) fn play(&self, world: &mut World, begin: Time, contacts: impl Fn(usize) -> Vec<usize>) {
        for (node, sessions) in self.sessions.iter().enumerate() {
            for session in sessions {
                if session.start > 0 {
                    world.start(node, Time(begin.0 + session.start), &contacts(node));
                }
                if session.end != u64::MAX {
                    world.stop(node, Time(begin.0.saturating_add(session.end)));
                }
            }
        }
    }
}

/// A draw of the exponential distribution of mean 1.
fn exponential(rng: &mut StdRng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

/// A draw of the gamma distribution of scale 1 (Marsaglia and Tsang 2000).
fn gamma(shape: f64, rng: &mut StdRng) -> f64 {
    if shape < 1.0 {
        return gamma(shape + 1.0, rng) * (1.0 - rng.random::<f64>()).powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        // Box and Muller 1958.
        let (u, v) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let cube = (1.0 + c * normal).powi(3);
        if cube > 0.0 && -exponential(rng) < 0.5 * normal * normal + d - d * cube + d * cube.ln() {
            return d * cube;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;

    fn median(mut values: Vec<u64>) -> f64 {
        values.sort_unstable();
        values[values.len() / 2] as f64 / HOUR as f64
    }

    #[test]
    fn sessions_have_the_stated_medians() {
        let mut rng = StdRng::seed_from_u64(1);
        for shape in [0.4, 0.5, 0.6, 1.0, 2.0] {
            let sessions = Sessions::weibull(shape, Duration::from_hours(1));
            let draws: Vec<u64> = (0..50_000).map(|_| sessions.draw(&mut rng)).collect();
            assert!(draws.iter().all(|&draw| draw >= SHORTEST));
            assert!((median(draws) - 1.0).abs() < 0.05, "shape {shape}");
        }
        let exponential = Sessions::exponential(Duration::from_hours(1));
        let mean = (0..50_000).map(|_| exponential.draw(&mut rng) as f64).sum::<f64>() / 50_000.0 / HOUR as f64;
        assert!((mean - 1.0 / std::f64::consts::LN_2).abs() < 0.03, "{mean}");
    }

    #[test]
    fn the_rest_of_a_session_is_what_a_long_life_shows() {
        let mut rng = StdRng::seed_from_u64(2);
        for shape in [0.5, 0.6, 1.0, 3.0] {
            let sessions = Sessions::weibull(shape, Duration::from_hours(1));
            let drawn = median((0..20_000).map(|_| sessions.draw_rest(&mut rng)).collect());
            // Lives that began 2000 hours ago.
            let met = (0..4_000).map(|_| {
                let mut left = 2000 * HOUR;
                loop {
                    let session = sessions.draw(&mut rng);
                    if session > left {
                        return session - left;
                    }
                    left -= session;
                }
            });
            let met = median(met.collect());
            assert!((drawn / met - 1.0).abs() < 0.1, "shape {shape}: {drawn} and {met} hours");
        }
    }

    #[test]
    fn half_of_the_nodes_run_at_any_time_and_bootnodes_always() {
        let sessions = Sessions::weibull(0.5, Duration::from_hours(1));
        let lives = Lives::new(sessions, 10_000, 4, 12 * HOUR, 3);
        let mut changes = 0;
        for hour in 0..12 {
            let at = hour * HOUR;
            let running = (0..10_000).filter(|&node| lives.run(node, at, at)).count();
            assert!((4850..=5150).contains(&running), "{running} at {hour} h");
            assert!((0..4).all(|node| lives.run(node, at, at)));
            changes +=
                (4..10_000).filter(|&node| lives.run(node, at, at) != lives.run(node, at + HOUR, at + HOUR)).count();
        }
        assert!(changes > 10_000, "{changes}");
        // A mean session is 1 / ln(2)^2 hours times 2.
        let ends: usize = lives.sessions.iter().flatten().filter(|session| session.end <= 12 * HOUR).count();
        let expected = 9_996.0 / 2.0 * 12.0 / (2.0 / std::f64::consts::LN_2.powi(2));
        assert!((ends as f64 / expected - 1.0).abs() < 0.03, "{ends} against {expected}");
    }

    #[test]
    fn a_run_is_within_one_session() {
        let lives = Lives { sessions: vec![vec![10..20, 30..40]] };
        let run = |from, until| lives.run(0, from, until);
        assert_eq!(
            [run(9, 9), run(10, 19), run(10, 20), run(15, 35), run(29, 30), run(30, 39), run(39, 40)],
            [false, true, false, false, false, true, false]
        );
    }
}
