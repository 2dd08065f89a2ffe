//! First contacts by DNS, from a real server on loopback to real nodes.

mod nodes;
mod resolver;
mod server;
mod walk;
