//! The texts of a tree: its root, and the entries below it (EIP-1459).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use super::{TreeUrl, TreeUrlError, base32};
use crate::proto::crypto;
use crate::proto::identity::{PublicKey, Record, RecordError};

/// Longest text of a root or an entry, in bytes: 1,024. A record has at most 404, and EIP-1459 has branches fit into 370.
pub const MAX_TEXT_LEN: usize = 1024;

/// The name of an entry: the first 16 bytes of keccak256 of its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 16]);

/// The root of a tree, whose signature has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The subtree of records.
    pub nodes: Hash,
    /// The subtree of links to other trees.
    pub links: Hash,
    /// Rises with each change.
    pub seq: u64,
}

/// What an entry below the root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `enrtree-branch:<hash>,<hash>...`: further entries.
    Branch(Vec<Hash>),
    /// `enr:<base64>`: a node.
    Node(Box<Record>),
    /// `enrtree://<key>@<domain>`: another tree.
    Link(TreeUrl),
}

/// Why a root is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RootError {
    /// No text of the name begins as a root does.
    #[error("no TXT record there begins with enrtree-root:v1")]
    Missing,
    /// Longer than [`MAX_TEXT_LEN`].
    #[error("the root has {0} bytes, and {MAX_TEXT_LEN} is the most that is read")]
    TooLong(usize),
    /// A part is missing or malformed.
    #[error("the root is damaged: it has to say e=HASH l=HASH seq=NUMBER sig=SIGNATURE")]
    Form,
    /// Signed by another key, or for another text.
    #[error("the signature of the root is not that of the key in the URL")]
    Signature,
    /// An older root than one that has been seen.
    #[error("the root has the sequence number {got}, and {seen} has been seen: the newer tree is kept")]
    Older {
        /// What it says.
        got: u64,
        /// The highest so far.
        seen: u64,
    },
}

/// Why an entry is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// There is no text of that name.
    #[error("it is not there")]
    Missing,
    /// No text there has the hash that is its name.
    #[error("its text does not have the hash that is its name")]
    Hash,
    /// Longer than [`MAX_TEXT_LEN`].
    #[error("it has {0} bytes, and {MAX_TEXT_LEN} is the most that is read")]
    TooLong(usize),
    /// It begins in no known way.
    #[error("it is no branch, no record and no link")]
    Kind,
    /// A branch with a name in it that is none.
    #[error("it is a branch, and {0:?} in it is no hash")]
    Child(String),
    /// A record with a mistake.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// A link with a mistake.
    #[error("{0}")]
    Link(#[from] TreeUrlError),
    /// A record among the links, or a link among the records.
    #[error("it is in the wrong one of the two subtrees")]
    Place,
}

impl Hash {
    /// The hash of a text.
    pub fn of(text: &str) -> Self {
        let hash = crypto::keccak256(text.as_bytes());
        Self(std::array::from_fn(|at| hash[at]))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        let bytes = base32::decode(text).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| EntryError::Child(text.to_owned()))
    }
}

impl Root {
    /// The root among the texts of a name, if `key` has signed it.
    ///
    /// # Errors
    /// Whatever is wrong with the first text that begins as a root does.
    pub fn find(texts: &[String], key: &PublicKey) -> Result<Self, RootError> {
        let text = texts.iter().find(|text| text.starts_with("enrtree-root:")).ok_or(RootError::Missing)?;
        Self::parse(text, key)
    }

    /// Reads `enrtree-root:v1 e=<hash> l=<hash> seq=<number> sig=<signature>`. What is signed is the text before ` sig=`.
    ///
    /// # Errors
    /// When a part is missing or malformed, or `key` has not signed it.
    pub fn parse(text: &str, key: &PublicKey) -> Result<Self, RootError> {
        if text.len() > MAX_TEXT_LEN {
            return Err(RootError::TooLong(text.len()));
        }
        let (signed, signature) = text.split_once(" sig=").ok_or(RootError::Form)?;
        let root = Self::parse_signed(signed).ok_or(RootError::Form)?;
        let signature = URL_SAFE_NO_PAD.decode(signature.trim_end_matches('=')).map_err(|_| RootError::Form)?;
        // The 65th byte would serve to compute the key, which is known.
        if signature.len() != crypto::SIGNATURE_LEN {
            return Err(RootError::Form);
        }
        if !crypto::verify(&key.0, &crypto::keccak256(signed.as_bytes()), &signature[..64]) {
            return Err(RootError::Signature);
        }
        Ok(root)
    }

