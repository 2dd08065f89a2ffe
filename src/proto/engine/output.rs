//! What goes into the engine beside datagrams, and what comes out of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::alarms::Alarm;
#[cfg(doc)]
use crate::proto::config::MAX_PATHS;
use crate::proto::identity::{Contact, IdPrefix, NodeId, PublicKey, Record};
use crate::proto::time::Time;
use crate::proto::wire::Message;

/// One thing that the engine wants of its driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Seal and send this.
    Transmit(Transmit),
    /// Tell whoever listens.
    Event(Event),
    /// The answer to a command.
    Reply(CommandId, Reply),
    /// Nothing more: call `handle_timeout` at this time unless an input comes before.
    Wait(Time),
}

/// A message to be sealed and sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Transmit {
    /// The destination.
    pub to: SocketAddr,
    /// What to say.
    pub message: Message,
    /// When it is there, the packet is a request that its answer names by hash: the engine must be told the hash by
    /// `handle_sealed` before the packet leaves.
    pub request: Option<RequestId>,
}

/// Names a request that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub(super) slot: u32,
    pub(super) serial: u32,
}

/// Names a command; chosen by whoever gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What an application may ask of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Find the nodes nearest to keccak256 of the target.
    Lookup {
        /// Any 64 bytes.
        target: PublicKey,
        /// End as soon as the node with this very key has answered.
        until_found: bool,
        /// Go along so many disjoint paths, 1 to 8 ([`MAX_PATHS`]; more count as 8), instead of
        /// [`LookupConfig::paths`](crate::proto::config::LookupConfig::paths).
        paths: Option<usize>,
    },
    /// Ping a node.
    Ping(Contact),
    /// Ping whoever is at an address, and see who that is. With a pin, others than the node meant are told apart.
    PingAddress(SocketAddr, Option<IdPrefix>),
    /// Ask a node for its record, bonding first where need be.
    RequestRecord(Contact),
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Command::Lookup`].
    Lookup(LookupReport),
    /// To [`Command::Ping`].
    Ping(Pinged),
    /// To [`Command::RequestRecord`].
    Record(Arc<Record>),
    /// It could not be done.
    Failed(CommandError),
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No answer came in time.
    #[error("no answer came from the node")]
    Timeout,
    /// The address answered with another key.
    #[error("another node answered at that address")]
    OtherNode,
    /// The record is not the node's own, or its signature is wrong.
    #[error("the node sent a record that is not valid")]
    BadRecord,
    /// As many things are under way as may be.
    #[error("too much is under way; try again")]
    Busy,
    /// The contact is the local node.
    #[error("that is this node itself")]
    Itself,
    /// The address cannot be sent to.
    #[error("that address cannot be sent to")]
    Unreachable,
    /// The socket is of the other address family.
    #[error("this node listens on the other address family, IPv4 or IPv6, alone; on [::] it has both")]
    OtherFamily,
}

/// The answer to a PING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinged {
    /// Who answered.
    pub contact: Contact,
    /// How long it took.
    pub rtt: Duration,
    /// The sequence number of its record, when it has one.
    pub enr_seq: Option<u64>,
    /// Our address as it sees it.
    pub our_address: Option<IpAddr>,
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupReport {
    /// What was looked for.
    pub target: PublicKey,
    /// The nearest nodes found, nearest first, at most k. Those that have only been heard of are among them only where fewer
    /// than k have answered.
    pub closest: Vec<Found>,
    /// FINDNODE requests made.
    pub queries: u32,
    /// How long it took.
    pub took: Duration,
    /// Each request, in the order in which they ended.
    pub trace: Vec<Step>,
}

impl LookupReport {
    /// Depth of the responder that first named the nearest node found: 0 when it was in our own table.
    pub fn hops(&self) -> Option<u8> {
        self.closest.first().map(|found| found.depth.saturating_sub(1))
    }
}

/// A node that a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The node.
    pub contact: Contact,
    /// Its ID.
    pub id: NodeId,
    /// Whether it has answered us during this very lookup: a FINDNODE, or, as the node that the lookup was for, a PING.
    /// Else it is hearsay, even if it has proved its endpoint before: it may have gone since.
    pub answered: bool,
    /// 1 when it was in our table, 2 when a node of our table named it, and so on.
    pub depth: u8,
}

/// One request of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whom we asked.
    pub contact: Contact,
    /// Log distance of that node to the target.
    pub log_distance: u16,
    /// Length of the chain of referrals that led to it.
    pub depth: u8,
    /// Since the lookup began.
    pub asked_at: Duration,
    /// Since the lookup began; when the answer was complete or given up.
    pub ended_at: Duration,
    /// How many nodes it named; `None` when it did not answer.
    pub named: Option<u8>,
}

/// Why a lookup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A command.
    Command(CommandId),
    /// The engine looked for its own neighbourhood.
    Itself,
    /// The refresh task looked for a random target.
    Refresh,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A node became a member of the table.
    NodeAdded(Contact),
    /// A member is one no longer.
    NodeRemoved(Contact, Removal),
    /// A member's record was fetched, new or newer than what we had.
    RecordUpdated(Arc<Record>),
    /// A lookup ended.
    LookupFinished {
        /// Why it was made.
        origin: Origin,
        /// keccak256 of the target.
        target: NodeId,
        /// How many nodes it found.
        found: usize,
        /// FINDNODE requests made.
        queries: u32,
        /// How long it took.
        took: Duration,
    },
    /// The first member came in, or the last one went.
    Contacts {
        /// Whether there is a member now.
        any: bool,
    },
    /// Our own record has changed.
    LocalRecord(Arc<Record>),
    /// At an address where a certain node was expected another one has answered, and is not taken for it.
    OtherNode {
        /// The address.
        addr: SocketAddr,
        /// Who answered.
        id: NodeId,
    },
    /// Something that the operator should know of.
    Alarm(Alarm),
}

/// Why a member left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It answered no longer.
    Dead,
    /// It made room for a node that makes its bucket more diverse.
    Displaced,
    /// It answers at another endpoint now.
    Moved,
    /// It answered PINGs, but no FINDNODE.
    Unhelpful,
}
