//! Attacks, really run: against one node whose surroundings are scripted, and by Sybils in a whole network.
//!
//! [`Eclipse`] is the attack of Marcus, Heilman and Goldberg 2018 ("Low-Resource Eclipse Attacks on Ethereum's
//! Peer-to-Peer Network", ePrint 2018/236) on one engine. Sybils are a setting of lookup experiments:
//! [`crate::sim::Setup::sybils`].

mod crowd;
mod eclipse;
mod report;
mod stage;
mod sybils;

pub use eclipse::{Eclipse, EclipseError, Limits};
pub use report::{After, EclipseReport, EclipseRun};
pub(super) use sybils::Sybils;
