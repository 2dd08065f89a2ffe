//! The table, across networks of 17 to 1,000,000 nodes: their tables have 16 to some 269 members.
//!
//! The IDs of all nodes of the network lie in one store, as in the simulator, so that looking at one costs what it costs
//! there.

mod common;

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::Criterion;
use kadnode::proto::config::TableConfig;
use kadnode::proto::contacts::{Contacts, NodeRef};
use kadnode::proto::identity::{Contact, Endpoint, NodeId, PublicKey};
use kadnode::proto::table::{Closest, Offer, Proof, Table};
use kadnode::proto::time::{Secs, Time};
use kadnode::sim::Truth;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const NETWORKS: [usize; 5] = [17, 100, 1_000, 10_000, 1_000_000];

/// When all this happens.
const NOW: Time = Time::from_secs(10_000);
/// When the table was filled: its members have settled since.
const FILLED: Time = Time::from_secs(1_000);

fn main() {
    let mut criterion = common::criterion();
    for nodes in NETWORKS {
        network(&mut criterion, nodes);
    }
    criterion.final_summary();
}

fn network(criterion: &mut Criterion, nodes: usize) {
    let mut rng = StdRng::seed_from_u64(1);
    let ids = Ids { ids: (0..nodes).map(|_| NodeId(rng.random())).collect(), key: PublicKey([7; 64]) };
    let config = TableConfig::default();
    let table = fill(&ids, &config, &mut rng);
    let at = format!("nodes={nodes}/entries={}", table.len());

    let targets: Vec<NodeId> = (0..1024).map(|_| NodeId(rng.random())).collect();
    let mut targets = targets.iter().cycle();
    let mut found = Closest::new();
    criterion.bench_function(&format!("table/closest/{at}"), |b| {
        b.iter(|| {
            let target = targets.next().expect("a cycle has no end");
            table.closest(black_box(target), &ids, 16, |entry| entry.is_live(), &mut found);
            found.len()
        });
    });

    let members: Vec<NodeRef> = table.entries().map(|(_, entry)| entry.node).collect();
    let mut again = members.iter().cycle();
    let mut grown = table.clone();
    criterion.bench_function(&format!("table/offer a member/{at}"), |b| {
        b.iter(|| {
            let node = *again.next().expect("a cycle has no end");
            grown.offer(black_box(node), proof(), false, NOW, &ids, &config)
        });
    });

    let mut strangers: Vec<NodeRef> = (0..1024).map(|_| NodeRef(rng.random_range(1..nodes as u32))).collect();
    strangers.retain(|node| !members.contains(node));
    if !strangers.is_empty() {
        let mut strangers = strangers.iter().cycle();
        let mut grown = table.clone();
        criterion.bench_function(&format!("table/offer a stranger found by a lookup/{at}"), |b| {
            b.iter(|| {
                let node = *strangers.next().expect("a cycle has no end");
                grown.offer(black_box(node), proof(), true, NOW, &ids, &config)
            });
        });
    }

    criterion.bench_function(&format!("table/due_checks, none due/{at}"), |b| {
        b.iter(|| table.due_checks(black_box(NOW), &config, |_| ()));
    });
}

/// The settled table of node 0: each bucket a sample of the nodes of its range.
fn fill(ids: &Ids, config: &TableConfig, rng: &mut StdRng) -> Table {
    let truth = Truth::new(ids.ids.iter().copied().zip(0..));
    let own = ids.ids[0];
    let mut table = Table::new(own, rng.random());
    for log in (1..=256).rev() {
        let bucket = truth.bucket(&own, log);
        let full = bucket.len().min(config.k);
        while table.bucket_len(log) < full {
            let node = NodeRef(bucket[rng.random_range(0..bucket.len())].1);
            let offer = table.offer(node, proof(), false, FILLED, ids, config);
            assert!(matches!(offer, Offer::Added | Offer::Refreshed), "{offer:?}");
        }
    }
    table
}

fn proof() -> Proof {
    Proof { proved: NOW.secs(), endorsed: Secs::NEVER, rtt: Duration::from_millis(50) }
}

/// A store of all nodes, each in a network of its own.
struct Ids {
    ids: Vec<NodeId>,
    key: PublicKey,
}

impl Contacts for Ids {
    fn intern(&mut self, _: &Contact) -> Option<NodeRef> {
        None
    }

    fn find(&self, _: &PublicKey, _: SocketAddr) -> Option<NodeRef> {
        None
    }

    fn at(&self, _: SocketAddr) -> impl Iterator<Item = NodeRef> {
        std::iter::empty()
    }

    fn id(&self, node: NodeRef) -> &NodeId {
        &self.ids[node.0 as usize]
    }

    fn key(&self, _: NodeRef) -> &PublicKey {
        &self.key
    }

    fn endpoint(&self, node: NodeRef) -> Endpoint {
        // A /24 for each, from 16.0.0.0 on.
        let [_, high, middle, low] = node.0.to_be_bytes();
        Endpoint::new([16 + high, middle, low, 1].into(), 30303, 30303)
    }
}
