//! x
#![allow(missing_docs)]
pub mod bootstrap;
mod discovery;
pub mod proto;
mod udp;

pub use discovery::{
    Advertise, Builder, Discovery, Events, Foreign, Lagged, RequestError, Snapshot, SnapshotNode, StartError, Stats,
};
