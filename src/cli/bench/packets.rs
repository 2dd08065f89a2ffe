//! The packets of a load, sealed before the clock starts.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Mode;
use crate::proto::crypto::{self, CryptoError, SIGNATURE_LEN};
use crate::proto::identity::{Endpoint, NodeKey, PublicKey};
use crate::proto::wire::{self, EnrRequest, FindNode, HEADER_LEN, Hash, Message, Ping, Pong};

/// How far ahead of the clock packets expire, and how long ago the expired ones did, in seconds.
const MARGIN: u64 = 3600;

/// The type of a packet that is none of the six.
const UNKNOWN_TYPE: u8 = 9;

/// Bytes of a datagram that is too short for any packet.
const RUNT_LEN: usize = 64;

/// Packets one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packets {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Packets {
    pub(super) fn push(&mut self, packet: &[u8]) {
        self.bytes.extend_from_slice(packet);
        // A slot has at most 10 million packets of at most 200 bytes.
        self.ends.push(self.bytes.len() as u32);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start as usize..end as usize])
    }
}

/// The hash at the head of a packet, by which its answer names it.
pub(super) fn hash_of(packet: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(&packet[..32]);
    hash
}

/// Makes identities and packets from a seed.
pub(super) struct Maker {
    rng: StdRng,
    unix: u64,
    buffer: Vec<u8>,
    /// Looks like the `r` of a signature and belongs to no point of the curve.
    lone_r: [u8; 32],
}

impl Maker {
    /// Everything follows from `seed`; packets are stamped with `unix`, in seconds.
    pub(super) fn new(seed: u64, unix: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let lone_r = lone_r(&mut rng);
        Self { rng, unix, buffer: Vec::new(), lone_r }
    }

    /// A new identity.
    pub(super) fn key(&mut self) -> NodeKey {
        NodeKey::generate(&mut self.rng)
    }

    /// The packet of a mode. No two with different numbers are alike: the number goes into the expiration.
    pub(super) fn packet(&mut self, mode: Mode, key: &NodeKey, from: Endpoint, to: Endpoint, number: u64) -> &[u8] {
        let mut expiration = self.unix + MARGIN + number;
        let message = match mode {
            Mode::Findnode => {
                let mut target = [0; 64];
                self.rng.fill_bytes(&mut target);
                Message::FindNode(FindNode { target: PublicKey(target), expiration })
            }
            Mode::Enr => Message::EnrRequest(EnrRequest { expiration }),
            Mode::Unsolicited => {
                let mut ping_hash = [0; 32];
                self.rng.fill_bytes(&mut ping_hash);
                Message::Pong(Pong { to: to.into(), ping_hash, expiration, enr_seq: None })
            }
            _ => {
                if mode == Mode::Expired {
                    expiration = self.unix.saturating_sub(MARGIN + number);
                }
                Message::Ping(Ping { from: from.into(), to: to.into(), expiration, enr_seq: None })
            }
        };
        wire::seal(key, &message, &mut self.buffer);
        match mode {
            Mode::Runt => self.buffer.truncate(RUNT_LEN),
            Mode::BadHash => self.buffer[0] ^= 1,
            Mode::ZeroSignature => {
                self.buffer[32..32 + SIGNATURE_LEN].fill(0);
                self.hash();
            }
            Mode::BadSignature => {
                self.buffer[32..64].copy_from_slice(&self.lone_r);
                // The upper two recovery ids stand for an `r` that has been reduced.
                self.buffer[HEADER_LEN - 2] &= 1;
                self.hash();
            }
            Mode::WrongType => {
                self.buffer[HEADER_LEN - 1] = UNKNOWN_TYPE;
                let signature = key.sign(&crypto::keccak256(&self.buffer[HEADER_LEN - 1..]));
                self.buffer[32..32 + SIGNATURE_LEN].copy_from_slice(&signature);
                self.hash();
            }
            _ => {}
        }
        &self.buffer
    }

    /// Puts the hash right after a change.
    fn hash(&mut self) {
        let hash = crypto::keccak256(&self.buffer[32..]);
        self.buffer[..32].copy_from_slice(&hash);
    }
}

