//! The wire format: what it costs to seal, parse and open each message, and what of that is cryptography.

mod common;

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, Throughput};
use kadnode::proto::crypto;
use kadnode::proto::identity::{NodeKey, Record, RecordContent};
use kadnode::proto::wire::{
    self, EnrRequest, EnrResponse, FindNode, Message, Neighbors, NodeEntry, Ping, Pong, WireEndpoint,
};

fn main() {
    let mut criterion = common::criterion();
    cryptography(&mut criterion);
    messages(&mut criterion);
    criterion.final_summary();
}

fn key(n: u8) -> NodeKey {
    NodeKey::from_bytes(&[n; 32]).expect("a small number is a key")
}

fn endpoint(n: u8) -> WireEndpoint {
    WireEndpoint { ip: Some(IpAddr::from([203, 0, 113, n])), udp: 30303, tcp: 30303 }
}

fn neighbors(count: u8) -> Message {
    let nodes = (1..=count).map(|n| NodeEntry { endpoint: endpoint(n), key: *key(n).public_key() }).collect();
    Message::Neighbors(Neighbors { nodes, expiration: EXPIRATION })
}

/// 1 January 2027, in Unix seconds.
const EXPIRATION: u64 = 1_798_761_600;

fn all() -> Vec<(&'static str, Message)> {
    let (from, to, expiration, enr_seq) = (endpoint(1), endpoint(2), EXPIRATION, Some(1));
    let record = Record::sign(&key(1), 1, &RecordContent::default()).expect("an empty record fits");
    let response = EnrResponse { request_hash: [7; 32], record: record.as_bytes().clone() };
    vec![
        ("PING", Message::Ping(Ping { from, to, expiration, enr_seq })),
        ("PONG", Message::Pong(Pong { to, ping_hash: [7; 32], expiration, enr_seq })),
        ("FINDNODE", Message::FindNode(FindNode { target: *key(3).public_key(), expiration })),
        ("NEIGHBORS of 1", neighbors(1)),
        ("NEIGHBORS of 4", neighbors(4)),
        ("NEIGHBORS of 12", neighbors(12)),
        ("ENRREQUEST", Message::EnrRequest(EnrRequest { expiration })),
        ("ENRRESPONSE", Message::EnrResponse(response)),
    ]
}

fn cryptography(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crypto");
    let (key, hash) = (key(1), crypto::keccak256(b"message"));
    let signature = key.sign(&hash);
    group.bench_function("sign", |b| b.iter(|| key.sign(black_box(&hash))));
    group.bench_function("recover", |b| b.iter(|| crypto::recover(black_box(&hash), black_box(&signature))));
    for len in [100, 1200] {
        let bytes = vec![7; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("keccak256/{len}"), |b| b.iter(|| crypto::keccak256(black_box(&bytes))));
    }
    group.finish();
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let key = key(1);
    for (name, message) in all() {
        let mut buffer = Vec::new();
        wire::seal(&key, &message, &mut buffer);
        let packet = buffer.clone();
        group.throughput(Throughput::Bytes(packet.len() as u64));
        group.bench_function(format!("seal/{name}"), |b| {
            b.iter(|| wire::seal(&key, black_box(&message), &mut buffer));
        });
        group.bench_function(format!("parse/{name}"), |b| b.iter(|| wire::parse(black_box(&packet))));
        group.bench_function(format!("open/{name}"), |b| b.iter(|| wire::open(black_box(&packet))));
    }
    group.finish();
}
