//! The payloads of the six messages: reading never panics, what is read says the same once it is written, and what is
//! written reads as it was.

use arbitrary::Unstructured;
use kadnode::proto::crypto::keccak256;
use kadnode::proto::wire::{self, HEADER_LEN, Message, MessageKind, OpenError};

use super::made;

/// Reads `data` as the payload of each kind, and as a recipe for a message.
pub fn check(data: &[u8]) {
    for kind in MessageKind::ALL {
        // The signature is in range, and nobody looks whose it is.
        let mut packet = vec![1; HEADER_LEN];
        packet[HEADER_LEN - 1] = kind as u8;
        packet.extend_from_slice(data);
        let hash = keccak256(&packet[32..]);
        packet[..32].copy_from_slice(&hash);
        match read(&packet) {
            Ok(message) => {
                assert_eq!(message.kind(), kind);
                assert_eq!(read(&written(&message)), Ok(message));
            }
            Err(error) => assert!(matches!(error, OpenError::Payload | OpenError::TooLong | OpenError::TooShort)),
        }
    }
    if let Ok(message) = made::message(&mut Unstructured::new(data)) {
        assert_eq!(read(&written(&message)), Ok(message));
    }
}

fn read(packet: &[u8]) -> Result<Message, OpenError> {
    wire::frame(packet)?.message()
}

fn written(message: &Message) -> Vec<u8> {
    let mut packet = Vec::new();
    wire::seal(&made::KEYS[0], message, &mut packet);
    packet
}
