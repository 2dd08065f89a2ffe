//! The packet: framing, hash and signature.

use bytes::BytesMut;
use rlp::RlpStream;
use thiserror::Error;

use super::{Message, MessageKind};
use crate::proto::crypto::{self, CryptoError, SIGNATURE_LEN};
use crate::proto::identity::{NodeKey, PublicKey};

/// The hash at the head of a packet, by which answers name their requests.
pub type Hash = [u8; 32];

/// Hash, signature and type: what stands before the RLP.
pub const HEADER_LEN: usize = 32 + SIGNATURE_LEN + 1;

/// The longest packet of the specification, and the longest that we send, in bytes.
pub const MAX_PACKET_LEN: usize = 1280;

/// The longest NEIGHBORS that we read when we asked for it, in bytes.
///
/// ethereumjs puts 16 nodes into one packet, which makes 1,373 bytes with IPv4 addresses. With IPv6, and an expiration of
/// eight bytes, it is 16 * 91 + 113 = 1,569.
pub const MAX_NEIGHBORS_LEN: usize = 1569;

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

/// A datagram with the frame of a packet: length, hash, type and range of the signature are right.
#[derive(Clone, Copy, Debug)]
pub struct Framed<'a> {
    hash: Hash,
    signature: [u8; SIGNATURE_LEN],
    kind: MessageKind,
    /// Type and RLP.
    signed: &'a [u8],
}

/// A packet whose form is right, and whose sender is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    hash: Hash,
    signed: Hash,
    signature: [u8; SIGNATURE_LEN],
    message: Message,
}

/// A packet with its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The packet's hash.
    pub hash: Hash,
    /// Who signed it.
    pub sender: PublicKey,
    /// What it says.
    pub message: Message,
}

impl Framed<'_> {
    /// The packet's hash.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// Which of the six messages it says to be.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Reads what it says, whoever says it.
    pub fn message(&self) -> Result<Message, OpenError> {
        Message::decode(self.kind, &self.signed[1..]).map_err(|_| OpenError::Payload)
    }

    /// The packet apart from the datagram, with what it was read to say.
    pub fn claim(self, message: Message) -> Unverified {
        Unverified { hash: self.hash, signed: crypto::keccak256(self.signed), signature: self.signature, message }
    }
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

    /// Finds out who signed it. This is the expensive step: one public key recovery.
    pub fn recover(self) -> Result<Opened, OpenError> {
        let key = crypto::recover(&self.signed, &self.signature).map_err(|error| match error {
            CryptoError::SignatureRange => OpenError::SignatureRange,
            _ => OpenError::Signature,
        })?;
        Ok(Opened { hash: self.hash, sender: PublicKey(key), message: self.message })
    }
}

/// Looks at the length of a datagram.
pub fn check_len(datagram: &[u8]) -> Result<(), OpenError> {
    match datagram.len() {
        0..=HEADER_LEN => Err(OpenError::TooShort),
        len if len > MAX_NEIGHBORS_LEN => Err(OpenError::TooLong),
        _ => Ok(()),
    }
}

/// Looks at the frame of a datagram: length, hash, type, signature range.
pub fn frame(datagram: &[u8]) -> Result<Framed<'_>, OpenError> {
    check_len(datagram)?;
    let (first, rest) = datagram.split_at(32);
    let hash = crypto::keccak256(rest);
    if hash != first {
        return Err(OpenError::Hash);
    }
    let (signature, signed) = rest.split_at(SIGNATURE_LEN);
    let kind = MessageKind::from_byte(signed[0]).ok_or(OpenError::Type)?;
    if datagram.len() > MAX_PACKET_LEN && kind != MessageKind::Neighbors {
        return Err(OpenError::TooLong);
    }
    let mut fixed = [0; SIGNATURE_LEN];
    fixed.copy_from_slice(signature);
    crypto::check_signature_range(&fixed).map_err(|_| OpenError::SignatureRange)?;
    Ok(Framed { hash, signature: fixed, kind, signed })
}

/// Reads a datagram as far as that goes without knowing the sender.
pub fn parse(datagram: &[u8]) -> Result<Unverified, OpenError> {
    let framed = frame(datagram)?;
    let message = framed.message()?;
    Ok(framed.claim(message))
}

/// Reads a datagram whole. Neither the expiration nor whether anybody asked for it is looked at.
pub fn open(datagram: &[u8]) -> Result<Opened, OpenError> {
    parse(datagram)?.recover()
}

/// Makes packets, again and again in the same memory.
pub struct Sealer {
    /// Its buffer begins with the room for the header.
    rlp: RlpStream,
}

impl Default for Sealer {
    fn default() -> Self {
        Self { rlp: RlpStream::new_with_buffer(BytesMut::zeroed(HEADER_LEN)) }
    }
}

impl Sealer {
    /// Encodes and signs `message`, appends the packet to `out` and returns its hash.
    ///
    /// With at most [`super::Neighbors::MAX_SENT`] nodes and a record of at most 300 bytes the packet has no more than
    /// [`MAX_PACKET_LEN`] bytes.
    pub fn seal(&mut self, key: &NodeKey, message: &Message, out: &mut Vec<u8>) -> Hash {
        self.rlp.clear();
        message.encode(&mut self.rlp);
        let start = out.len();
        out.extend_from_slice(self.rlp.as_raw());
        let packet = &mut out[start..];
        packet[HEADER_LEN - 1] = message.kind() as u8;
        let signature = key.sign(&crypto::keccak256(&packet[HEADER_LEN - 1..]));
        packet[32..32 + SIGNATURE_LEN].copy_from_slice(&signature);
        let hash = crypto::keccak256(&packet[32..]);
        packet[..32].copy_from_slice(&hash);
        hash
    }
}

/// [`Sealer::seal`] for one packet: the former content of `buffer` is lost.
pub fn seal(key: &NodeKey, message: &Message, buffer: &mut Vec<u8>) -> Hash {
    buffer.clear();
    Sealer::default().seal(key, message, buffer)
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
