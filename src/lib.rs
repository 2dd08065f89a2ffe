//! x
#![allow(missing_docs)]
pub mod bootstrap;
#[cfg(feature = "cli")]
pub mod cli;
pub mod proto;
pub mod store;
