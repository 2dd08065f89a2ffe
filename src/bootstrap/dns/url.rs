//! URLs of trees: `enrtree://<key>@<domain>` (EIP-1459).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::base32;
use crate::proto::crypto;
use crate::proto::identity::{Host, PublicKey};

/// Longest domain of a tree, in bytes: a DNS name has at most 253, and a hash of 52 characters and a dot stand before it.
const MAX_DOMAIN: usize = 200;

/// A tree of node records in DNS, and the key that signs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeUrl {
    /// The key that has signed the root.
    pub key: PublicKey,
    /// The DNS name of the root, in small letters.
    pub domain: String,
}

/// Why a text is not the URL of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TreeUrlError {
    /// It does not begin with `enrtree://`.
    #[error("the URL of a tree begins with enrtree://")]
    Scheme,
    /// No `@` between key and domain.
    #[error("there is no @ between the key and the domain: the URL of a tree is enrtree://KEY@DOMAIN")]
    NoDomain,
    /// The part before the `@`.
    #[error("{0:?} is no key of a tree: that is a compressed secp256k1 key in base32, 53 characters")]
    Key(String),
    /// The part behind the `@`.
    #[error("{0:?} is no DNS name of at most {MAX_DOMAIN} characters, as the URL of a tree needs one")]
    Domain(String),
}

impl fmt::Display for TreeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enrtree://{}@{}", base32::encode(&self.key.compressed()), self.domain)
    }
}

impl FromStr for TreeUrl {
    type Err = TreeUrlError;

    fn from_str(text: &str) -> Result<Self, TreeUrlError> {
        let rest = text.strip_prefix("enrtree://").ok_or(TreeUrlError::Scheme)?;
        let (key, domain) = rest.split_once('@').ok_or(TreeUrlError::NoDomain)?;
        let point = base32::decode(key).and_then(|compressed| crypto::decompress(&compressed));
        let point = point.ok_or_else(|| TreeUrlError::Key(key.to_owned()))?;
        match domain.parse() {
            Ok(Host::Name(domain)) if domain.len() <= MAX_DOMAIN => Ok(Self { key: PublicKey(point), domain }),
            _ => Err(TreeUrlError::Domain(domain.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The URL in the example of EIP-1459.
    const EXAMPLE: &str = "enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@morenodes.example.org";

    #[test]
    fn urls_come_back_as_they_went_in() {
        let url: TreeUrl = EXAMPLE.parse().unwrap();
        assert_eq!((url.to_string().as_str(), url.domain.as_str()), (EXAMPLE, "morenodes.example.org"));
        assert_eq!(EXAMPLE.replace("org", "ORG.").parse(), Ok(url));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let key = &EXAMPLE[10..63];
        let error = |text: &str| text.parse::<TreeUrl>().unwrap_err();
        assert_eq!(error("enrtree:x"), TreeUrlError::Scheme);
        assert_eq!(error("enrtree://x"), TreeUrlError::NoDomain);
        for wrong in ["", "x", &key[1..], &key.replace("AM", "BM")] {
            assert_eq!(error(&format!("enrtree://{wrong}@a.b")), TreeUrlError::Key(wrong.to_owned()));
        }
        for wrong in ["", "a.b:5", "1.2.3.4", "a b", "a?b", &"a.".repeat(120)] {
            assert_eq!(error(&format!("enrtree://{key}@{wrong}")), TreeUrlError::Domain(wrong.to_owned()));
        }
    }
}
