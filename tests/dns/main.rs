//! First contacts by DNS, from a real server on loopback to real nodes.

mod nodes;
#[cfg(feature = "cli")]
mod program;
mod resolver;
mod server;
mod walk;
