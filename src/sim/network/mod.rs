//! The network between the nodes: how long a packet takes, and whether it arrives.

mod check;
mod delays;
mod latency;
mod lengths;
mod nat;

pub use check::NetworkError;
pub use latency::{Latency, LatencyError};
pub(super) use lengths::Lengths;
pub(super) use nat::{Nat, NatKind};

use crate::proto::time::Time;
use crate::sim::random::{mix, unit};

/// What the simulated network is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// One-way latency, drawn once for each exchange.
    pub latency: Latency,
    /// Milliseconds by which each packet may be slower than that, evenly spread, at most 60,000. Packets overtake one
    /// another by it.
    pub jitter: f64,
    /// Share of the packets that are lost, 0 to below 1.
    pub loss: f64,
    /// Share of the packets that arrive twice, 0 to below 1: the copy by up to one more latency later.
    pub duplicate: f64,
    /// Share of the packets that are held up by up to one more latency, so that later ones overtake them, 0 to below 1.
    pub reorder: f64,
    /// A split of the network, while it lasts.
    pub partition: Option<Partition>,
    /// Who stands behind an address translator.
    pub nat: NatShares,
    /// Whose clock is wrong.
    pub clocks: WrongClocks,
}

/// Which shares of the nodes stand behind address translators of which kind; the rest is reachable by everybody, and so
/// are the first four nodes. A port is open for two minutes after the last packet that the node sent by it; filling
/// tables from a list opens none, so with translators let the nodes join.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NatShares {
    /// One external port, open to everybody while the node sends anything at all.
    pub full_cone: f64,
    /// One external port, open to the addresses to which the node has sent, whatever their ports.
    pub restricted: f64,
    /// Another external port for each destination, open to that address and port alone.
    pub symmetric: f64,
}

/// Clocks that do not tell the time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WrongClocks {
    /// Share of the nodes whose clock is wrong.
    pub share: f64,
    /// Seconds by which those are ahead or behind at most, evenly spread; at most a year.
    pub seconds: f64,
}

/// Nodes below a number and those from it on hear nothing of one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number of the first node of the other side.
    pub boundary: usize,
    /// From then on.
    pub from: Time,
    /// Until then.
    pub until: Time,
}

impl Network {
    /// A network that only takes its time.
    pub fn new(latency: Latency) -> Self {
        Self {
            latency,
            jitter: 0.0,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            partition: None,
            nat: NatShares::default(),
            clocks: WrongClocks::default(),
        }
    }

    pub(super) fn separates(&self, a: usize, b: usize, now: Time) -> bool {
        self.partition.is_some_and(|split| {
            (split.from..split.until).contains(&now) && (a < split.boundary) != (b < split.boundary)
        })
    }
}

impl WrongClocks {
    /// By how many microseconds the Unix clock of a node is ahead, or behind when that is negative.
    pub(super) fn offset(&self, seed: u64, node: u32) -> i64 {
        let random = mix(mix(seed, 0x636c_6f63), u64::from(node));
        if unit(random) < self.share { ((2.0 * unit(mix(random, 1)) - 1.0) * self.seconds * 1e6) as i64 } else { 0 }
    }
}

#[cfg(test)]
mod tests;
