//! The simulator: networks of real engines in virtual time.
//!
//! Every node is a [`crate::proto::engine::Engine`], the very code that runs in the daemon. A simulation repeats bit for
//! bit from its seed, on any number of threads. [`Setup`] is the way in for lookup experiments, [`SCENARIOS`] are
//! some that have a name, [`World`] is there for anything else.
//!
//! ```
//! use kadnode::sim::Setup;
//!
//! let report = Setup { nodes: 50, lookups: 20, ..Setup::default() }.run(|_, _| ())?;
//! assert_eq!(report.found_closest, 1.0);
//! # Ok::<(), kadnode::sim::SetupError>(())
//! ```

pub mod attack;
mod census;
mod churn;
mod experiment;
mod network;
mod outcome;
#[cfg(feature = "plot")]
pub mod plot;
mod population;
mod probes;
mod queue;
mod random;
mod report;
mod scenario;
mod setup;
pub mod theory;
mod truth;
mod warm;
mod world;

pub use churn::Sessions;
pub use network::{Latency, LatencyError, NatShares, Network, NetworkError, Partition, WrongClocks};
pub use population::{MAX_NODES, PORT, Population, Shared};
/// For the benchmark of the queue alone.
#[doc(hidden)]
pub use queue::{BucketQueue, Timed};
pub use report::{BucketFill, Census, Joiners, KindRate, Moment, Report, Summary, SybilFigures};
pub use scenario::{SCENARIOS, Scenario};
pub use setup::{Arrivals, Contacts, Course, Fill, Setup, SetupError, Target};
pub use truth::Truth;
pub use warm::Choice;
pub use world::{Fidelity, SimEngine, Traffic, World};

#[cfg(test)]
mod tests;
