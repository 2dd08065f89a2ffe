//! Opening datagrams: as they come; with the hash put right, as anybody can; signed anew, as any node can; and packets
//! around messages that are made of the bytes.

use arbitrary::Unstructured;
use kadnode::proto::crypto::keccak256;
use kadnode::proto::wire::{self, HEADER_LEN, MAX_NEIGHBORS_LEN, Neighbors, OpenError};

use super::made;

/// The signature and what is signed begin here.
const SIGNATURE: usize = 32;
const SIGNED: usize = HEADER_LEN - 1;

/// Opens packets made of `data`.
pub fn check(data: &[u8]) {
    let _ = open(data);
    if data.len() > HEADER_LEN && data.len() <= MAX_NEIGHBORS_LEN {
        let mut packet = data.to_vec();
        put_hash(&mut packet);
        assert!(!matches!(open(&packet), Err(OpenError::Hash | OpenError::TooShort)));

        let key = &made::KEYS[0];
        let signature = key.sign(&keccak256(&packet[SIGNED..]));
        packet[SIGNATURE..SIGNED].copy_from_slice(&signature);
        put_hash(&mut packet);
        match open(&packet) {
            Ok(opened) => assert_eq!(opened.sender, *key.public_key()),
            Err(error) => assert!(matches!(error, OpenError::TooLong | OpenError::Type | OpenError::Payload)),
        }
    }
    let _ = round_trip(&mut Unstructured::new(data));
}

fn put_hash(packet: &mut [u8]) {
    let hash = keccak256(&packet[SIGNATURE..]);
    packet[..SIGNATURE].copy_from_slice(&hash);
}

/// Opens a datagram step by step and at once, which has to give the same.
fn open(datagram: &[u8]) -> Result<wire::Opened, OpenError> {
    let opened = wire::open(datagram);
    let by_steps = wire::frame(datagram).and_then(|framed| {
        let message = framed.message()?;
        assert_eq!((framed.kind(), framed.hash().as_slice()), (message.kind(), &datagram[..SIGNATURE]));
        framed.claim(message).recover()
    });
    assert_eq!(opened, by_steps);
    if let Ok(opened) = &opened
        && let wire::Message::Neighbors(neighbors) = &opened.message
    {
        assert!(neighbors.nodes.len() <= Neighbors::MAX_READ);
    }
    opened
}

fn round_trip(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let key = &made::KEYS[u.choose_index(made::KEYS.len())?];
    let message = made::message(u)?;
    let mut packet = Vec::new();
    let hash = wire::seal(key, &message, &mut packet);
    let opened = open(&packet).expect("what is sealed can be opened");
    assert_eq!(opened, wire::Opened { hash, sender: *key.public_key(), message });
    Ok(())
}
