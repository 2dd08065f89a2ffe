//! Valid things made of arbitrary bytes, and RLP by hand, since the encoders under test make only what is right.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use arbitrary::{Result, Unstructured};
use kadnode::proto::identity::{NodeKey, PublicKey};
use kadnode::proto::wire::{
    EnrRequest, EnrResponse, FindNode, Message, Neighbors, NodeEntry, Ping, Pong, WireEndpoint,
};

/// Keys that are made once: 1 is the first.
pub(crate) static KEYS: LazyLock<Vec<Arc<NodeKey>>> = LazyLock::new(|| {
    let key = |n| {
        let mut bytes = [0; 32];
        bytes[31] = n;
        Arc::new(NodeKey::from_bytes(&bytes).expect("a small number is a key"))
    };
    (1..=32).map(key).collect()
});

/// One of the six messages, such that it reads as it was written.
pub(crate) fn message(u: &mut Unstructured<'_>) -> Result<Message> {
    let kind = u.int_in_range(0..=5)?;
    let expiration = u.arbitrary()?;
    Ok(match kind {
        0 => Message::Ping(Ping { from: endpoint(u)?, to: endpoint(u)?, expiration, enr_seq: u.arbitrary()? }),
        1 => Message::Pong(Pong { to: endpoint(u)?, ping_hash: u.arbitrary()?, expiration, enr_seq: u.arbitrary()? }),
        2 => Message::FindNode(FindNode { target: public_key(u)?, expiration }),
        3 => {
            let count = u.int_in_range(0..=Neighbors::MAX_READ)?;
            let node = |_| Ok(NodeEntry { endpoint: endpoint(u)?, key: public_key(u)? });
            Message::Neighbors(Neighbors { nodes: (0..count).map(node).collect::<Result<_>>()?, expiration })
        }
        4 => Message::EnrRequest(EnrRequest { expiration }),
        _ => {
            let (request_hash, is_list) = (u.arbitrary()?, u.arbitrary()?);
            let count = u.int_in_range(0..=600)?.min(u.len());
            let content = u.bytes(count)?;
            let record = if is_list { list(content) } else { string(content) };
            Message::EnrResponse(EnrResponse { request_hash, record: record.into() })
        }
    })
}

fn endpoint(u: &mut Unstructured<'_>) -> Result<WireEndpoint> {
    let ip = match u.int_in_range(0..=2)? {
        0 => None,
        1 => Some(IpAddr::V4(u.arbitrary()?)),
        _ => Some(IpAddr::V6(u.arbitrary::<Ipv6Addr>()?).to_canonical()),
    };
    Ok(WireEndpoint { ip, udp: u.arbitrary()?, tcp: u.arbitrary()? })
}

/// Any 64 bytes.
pub(crate) fn public_key(u: &mut Unstructured<'_>) -> Result<PublicKey> {
    Ok(PublicKey(u.arbitrary()?))
}

/// A string in RLP.
pub(crate) fn string(content: &[u8]) -> Vec<u8> {
    match *content {
        [byte] if byte < 0x80 => vec![byte],
        _ => [&header(0x80, content.len()), content].concat(),
    }
}

/// A list in RLP around items that are encoded already.
pub(crate) fn list(items: &[u8]) -> Vec<u8> {
    [&header(0xc0, items.len()), items].concat()
}

fn header(base: u8, len: usize) -> Vec<u8> {
    match len {
        0..=55 => vec![base + len as u8],
        56..=255 => vec![base + 56, len as u8],
        _ => {
            let [high, low] = u16::try_from(len).expect("inputs are shorter than 64 kB").to_be_bytes();
            vec![base + 57, high, low]
        }
    }
}
