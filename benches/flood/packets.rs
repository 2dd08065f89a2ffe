//! What a flood is made of.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kadnode::proto::crypto::keccak256;
use kadnode::proto::identity::{Contact, Endpoint, NodeKey};
use kadnode::proto::wire::{self, Message, Ping};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Flood;

/// Addresses and keys of a crowd.
const CROWD: u16 = 1000;

/// Packets of those that are each their own.
const VARIETY: u16 = 512;

/// How far in the future the packets of a flood expire: further than it lasts.
const LASTING: Duration = Duration::from_hours(24);

/// Packets, each with the address that it comes from, to be sent in turn.
pub(crate) type Packets = Vec<(Ipv4Addr, Vec<u8>)>;

/// When a packet expires that is sent now.
pub(crate) fn expiration() -> u64 {
    unix() + 20
}

pub(crate) fn make(flood: Flood, target: &Contact) -> Packets {
    let mut rng = StdRng::seed_from_u64(1);
    let one = |_| Ipv4Addr::new(127, 1, 0, 1);
    // Each in a /24 of its own.
    let crowd = |n: u16| Ipv4Addr::new(127, 16 + (n >> 8) as u8, n as u8, 1);
    let ping = |n: u16, from: Ipv4Addr, expiration: u64| {
        let mut bytes = [3; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        let key = NodeKey::from_bytes(&bytes).expect("small numbers are keys");
        let from = Endpoint::new(from.into(), 40_000, 0).into();
        let mut packet = Vec::new();
        let ping = Ping { from, to: target.endpoint.into(), expiration, enr_seq: None };
        wire::seal(&key, &Message::Ping(ping), &mut packet);
        packet
    };
    let lasting = unix() + LASTING.as_secs();
    let mut make = |count: u16, from: &dyn Fn(u16) -> Ipv4Addr, packet: &dyn Fn(u16, &mut StdRng) -> Vec<u8>| {
        (0..count).map(|n| (from(n), packet(n, &mut rng))).collect()
    };
    let bad_hash = |n, _: &mut StdRng| {
        let mut packet = ping(n, one(n), lasting);
        packet[0] ^= 1;
        packet
    };
    let bad_signature = |n, rng: &mut StdRng| unrecoverable(ping(n, one(n), lasting), rng);
    match flood {
        Flood::None => Vec::new(),
        Flood::Random => make(VARIETY, &one, &|_, rng| {
            let mut bytes = vec![0; 150];
            rng.fill_bytes(&mut bytes);
            bytes
        }),
        Flood::BadHash => make(VARIETY, &one, &bad_hash),
        Flood::BadSignature => make(VARIETY, &one, &bad_signature),
        Flood::OneAddress => make(VARIETY, &one, &|n, _| ping(n, one(n), lasting)),
        Flood::Crowd => make(CROWD, &crowd, &|n, _| ping(n, crowd(n), lasting)),
        Flood::Expired => make(VARIETY, &one, &|n, _| ping(n, one(n), unix() - 3600)),
        Flood::Replay => make(1, &one, &|n, _| ping(n, one(n), lasting)),
        Flood::BadHashCrowd => make(CROWD, &crowd, &bad_hash),
        Flood::BadSignatureCrowd => make(CROWD, &crowd, &bad_signature),
        Flood::ReplayCrowd => make(CROWD, &crowd, &|_, _| ping(1, crowd(1), lasting)),
    }
}

/// The packet with a signature in range that belongs to no key, and the right hash over it.
fn unrecoverable(mut packet: Vec<u8>, rng: &mut StdRng) -> Vec<u8> {
    loop {
        // Half of all r are no point of the curve.
        rng.fill_bytes(&mut packet[33..64]);
        let hash = keccak256(&packet[32..]);
        packet[..32].copy_from_slice(&hash);
        if wire::open(&packet) == Err(wire::OpenError::Signature) {
            return packet;
        }
    }
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
