//! What can be seen of a node.

use std::sync::Arc;
use std::time::Duration;

use crate::proto::engine::Counters;
use crate::proto::identity::{Contact, NodeId, Record};

/// Some figures of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Members of the table.
    pub members: usize,
    /// Members that answered when last asked.
    pub live: usize,
    /// Members to whom we have proved ourselves as well: they answer our FINDNODE.
    pub bonded: usize,
    /// Configured contacts, resolved ones only.
    pub bootnodes: usize,
    /// Datagrams received.
    pub packets_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Lookups done.
    pub lookups: u64,
    /// All counters.
    pub counters: Counters,
}

/// The table at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Members and replacements, farthest bucket first.
    pub nodes: Vec<SnapshotNode>,
}

/// A node of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotNode {
    /// Key and endpoint.
    pub contact: Contact,
    /// The node ID.
    pub id: NodeId,
    /// Log distance to the local node, 1 to 256: its bucket.
    pub log_distance: u16,
    /// A replacement, which waits for a place.
    pub replacement: bool,
    /// Whether it answered when last asked.
    pub live: bool,
    /// The smoothed round trip time, within 10 %.
    pub rtt: Duration,
    /// Since its last PONG, in whole seconds.
    pub last_seen: Duration,
    /// Its record, if it was fetched.
    pub record: Option<Arc<Record>>,
}
