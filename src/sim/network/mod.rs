//! The network between the nodes: how long a packet takes, and whether it arrives.

mod latency;

pub use latency::{Latency, LatencyError};

use crate::proto::time::Time;

/// What the simulated network is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// One-way latency, drawn once for each exchange.
    pub latency: Latency,
    /// Milliseconds by which each packet may be slower than that, evenly spread. Packets overtake one another by it.
    pub jitter: f64,
    /// Share of the packets that are lost, 0 to below 1.
    pub loss: f64,
    /// Share of the packets that arrive twice, 0 to below 1.
    pub duplicate: f64,
    /// Share of the packets that are held up, so that later ones overtake them, 0 to below 1.
    pub reorder: f64,
    /// A split of the network, while it lasts.
    pub partition: Option<Partition>,
    /// Who stands behind an address translator.
    pub nat: NatShares,
    /// Whose clock is wrong.
    pub clocks: WrongClocks,
}

/// Which shares of the nodes stand behind address translators of which kind; the rest is reachable by everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NatShares {
    /// One external port, open to everybody while the node sends anything at all.
    pub full_cone: f64,
    /// One external port, open to the addresses to which the node has sent.
    pub restricted: f64,
    /// Another external port for each destination, open to that alone.
    pub symmetric: f64,
}

/// Clocks that do not tell the time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WrongClocks {
    /// Share of the nodes whose clock is wrong.
    pub share: f64,
    /// Seconds by which those are ahead or behind, evenly spread.
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
