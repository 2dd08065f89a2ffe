//! What is remembered between runs: the data directory with the node's key and its last record.
//!
//! The directory holds `LOCK` (held while a node runs), `node.key` (the private key, 64 hex digits, as in geth's
//! `nodekey`) and `record.enr` (the last record that was shown to anybody). With the feature `store` there is also
//! `nodes.db`, an SQLite database of the nodes that have answered: see `NodeDb`.

mod dir;
mod files;
mod key;
#[cfg(feature = "store")]
mod nodes;
mod record;

pub use dir::{DataDir, StoreError};
pub use key::{KeyFileError, KeyWarning, StoredKey, fresh_key};
#[cfg(feature = "store")]
pub use nodes::{NodeDb, NodeDbError, NodeDbLimits, NodeUpdate, OpenedNodeDb, Remembered};
pub use record::{LastRecord, RecordWarning, fresh_seq};
