//! kadnode: Kademlia discv4 node discovery, as a library, a daemon and command line tools.
//!
//! A node has a 256-bit ID derived from its secp256k1 key, keeps XOR-distance k-buckets, and speaks signed PING, PONG,
//! FINDNODE, NEIGHBORS, ENRREQUEST and ENRRESPONSE over UDP, wire-compatible with Ethereum's discv4 (specification:
//! `devp2p/discv4.md`, EIP-8, EIP-778, EIP-868).
//!
//! [`Discovery`] is a running node on a real socket. Two of them find each other:
//!
//! ```
//! use kadnode::bootstrap::Bootnode;
//! use kadnode::proto::identity::NodeKey;
//! use kadnode::Discovery;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let first = Discovery::builder(NodeKey::from_bytes(&[1; 32])?)
//!     .listen("127.0.0.1:0".parse()?)
//!     .start()
//!     .await?;
//! let second = Discovery::builder(NodeKey::from_bytes(&[2; 32])?)
//!     .listen("127.0.0.1:0".parse()?)
//!     .bootnodes([Bootnode::Enode(first.local_enode())])
//!     .start()
//!     .await?;
//! let report = second.lookup(first.local_enode().key).await?;
//! assert_eq!(report.closest[0].contact.key, first.local_enode().key);
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! - [`proto`] is the protocol, pure: identity, wire format, table, lookups, and the [engine](proto::engine) that joins
//!   them into a state machine without socket, clock, thread or ambient randomness.
//! - [`Discovery`] puts the engine on a UDP socket.
//! - [`sim`] puts up to millions of engines into simulated networks, in virtual time.
//! - [`bootstrap`] reads contacts; [`store`] keeps what is remembered between runs.
//!
//! The feature `cli`, on by default, adds the `kadnode` program and its dependencies; a library user turns it off with
//! `default-features = false`. The feature `store`, which `cli` turns on, adds the memory of other nodes
//! (`store::NodeDb`), and with it SQLite.

pub mod bootstrap;
#[cfg(feature = "cli")]
pub mod cli;
mod discovery;
pub mod proto;
pub mod sim;
pub mod store;
#[cfg(test)]
mod testing;
mod udp;

/// The crate of the byte buffers in [`Discovery::send_foreign`] and [`Foreign`].
pub use bytes;
#[cfg(feature = "store")]
pub use discovery::MemoryConfig;
pub use discovery::{
    Advertise, Builder, Discovery, Events, Foreign, Lagged, RequestError, Snapshot, SnapshotNode, StartError, Stats,
};
