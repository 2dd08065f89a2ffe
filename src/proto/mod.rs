//! The protocol, pure: no socket, no clock, no thread, no ambient randomness.
//!
//! Time comes in as an argument, randomness from a generator that is seeded at construction, datagrams come in and go
//! out as values. The daemon, the tests and the simulator all drive this one implementation.
//!
//! Dependencies point one way: `time`, `crypto`, `identity` ← `contacts` ← `wire`, `table`, `lookup` ← `engine`.

pub mod config;
pub mod contacts;
pub mod crypto;
pub mod engine;
pub mod identity;
pub mod lookup;
pub(crate) mod random;
pub mod table;
pub mod time;
pub mod wire;