    fn parse_signed(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("enrtree-root:v1 ")?.split(' ');
        let nodes = parts.next()?.strip_prefix("e=")?.parse().ok()?;
        let links = parts.next()?.strip_prefix("l=")?.parse().ok()?;
        let seq = parts.next()?.strip_prefix("seq=")?;
        // A sign is no part of the number.
        let seq = if seq.starts_with('+') { return None } else { seq.parse().ok()? };
        parts.next().is_none().then_some(Self { nodes, links, seq })
    }
}

impl Entry {
    /// The entry among the texts of its name: that with its hash.
    ///
    /// # Errors
    /// When there is none, or it is malformed.
    pub fn find(texts: &[String], hash: &Hash) -> Result<Self, EntryError> {
        let long = texts.iter().find(|text| text.len() > MAX_TEXT_LEN);
        let found = texts.iter().find(|text| text.len() <= MAX_TEXT_LEN && Hash::of(text) == *hash);
        match (found, long) {
            (Some(text), _) => text.parse(),
            (None, Some(long)) => Err(EntryError::TooLong(long.len())),
            (None, None) if texts.is_empty() => Err(EntryError::Missing),
            (None, None) => Err(EntryError::Hash),
        }
    }
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        if text.len() > MAX_TEXT_LEN {
            return Err(EntryError::TooLong(text.len()));
        }
        if let Some(children) = text.strip_prefix("enrtree-branch:") {
            // A tree without entries is an empty branch.
            let children = children.split(',').filter(|child| !child.is_empty());
            return Ok(Entry::Branch(children.map(str::parse).collect::<Result<_, _>>()?));
        }
        if text.starts_with("enrtree://") {
            return Ok(Entry::Link(text.parse()?));
        }
        if text.starts_with("enr:") {
            return Ok(Entry::Node(Box::new(text.parse()?)));
        }
        Err(EntryError::Kind)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Branch(children) => {
                f.write_str("enrtree-branch:")?;
                for (index, child) in children.iter().enumerate() {
                    write!(f, "{}{child}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Entry::Node(record) => record.fmt(f),
            Entry::Link(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example zone of EIP-1459, and the key that has signed it: that is recovered from the signature.
    const ROOT: &str = "enrtree-root:v1 e=JWXYDBPXYWG6FX3GMDIBFA6CJ4 l=C7HRFPF3BLGF3YR4DY5KX3SMBE seq=1 sig=o908WmNp7LibOfPsr4btQwatZJ5URBr2ZAuxvK4UWHlsB9sUOTJQaGAlLPVAhM__XJesCHxLISo94z5Z2a463gA";
    const KEY: &str = "enrtree://AKPYQIUQIL7PSIACI32J7FGZW56E5FKHEFCCOFHILBIMW3M6LWXS2@nodes.example.org";
    const ENTRIES: [(&str, &str); 5] = [
        (
            "C7HRFPF3BLGF3YR4DY5KX3SMBE",
            "enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@morenodes.example.org",
        ),
        (
            "JWXYDBPXYWG6FX3GMDIBFA6CJ4",
            "enrtree-branch:2XS2367YHAXJFGLZHVAWLQD4ZY,H4FHT4B454P6UXFD7JCYQ5PWDY,MHTDO6TMUBRIA2XWG5LUDACK24",
        ),
        (
            "2XS2367YHAXJFGLZHVAWLQD4ZY",
            "enr:-HW4QOFzoVLaFJnNhbgMoDXPnOvcdVuj7pDpqRvh6BRDO68aVi5ZcjB3vzQRZH2IcLBGHzo8uUN3snqmgTiE56CH3AMBgmlkgnY0iXNlY3AyNTZrMaECC2_24YYkYHEgdzxlSNKQEnHhuNAbNlMlWJxrJxbAFvA",
        ),
        (
            "H4FHT4B454P6UXFD7JCYQ5PWDY",
            "enr:-HW4QAggRauloj2SDLtIHN1XBkvhFZ1vtf1raYQp9TBW2RD5EEawDzbtSmlXUfnaHcvwOizhVYLtr7e6vw7NAf6mTuoCgmlkgnY0iXNlY3AyNTZrMaECjrXI8TLNXU0f8cthpAMxEshUyQlK-AM0PW2wfrnacNI",
        ),
        (
            "MHTDO6TMUBRIA2XWG5LUDACK24",
            "enr:-HW4QLAYqmrwllBEnzWWs7I5Ev2IAs7x_dZlbYdRdMUx5EyKHDXp7AV5CkuPGUPdvbv1_Ms1CPfhcGCvSElSosZmyoqAgmlkgnY0iXNlY3AyNTZrMaECriawHKWdDRk2xeZkrOXBQ0dfMFLHY4eENZwdufn1S1o",
        ),
    ];

    fn key() -> PublicKey {
        KEY.parse::<TreeUrl>().unwrap().key
    }

    #[test]
    fn the_example_of_eip_1459() {
        let root = Root::parse(ROOT, &key()).unwrap();
        assert_eq!(root, Root { nodes: ENTRIES[1].0.parse().unwrap(), links: ENTRIES[0].0.parse().unwrap(), seq: 1 });
        for (hash, text) in ENTRIES {
            let entry = Entry::find(&["v=spf1 -all".to_owned(), text.to_owned()], &hash.parse().unwrap()).unwrap();
            assert_eq!((Hash::of(text).to_string().as_str(), entry.to_string().as_str()), (hash, text));
            match entry {
                Entry::Branch(children) => {
                    let names: Vec<String> = children.iter().map(Hash::to_string).collect();
                    assert_eq!(names, ENTRIES[2..].iter().map(|(hash, _)| *hash).collect::<Vec<_>>());
                }
                Entry::Link(url) => assert_eq!(url.domain, "morenodes.example.org"),
                Entry::Node(record) => assert_eq!(record.endpoint(), None),
            }
        }
    }

    #[test]
    fn a_root_that_is_not_as_it_was_signed_is_refused() {
        let parse = |text: &str| Root::parse(text, &key()).unwrap_err();
        assert_eq!(parse(&ROOT.replace("seq=1", "seq=2")), RootError::Signature);
        assert_eq!(parse(&ROOT.replace("e=J", "e=K")), RootError::Signature);
        assert_eq!(parse(&ROOT.replace("sig=o9", "sig=p9")), RootError::Signature);
        let other: TreeUrl = ENTRIES[0].1.parse().unwrap();
        assert_eq!(Root::parse(ROOT, &other.key), Err(RootError::Signature));
        for form in [
            "enrtree-root:v1",
            &ROOT[..100],
            &ROOT[..150],
            &ROOT.replace("v1", "v2"),
            &ROOT.replace("seq=1", "seq=+1"),
            &ROOT.replace("seq=1", "seq=99999999999999999999"),
            &ROOT.replace("seq=1", "seq=1 x=2"),
            &ROOT.replace("e=J", "e=8"),
            &ROOT.replace("l=C7", "l="),
            &ROOT.replace(" sig=", " sig=%"),
        ] {
            assert_eq!(parse(form), RootError::Form, "{form}");
        }
        let find =
            |texts: &[&str]| Root::find(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), &key());
        assert_eq!(find(&[]), Err(RootError::Missing));
        assert_eq!(find(&["v=spf1 -all"]), Err(RootError::Missing));
        assert_eq!(find(&["v=spf1 -all", ROOT]).unwrap().seq, 1);
        assert_eq!(parse(&format!("{ROOT}{}", "A".repeat(1000))), RootError::TooLong(ROOT.len() + 1000));
        // The padding that other writers of base64 leave.
        assert!(Root::parse(&format!("{ROOT}="), &key()).is_ok());
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_named() {
        let error = |text: &str| text.parse::<Entry>().unwrap_err();
        assert_eq!(error("hello"), EntryError::Kind);
        assert_eq!(error("enrtree-root:v1"), EntryError::Kind);
        assert_eq!(error("enrtree-branch:A"), EntryError::Child("A".into()));
        assert_eq!(error(&ENTRIES[1].1.replace("H4", "4")), EntryError::Child("4FHT4B454P6UXFD7JCYQ5PWDY".into()));
        assert_eq!(error("enrtree://x"), EntryError::Link(TreeUrlError::NoDomain));
        assert_eq!(error("enr:x"), EntryError::Record(RecordError::Base64));
        assert_eq!(error(&"x".repeat(1025)), EntryError::TooLong(1025));
        assert_eq!("enrtree-branch:".parse(), Ok(Entry::Branch(Vec::new())));
        let hash = Hash::of("something else");
        let find = |texts: &[&str]| {
            Entry::find(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), &hash).unwrap_err()
        };
        assert_eq!(find(&[]), EntryError::Missing);
        assert_eq!(find(&[ENTRIES[1].1, "hello"]), EntryError::Hash);
        assert_eq!(find(&[&"x".repeat(1025)]), EntryError::TooLong(1025));
    }
}
