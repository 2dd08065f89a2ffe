//! The simulator: networks of real engines in virtual time.
//!
//! Every node is a [`crate::proto::engine::Engine`], the very code that runs in the daemon. The simulation repeats bit for
//! bit from its seed, on any number of threads.

mod network;
mod population;
mod queue;
mod truth;
mod warm;
mod world;

pub use network::{Latency, LatencyError};
pub use population::{MAX_NODES, PORT, Population, Shared};
pub use truth::Truth;
pub use warm::Choice;
pub use world::{Fidelity, Network, Partition, SimEngine, Traffic, World};

#[cfg(test)]
mod tests;
