//! The engine on a real UDP socket: the socket itself, and the loop that moves packets between it and the engine.
//!
//! A datagram goes from the socket through framing, screening and key recovery into the engine; what the engine wants
//! said is sealed and goes out by the same socket. [`Driver::run`] is that way, top to bottom. Recovering and sealing,
//! which is nearly all of the work, are done for a batch at a time by a [`crew`] of threads.

mod backlog;
mod clock;
mod crew;
mod driver;
mod parcel;
mod socket;
mod watch;

pub(crate) use driver::{Driver, Request, Shared};
pub(crate) use socket::{Socket, host_addresses};
