//! Who a node is and where it is: keys, IDs and distances, endpoints, node records, enode URLs.

mod endpoint;
mod enode;
mod id;
mod key;
mod record;

pub use endpoint::{AddressClass, Endpoint, EndpointError, Prefix, may_tell, plausible, reaches};
pub(crate) use enode::parse_port;
pub use enode::{Enode, EnodeError, Host};
pub(in crate::proto) use id::subrange;
pub use id::{Distance, IdPrefix, IdPrefixError, NodeId};
pub use key::{KeyError, NodeKey, PublicKey};
pub use record::{MAX_RECORD_LEN, Record, RecordContent, RecordError};

/// A node that can be spoken to: its public key and where it receives datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Contact {
    /// The node's public key.
    pub key: PublicKey,
    /// Where it is.
    pub endpoint: Endpoint,
}

impl Contact {
    /// The node's ID; this costs one keccak256.
    pub fn id(&self) -> NodeId {
        self.key.node_id()
    }
}

impl std::fmt::Display for Contact {
    /// As an enode URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Enode::from(*self).fmt(f)
    }
}
