//! x
#![allow(missing_docs)]
pub mod bootstrap;
#[cfg(feature = "cli")]
pub mod cli;
mod discovery;
pub mod proto;
pub mod store;
mod udp;

pub use discovery::{
    Advertise, Builder, Discovery, Events, Foreign, Lagged, RequestError, Snapshot, SnapshotNode, StartError, Stats,
};
