//! First contacts by DNS: names, seeds, and signed trees of records (EIP-1459).
//!
//! Without the feature `dns`, the system resolves names, and there are no seeds and trees.

mod base32;
#[cfg(feature = "dns")]
mod hickory;
mod resolver;
#[cfg(feature = "dns")]
mod tree;
mod url;
#[cfg(feature = "dns")]
mod walk;

#[cfg(feature = "dns")]
pub use resolver::Service;
pub use resolver::{Answer, DnsError, MAX_ADDRESSES, Resolver};
#[cfg(feature = "dns")]
pub use tree::{Entry, EntryError, Hash, MAX_TEXT_LEN, Root, RootError};
pub use url::{TreeUrl, TreeUrlError};
#[cfg(feature = "dns")]
pub use walk::{
    BURST, MAX_DEPTH, MAX_ENTRIES, MAX_TREES, News, PER_SECOND, Query, RECHECK, RECHECK_SOONEST, Step, Walk,
};

/// Randomness for what nobody should foretell, and nobody repeats.
#[expect(clippy::disallowed_methods, reason = "DNS is outside of what a seed repeats")]
fn rng() -> impl rand::Rng {
    rand::make_rng::<rand::rngs::StdRng>()
}