/// Half of all numbers are the x of no point; the first one that chance brings will do.
fn lone_r(rng: &mut StdRng) -> [u8; 32] {
    loop {
        let mut signature = [0; SIGNATURE_LEN];
        rng.fill_bytes(&mut signature[..32]);
        signature[63] = 1;
        if crypto::recover(&[1; 32], &signature) == Err(CryptoError::NoPublicKey) {
            let mut r = [0; 32];
            r.copy_from_slice(&signature[..32]);
            return r;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::{MessageKind, OpenError};

    const NOW: u64 = 1_700_000_000;

    fn make(mode: Mode, numbers: std::ops::Range<u64>) -> (PublicKey, Packets) {
        let mut maker = Maker::new(1, NOW);
        let key = maker.key();
        let at = |port| Endpoint::new([127, 0, 0, 1].into(), port, 0);
        let mut packets = Packets::default();
        for number in numbers {
            packets.push(maker.packet(mode, &key, at(1001), at(1002), number));
        }
        (*key.public_key(), packets)
    }

    #[test]
    fn what_is_to_be_answered_is_sound_and_never_the_same() {
        for (mode, kind) in [
            (Mode::Ping, MessageKind::Ping),
            (Mode::NewKeys, MessageKind::Ping),
            (Mode::Findnode, MessageKind::FindNode),
            (Mode::Enr, MessageKind::EnrRequest),
        ] {
            let (key, packets) = make(mode, 0..3);
            assert_eq!(packets.len(), 3);
            let mut hashes: Vec<Hash> = Vec::new();
            for (number, packet) in packets.iter().enumerate() {
                let opened = wire::open(packet).unwrap();
                assert_eq!((opened.sender, opened.message.kind(), opened.hash), (key, kind, hash_of(packet)));
                assert_eq!(opened.message.expiration(), Some(NOW + 3600 + number as u64));
                hashes.push(opened.hash);
            }
            hashes.sort();
            hashes.dedup();
            assert_eq!(hashes.len(), 3, "{mode:?}");
        }
    }

    #[test]
    fn what_is_to_be_dropped_has_just_the_one_fault() {
        let fault = |mode| {
            let (_, packets) = make(mode, 0..4);
            let faults = packets.iter().map(|packet| wire::parse(packet).and_then(|packet| packet.recover()).err());
            let mut faults: Vec<_> = faults.collect();
            faults.dedup();
            assert_eq!(faults.len(), 1, "{mode:?}: {faults:?}");
            faults[0]
        };
        assert_eq!(fault(Mode::Runt), Some(OpenError::TooShort));
        assert_eq!(fault(Mode::BadHash), Some(OpenError::Hash));
        assert_eq!(fault(Mode::ZeroSignature), Some(OpenError::SignatureRange));
        assert_eq!(fault(Mode::BadSignature), Some(OpenError::Signature));
        assert_eq!(fault(Mode::WrongType), Some(OpenError::Type));
        assert_eq!((fault(Mode::Expired), fault(Mode::Unsolicited)), (None, None));

        let (_, packets) = make(Mode::BadSignature, 0..4);
        assert!(packets.iter().all(|packet| wire::parse(packet).is_ok()), "it takes a recovery to see the fault");
        let (key, packets) = make(Mode::Expired, 0..4);
        for (number, packet) in packets.iter().enumerate() {
            let opened = wire::open(packet).unwrap();
            assert_eq!((opened.sender, opened.message.kind()), (key, MessageKind::Ping));
            assert_eq!(opened.message.expiration(), Some(NOW - 3600 - number as u64));
        }
        let (key, packets) = make(Mode::Unsolicited, 0..4);
        for packet in packets.iter() {
            let opened = wire::open(packet).unwrap();
            assert_eq!((opened.sender, opened.message.kind()), (key, MessageKind::Pong));
            assert!(opened.message.expiration() >= Some(NOW + 3600));
        }
        // A wrong type is signed as it stands.
        let (key, packets) = make(Mode::WrongType, 0..1);
        let packet = packets.iter().next().unwrap();
        let mut signature = [0; SIGNATURE_LEN];
        signature.copy_from_slice(&packet[32..32 + SIGNATURE_LEN]);
        assert_eq!(crypto::recover(&crypto::keccak256(&packet[HEADER_LEN - 1..]), &signature), Ok(key.0));
    }

    #[test]
    fn a_seed_says_all() {
        assert_eq!(make(Mode::Findnode, 0..3), make(Mode::Findnode, 0..3));
        assert_ne!(Maker::new(1, NOW).key().public_key(), Maker::new(2, NOW).key().public_key());
    }
}
