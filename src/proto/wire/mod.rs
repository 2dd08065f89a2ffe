//! The discv4 wire format: six messages, and the packet around them.
//!
//! A packet is `hash || signature || type || RLP`, where `hash = keccak256(signature || type || RLP)` and the signature
//! is over `keccak256(type || RLP)` (discv4 specification, "Wire Protocol"). As EIP-8 asks, further list items, bytes
//! after the list and the version number of PING are ignored.
//!
//! [`seal`] and [`open`] are pure functions; a driver may run them on any thread. [`open`] is [`parse`], which costs a
//! hash, and [`Unverified::recover`], which costs a public key recovery: whoever can tell from the parsed packet that
//! it is of no use stops between the two.

mod message;
mod packet;

pub use message::{
    EnrRequest, EnrResponse, FindNode, Message, MessageKind, Neighbors, NodeEntry, Ping, Pong, WireEndpoint,
};
pub(crate) use packet::encoded_len;
pub use packet::{
    Framed, HEADER_LEN, Hash, MAX_NEIGHBORS_LEN, MAX_PACKET_LEN, OpenError, Opened, Sealer, Unverified, check_len,
    frame, open, parse, seal,
};
