//! The packet: framing, hash and signature.

use bytes::BytesMut;
use rlp::RlpStream;
use thiserror::Error;

use super::{Message, MessageKind};
use crate::proto::crypto::{self, CryptoError, SIGNATURE_LEN};
use crate::proto::identity::{NodeId, NodeKey, PublicKey};

/// The hash at the head of a packet, by which answers name their requests.
pub type Hash = [u8; 32];

/// Hash, signature and type: what stands before the RLP.
pub const HEADER_LEN: usize = 32 + SIGNATURE_LEN + 1;

/// The longest packet of the specification, and the longest that we send, in bytes.
pub const MAX_PACKET_LEN: usize = 1280;

/// The longest NEIGHBORS that we read when we asked for it, in bytes.
///
/// ethereumjs puts 16 nodes into one packet, which makes 1,373 bytes with IPv4 addresses. With IPv6 it is
/// 16 * 91 + 109 = 1,565.
pub const MAX_NEIGHBORS_LEN: usize = 1565;

/// What is wrong with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Shorter than a header and the shortest payload.
    #[error("shorter than any packet")]
    TooShort,
    /// Longer than any packet may be.
    #[error("longer than any packet")]
    TooLong,
    /// The hash does not match: damaged, or another protocol.
    #[error("the hash is wrong")]
    Hash,
    /// None of the six types.
    #[error("the packet type is unknown")]
    Type,
    /// The RLP is not what the type demands.
    #[error("the payload is malformed")]
    Payload,
    /// The signature is out of range.
    #[error("the signature is out of range")]
    SignatureRange,
    /// No key can be recovered from the signature.
    #[error("no public key can be recovered from the signature")]
    Signature,
}

/// A packet whose hash and form are right, and whose sender is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    hash: Hash,
    signed: Hash,
    signature: [u8; SIGNATURE_LEN],
    len: usize,
    message: Message,
}

/// A packet with its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The packet's hash.
    pub hash: Hash,
    /// Who signed it.
    pub sender: PublicKey,
    /// keccak256 of the sender's key.
    pub id: NodeId,
    /// What it says.
    pub message: Message,
}

impl Unverified {
    /// The packet's hash.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// What it says, whoever says it.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Whether it is longer than the specification allows, which only an awaited NEIGHBORS may be.
    pub fn is_oversized(&self) -> bool {
        self.len > MAX_PACKET_LEN
    }

    /// Finds out who signed it. This is the expensive step: one public key recovery.
    pub fn recover(self) -> Result<Opened, OpenError> {
        let key = crypto::recover(&self.signed, &self.signature).map_err(|error| match error {
            CryptoError::SignatureRange => OpenError::SignatureRange,
            _ => OpenError::Signature,
        })?;
        let sender = PublicKey(key);
        Ok(Opened { hash: self.hash, sender, id: sender.node_id(), message: self.message })
    }
}

/// Reads a datagram as far as that goes without knowing the sender: length, hash, type, signature range, payload.
pub fn parse(datagram: &[u8]) -> Result<Unverified, OpenError> {
    if datagram.len() <= HEADER_LEN {
        return Err(OpenError::TooShort);
    }
    if datagram.len() > MAX_NEIGHBORS_LEN {
        return Err(OpenError::TooLong);
    }
    let (hash, rest) = datagram.split_at(32);
    if crypto::keccak256(rest) != hash {
        return Err(OpenError::Hash);
    }
    let (signature, payload) = rest.split_at(SIGNATURE_LEN);
    let kind = MessageKind::from_byte(payload[0]).ok_or(OpenError::Type)?;
    if datagram.len() > MAX_PACKET_LEN && kind != MessageKind::Neighbors {
        return Err(OpenError::TooLong);
    }
    let mut fixed = [0; SIGNATURE_LEN];
    fixed.copy_from_slice(signature);
    crypto::check_signature_range(&fixed).map_err(|_| OpenError::SignatureRange)?;
    let message = Message::decode(kind, &payload[1..]).map_err(|_| OpenError::Payload)?;
    let mut own_hash = [0; 32];
    own_hash.copy_from_slice(hash);
    Ok(Unverified {
        hash: own_hash,
        signed: crypto::keccak256(payload),
        signature: fixed,
        len: datagram.len(),
        message,
    })
}

/// Reads a datagram whole. Neither the expiration nor whether anybody asked for it is looked at.
pub fn open(datagram: &[u8]) -> Result<Opened, OpenError> {
    parse(datagram)?.recover()
}

/// Encodes and signs `message` into `buffer`, whose former content is lost, and returns the packet's hash.
///
/// With at most [`super::Neighbors::MAX_SENT`] nodes and a record of at most 300 bytes the packet has no more than
/// [`MAX_PACKET_LEN`] bytes.
pub fn seal(key: &NodeKey, message: &Message, buffer: &mut BytesMut) -> Hash {
    buffer.clear();
    buffer.resize(HEADER_LEN, 0);
    buffer[HEADER_LEN - 1] = message.kind() as u8;
    let mut rlp = RlpStream::new_with_buffer(std::mem::take(buffer));
    message.encode(&mut rlp);
    *buffer = rlp.out();
    let signature = key.sign(&crypto::keccak256(&buffer[HEADER_LEN - 1..]));
    buffer[32..32 + SIGNATURE_LEN].copy_from_slice(&signature);
    let hash = crypto::keccak256(&buffer[32..]);
    buffer[..32].copy_from_slice(&hash);
    hash
}

/// How many bytes [`seal`] makes of `message`, without signing anything.
pub(crate) fn encoded_len(message: &Message) -> usize {
    let mut rlp = RlpStream::new();
    message.encode(&mut rlp);
    HEADER_LEN + rlp.out().len()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
