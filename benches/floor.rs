//! The floor under an answer: what the parts cost that no node can leave out.
//!
//! To answer a PING a node has to receive it, hash it twice (once to check it, once to recover), recover its sender, hash
//! the PONG twice, sign it and send it. To answer a FINDNODE it has to hash the target as well, and to hash and sign two
//! NEIGHBORS, which leave with one call where the kernel segments them. Each part is timed alone in a tight loop on one
//! thread; the floor is their sum. No node reaches it.
//!
//!     cargo bench --bench floor                                                # libsecp256k1
//!     cargo bench --bench floor --no-default-features --features cli           # k256
//!     cargo bench --bench floor -- --json

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use kadnode::proto::crypto::{self, BACKEND};
use kadnode::proto::identity::NodeKey;
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

/// Lengths of the packets of a conversation over IPv4 with a full table, in bytes (`benches/codec.rs` makes them).
const PING: usize = 140;
const PONG: usize = 151;
const FINDNODE: usize = 171;
const NEIGHBORS: (usize, usize) = (1053, 421);

/// What stands before the signed part of a packet.
const BEFORE_SIGNED: usize = 97;

/// Signatures that are recovered in turn, each by another key: the same one again and again would find its way through
/// the tables of the curve in the nearest cache, and each branch foretold.
const SIGNERS: u64 = 2048;

/// How long each part is measured, and how many calls are timed together.
const SPAN: Duration = Duration::from_millis(500);
const RUN: u32 = 32;

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    // `cargo test --benches` only wants to see that it runs.
    let span = if std::env::args().any(|arg| arg == "--bench") { SPAN } else { Duration::from_millis(1) };
    let parts = Parts::measure(span);
    let (ping, find_node) = (parts.ping(), parts.find_node());
    if json {
        println!(
            "{{\"backend\": \"{BACKEND}\", \"recover_us\": {:.3}, \"sign_us\": {:.3}, \"hash_ping_us\": {:.3}, \
             \"hash_findnode_us\": {:.3}, \"receive_us\": {:.3}, \"send_us\": {:.3}, \"send_two_us\": {:.3}, \
             \"ping_floor_us\": {ping:.3}, \"findnode_floor_us\": {find_node:.3}}}",
            parts.recover, parts.sign, parts.hash_ping, parts.hash_find_node, parts.receive, parts.send, parts.send_two,
        );
        return;
    }
    println!("{BACKEND}, in microseconds:");
    for (what, cost) in [
        ("recover", parts.recover),
        ("sign", parts.sign),
        ("4 hashes of PING and PONG", parts.hash_ping),
        ("7 hashes of FINDNODE and 2 NEIGHBORS", parts.hash_find_node),
        ("receive", parts.receive),
        ("send", parts.send),
        ("send two to one destination", parts.send_two),
    ] {
        println!("  {cost:>7.2}  {what}");
    }
    println!("floor of PING to PONG: {ping:.2}; floor of FINDNODE to 2 NEIGHBORS: {find_node:.2}");
}

struct Parts {
    recover: f64,
    sign: f64,
    hash_ping: f64,
    hash_find_node: f64,
    receive: f64,
    send: f64,
    send_two: f64,
}

impl Parts {
    fn measure(span: Duration) -> Self {
        let key = NodeKey::from_bytes(&[1; 32]).expect("a small number is a key");
        let hashes: Vec<_> = (0..SIGNERS).map(|n| crypto::keccak256(&n.to_be_bytes())).collect();
        let signed: Vec<_> = hashes
            .iter()
            .map(|hash| (*hash, NodeKey::from_bytes(hash).expect("it is below the order").sign(hash)))
            .collect();
        let (mut next_signed, mut next_hash) = (signed.iter().cycle(), hashes.iter().cycle());
        let packets = |lens: &[usize]| {
            let bytes = [7; 1280];
            lens.iter().for_each(|&len| {
                black_box(crypto::keccak256(black_box(&bytes[BEFORE_SIGNED..len])));
                black_box(crypto::keccak256(black_box(&bytes[32..len])));
            });
        };
        let (send, receive) = io(&[PONG], PING, span);
        let (send_two, _) = io(&[NEIGHBORS.0, NEIGHBORS.1], FINDNODE, span);
        Self {
            recover: time(span, || {
                let (hash, signature) = next_signed.next().expect("a cycle has no end");
                black_box(crypto::recover(black_box(hash), black_box(signature))).expect("it is a signature");
            }),
            sign: time(span, || {
                black_box(key.sign(black_box(next_hash.next().expect("a cycle has no end"))));
            }),
            hash_ping: time(span, || packets(&[PING, PONG])),
            hash_find_node: time(span, || {
                packets(&[FINDNODE, NEIGHBORS.0, NEIGHBORS.1]);
                black_box(crypto::keccak256(black_box(&[7; 64])));
            }),
            receive,
            send,
            send_two,
        }
    }

    fn ping(&self) -> f64 {
        self.receive + self.hash_ping + self.recover + self.sign + self.send
    }

    fn find_node(&self) -> f64 {
        self.receive + self.hash_find_node + self.recover + 2.0 * self.sign + self.send_two
    }
}

/// Microseconds that one call takes: the median over short runs, few of which are interrupted.
fn time(span: Duration, mut work: impl FnMut()) -> f64 {
    let (start, mut runs) = (Instant::now(), Vec::new());
    while start.elapsed() < span {
        let begun = Instant::now();
        (0..RUN).for_each(|_| work());
        runs.push(micros(begun) / f64::from(RUN));
    }
    median(&mut runs)
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

fn median(runs: &mut [f64]) -> f64 {
    runs.sort_unstable_by(f64::total_cmp);
    runs[runs.len() / 2]
}

/// Microseconds to send datagrams of these lengths over loopback with one call, where the system can, and to receive one
/// of `received` bytes.
fn io(lens: &[usize], received: usize, span: Duration) -> (f64, f64) {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
    let (from, to) = (bind(), bind());
    let destination = to.local_addr().expect("it is bound");
    let state = UdpSocketState::new(UdpSockRef::from(&from)).expect("a UDP socket");
    let segments = state.max_gso_segments();
    let contents = vec![7; lens.iter().sum()];
    let send = || {
        if lens.len() <= segments {
            let segment_size = (lens.len() > 1).then_some(lens[0]);
            let transmit = Transmit { destination, ecn: None, contents: &contents, segment_size, src_ip: None };
            state.try_send(UdpSockRef::from(&from), &transmit).expect("loopback takes it");
        } else {
            for &len in lens {
                from.send_to(&contents[..len], destination).expect("loopback takes it");
            }
        }
    };
    let mut buffer = [0u8; 2048];
    let mut receive = |count: usize| {
        for _ in 0..count {
            to.recv(&mut buffer).expect("it has been sent");
        }
    };
    let (start, mut sends, mut receives) = (Instant::now(), Vec::new(), Vec::new());
    while start.elapsed() < span {
        // As many as fit into a receive buffer of the usual size, so that none is thrown away.
        let begun = Instant::now();
        (0..RUN).for_each(|_| send());
        sends.push(micros(begun) / f64::from(RUN));
        receive(RUN as usize * lens.len());
        for _ in 0..RUN {
            from.send_to(&contents[..received.min(contents.len())], destination).expect("loopback takes it");
        }
        let begun = Instant::now();
        receive(RUN as usize);
        receives.push(micros(begun) / f64::from(RUN));
    }
    (median(&mut sends), median(&mut receives))
}
