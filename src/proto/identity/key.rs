//! Private and public keys of nodes.

use std::fmt;
use std::str::FromStr;

use rand::CryptoRng;
use thiserror::Error;

use super::NodeId;
use crate::proto::crypto::{self, CryptoError, SIGNATURE_LEN, SecretKey};

/// Why a text is not a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// 32 bytes: a node ID, from which no public key can be computed.
    #[error(
        "this is a 32-byte node ID; FINDNODE carries a public key, and none can be computed from an ID: give 128 hex digits"
    )]
    NodeId,
    /// Not 64 bytes of hex.
    #[error("a public key is 128 hex digits (64 bytes); this has {0} characters")]
    Length(usize),
    /// Something that is no hex digit.
    #[error("a public key is 128 hex digits; there is a character that is none")]
    Hex,
}

/// A node's public key: the 64 bytes `x || y` of a point on secp256k1.
///
/// Keys that came from the network need not be on the curve: what has signed for such a key cannot exist, so it is found
/// out when the node fails to answer. Any 64 bytes can be the target of a lookup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 64]);

impl PublicKey {
    /// keccak256 of the key.
    pub fn node_id(&self) -> NodeId {
        NodeId(crypto::keccak256(&self.0))
    }

    /// The 33-byte form: a tag for the parity of `y`, then `x`.
    pub fn compressed(&self) -> [u8; 33] {
        let mut bytes = [0; 33];
        bytes[0] = 2 | (self.0[63] & 1);
        bytes[1..].copy_from_slice(&self.0[..32]);
        bytes
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.0[..4]))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        match digits.len() {
            128 => {
                let mut bytes = [0; 64];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| KeyError::Hex)?;
                Ok(PublicKey(bytes))
            }
            64 if digits.bytes().all(|b| b.is_ascii_hexdigit()) => Err(KeyError::NodeId),
            other => Err(KeyError::Length(other)),
        }
    }
}

/// A node's private key, with its public key and ID computed once.
#[derive(Clone)]
pub struct NodeKey {
    secret: SecretKey,
    public: PublicKey,
    id: NodeId,
}

impl NodeKey {
    /// A new key from `rng`.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::new(SecretKey::generate(rng))
    }

    /// The key with these 32 bytes as its scalar.
    ///
    /// # Errors
    /// When the number is zero or not below the order of the group.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CryptoError> {
        SecretKey::from_bytes(bytes).map(Self::new)
    }

    /// The private scalar: keep it secret.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.secret.to_bytes()
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The node ID.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// A recoverable signature over a 32-byte hash.
    pub fn sign(&self, hash: &[u8; 32]) -> [u8; SIGNATURE_LEN] {
        self.secret.sign_recoverable(hash)
    }

    /// A secret for one purpose, the same whenever it is asked for, that tells nothing of the key.
    pub(crate) fn derive(&self, purpose: &str) -> u128 {
        let hash = crypto::keccak256(&[purpose.as_bytes(), &self.to_bytes()].concat());
        let (halves, _) = hash.as_chunks();
        u128::from_be_bytes(halves[0])
    }

    fn new(secret: SecretKey) -> Self {
        let public = PublicKey(secret.public_key());
        Self { id: public.node_id(), public, secret }
    }
}

impl fmt::Debug for NodeKey {
    /// Names the public ID only: private keys are never printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({:?})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_eip_778_has_the_id_that_eip_778_gives() {
        let bytes = hex::decode("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291").unwrap();
        let key = NodeKey::from_bytes(&bytes.try_into().unwrap()).unwrap();
        assert_eq!(key.id().to_string(), "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7");
        assert_eq!(crypto::decompress(&key.public_key().compressed()), Some(key.public_key().0));
    }

    #[test]
    fn a_node_id_is_told_apart_from_a_key() {
        let key = NodeKey::from_bytes(&[9; 32]).unwrap();
        assert_eq!(key.public_key().to_string().parse(), Ok(*key.public_key()));
        assert_eq!(format!("0x{}", key.public_key()).parse(), Ok(*key.public_key()));
        assert_eq!(key.id().to_string().parse::<PublicKey>(), Err(KeyError::NodeId));
        assert_eq!("abc".parse::<PublicKey>(), Err(KeyError::Length(3)));
        assert_eq!("x".repeat(128).parse::<PublicKey>(), Err(KeyError::Hex));
    }

    #[test]
    fn each_purpose_has_a_secret_of_its_own_that_stays() {
        let [one, other] = [1, 2].map(|byte| NodeKey::from_bytes(&[byte; 32]).unwrap());
        assert_eq!(one.derive("a"), NodeKey::from_bytes(&[1; 32]).unwrap().derive("a"));
        assert_ne!(one.derive("a"), one.derive("b"));
        assert_ne!(one.derive("a"), other.derive("a"));
    }

    #[test]
    fn debug_keeps_the_secret() {
        let key = NodeKey::from_bytes(&[9; 32]).unwrap();
        assert!(!format!("{key:?}").contains("0909"));
    }
}
