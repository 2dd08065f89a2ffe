//! The engine on a real UDP socket: the socket itself, and the loop that moves packets between it and the engine.
//!
//! A datagram goes from the socket through parsing, screening and key recovery into the engine; what the engine wants
//! said is sealed and goes out by the same socket. [`Driver::run`] is that way, top to bottom.

mod driver;
mod socket;

pub(crate) use driver::{Driver, Request, Shared};
pub(crate) use socket::{Socket, host_addresses};
