//! First contacts by DNS, from a real server on loopback to real nodes.

mod nodes;
#[cfg(feature = "cli")]
mod program;
#[path = "../shared/quick.rs"]
mod quick;
mod resolver;
mod server;
mod walk;
