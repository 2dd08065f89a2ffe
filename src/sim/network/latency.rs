//! How long a packet is under way.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::sim::random::{mix, unit};

/// One-way latency between two nodes.
///
/// It is drawn once for each exchange: the answer takes as long as the request did, and so do the bond before it and all
/// else between the two for some seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// Always the same.
    Constant {
        /// Milliseconds.
        ms: f64,
    },
    /// Any value in a range is as likely as any other.
    Uniform {
        /// Milliseconds, at least.
        low: f64,
        /// Milliseconds, at most.
        high: f64,
    },
    /// Log-normal, as round trips on the internet roughly are; never under a tenth of the median.
    LogNormal {
        /// Milliseconds.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Nodes are points of the unit square; latency is 5 ms and 100 ms for each unit of distance, so that the triangle
    /// inequality holds.
    Plane,
}

/// The plane's latency, in milliseconds: for no distance, and for a distance of 1.
const PLANE: (f64, f64) = (5.0, 100.0);

/// How long two nodes keep the latency between them, in microseconds: 10 s, in which the exchanges of a lookup fall.
const KEPT: u64 = 10_000_000;

/// Why a text is no latency.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no latency: say constant:MS, uniform:LO-HI, lognormal:MEDIAN,SIGMA or plane (milliseconds, above 0 and at most 60000)"
)]
pub struct LatencyError(String);

impl Latency {
    /// The shortest that it can be, in microseconds: at least 1. Nothing that one node sends can concern another one
    /// sooner, so threads may run ahead by this much.
    pub fn floor(&self) -> u64 {
        let ms = match *self {
            Latency::Constant { ms } => ms,
            Latency::Uniform { low, .. } => low,
            Latency::LogNormal { median, .. } => median / 10.0,
            Latency::Plane => PLANE.0,
        };
        micros(ms)
    }

    /// The latency between two nodes at a time, in microseconds. They keep it for a while, so that bond, question and
    /// answer are one exchange; a path that is slow for the PING is slow for the FINDNODE after it.
    pub(in crate::sim) fn between(&self, seed: u64, a: u32, b: u32, at: u64) -> u64 {
        let pair = u64::from(a.min(b)) << 32 | u64::from(a.max(b));
        self.draw(seed, a, b, mix(mix(seed, pair), at / KEPT))
    }

    /// The latency of an exchange in microseconds, given 64 random bits.
    pub(in crate::sim) fn draw(&self, seed: u64, from: u32, to: u32, random: u64) -> u64 {
        let ms = match *self {
            Latency::Constant { ms } => ms,
            Latency::Uniform { low, high } => low + (high - low) * unit(random),
            Latency::LogNormal { median, sigma } => {
                // Box and Muller 1958.
                let (u, v) = (1.0 - unit(random), unit(mix(random, 1)));
                let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                (median * (sigma * normal).exp()).max(median / 10.0)
            }
            Latency::Plane => {
                let at = |node: u32| (unit(mix(seed, u64::from(node))), unit(mix(!seed, u64::from(node))));
                let ((x, y), (x2, y2)) = (at(from), at(to));
                PLANE.0 + PLANE.1 * (x - x2).hypot(y - y2)
            }
        };
        micros(ms).max(self.floor())
    }
}

fn micros(ms: f64) -> u64 {
    ((ms * 1000.0) as u64).max(1)
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Latency::Constant { ms } => write!(f, "constant:{ms}"),
            Latency::Uniform { low, high } => write!(f, "uniform:{low}-{high}"),
            Latency::LogNormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
            Latency::Plane => f.write_str("plane"),
        }
    }
}

impl FromStr for Latency {
    type Err = LatencyError;

    fn from_str(text: &str) -> Result<Self, LatencyError> {
        let error = || LatencyError(text.to_owned());
        let number = |text: &str, most: f64| -> Result<f64, LatencyError> {
            let value: f64 = text.parse().map_err(|_| error())?;
            if value > 0.0 && value <= most { Ok(value) } else { Err(error()) }
        };
        let (kind, values) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "plane" if values.is_empty() => Ok(Latency::Plane),
            "constant" => Ok(Latency::Constant { ms: number(values, 60_000.0)? }),
            "uniform" => {
                let (low, high) = values.split_once('-').ok_or_else(error)?;
                let (low, high) = (number(low, 60_000.0)?, number(high, 60_000.0)?);
                if low <= high { Ok(Latency::Uniform { low, high }) } else { Err(error()) }
            }
            "lognormal" => {
                let (median, sigma) = values.split_once(',').ok_or_else(error)?;
                Ok(Latency::LogNormal { median: number(median, 60_000.0)?, sigma: number(sigma, 3.0)? })
            }
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_come_back_as_they_went_in() {
        for text in ["constant:50", "uniform:25-75", "lognormal:50,0.6", "plane", "uniform:0.5-0.5"] {
            assert_eq!(text.parse::<Latency>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "constant",
            "constant:0",
            "constant:-1",
            "constant:NaN",
            "constant:70000",
            "uniform:75-25",
            "uniform:5",
            "lognormal:50",
            "lognormal:50,9",
            "plane:1",
            "fast",
        ] {
            assert_eq!(text.parse::<Latency>(), Err(LatencyError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn draws_have_the_stated_shape_and_never_undercut_the_floor() {
        for text in ["constant:50", "uniform:25-75", "lognormal:50,0.6", "plane"] {
            let latency: Latency = text.parse().unwrap();
            let mut draws: Vec<u64> = (0..10_000).map(|n| latency.draw(7, n, n / 3 + 1, mix(1, n.into()))).collect();
            draws.sort_unstable();
            assert!(draws[0] >= latency.floor(), "{text}");
            let median = draws[5000] as f64 / 1000.0;
            let expected = if text == "plane" { 56.0 } else { 50.0 };
            assert!((median - expected).abs() < 2.0, "{text}: median {median} ms");
        }
        let plane = Latency::Plane;
        assert_eq!(plane.draw(7, 1, 2, 0), plane.draw(7, 2, 1, 99), "a distance, the same both ways");
    }
}
