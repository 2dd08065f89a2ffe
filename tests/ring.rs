//! The network of the first article that the project started from: nodes in a ring, each knowing only the next.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use kadnode::bootstrap::Bootnode;
use kadnode::proto::config::Config;
use kadnode::proto::identity::{NodeId, NodeKey};
use kadnode::{Discovery, Snapshot};
use rand::SeedableRng;
use rand::rngs::StdRng;

const NODES: usize = 50;

/// Faster checks than the defaults, so that the death of a node is noticed while a test can wait for it.
fn config() -> Config {
    let mut config = Config::default();
    config.table.first_check = Duration::from_secs(3);
    config.table.min_check = Duration::from_secs(5);
    config.table.check_pace = Duration::from_millis(200);
    config.table.retry_check = Duration::from_millis(500);
    config
}

async fn start(key: &NodeKey, port: u16, knows: Option<Bootnode>, config: Config) -> Discovery {
    Discovery::builder(key.clone())
        .listen((Ipv4Addr::LOCALHOST, port).into())
        .config(config)
        .bootnodes(knows)
        .start()
        .await
        .expect("a node starts on loopback")
}

fn bootnode(node: &Discovery) -> Bootnode {
    Bootnode::Enode(node.local_enode())
}

/// Whether a table holds all of `others` that its buckets have room for, and nobody else.
fn is_complete(own: NodeId, snapshot: &Snapshot, others: &BTreeSet<NodeId>) -> bool {
    let members: BTreeSet<NodeId> = snapshot.nodes.iter().filter(|n| !n.replacement).map(|n| n.id).collect();
    let mut expected = vec![0usize; 257];
    let mut found = vec![0usize; 257];
    for id in others.iter().filter(|id| **id != own) {
        expected[usize::from(own.log_distance(id))] += 1;
    }
    for id in &members {
        found[usize::from(own.log_distance(id))] += 1;
    }
    members.is_subset(others) && expected.iter().zip(&found).all(|(expected, found)| (*expected).min(16) == *found)
}

#[expect(clippy::disallowed_methods, reason = "real sockets take real time")]
/// Waits until every node's table is complete and returns how long it took; panics after `limit`.
async fn converge(nodes: &[Discovery], ids: &[NodeId], limit: Duration) -> Duration {
    let all: BTreeSet<NodeId> = ids.iter().copied().collect();
    let begun = Instant::now();
    loop {
        let mut incomplete = 0;
        for (node, id) in nodes.iter().zip(ids) {
            let snapshot = node.snapshot().await.expect("the node runs");
            incomplete += usize::from(!is_complete(*id, &snapshot, &all));
        }
        let took = begun.elapsed();
        if incomplete == 0 {
            return took;
        }
        assert!(took < limit, "{incomplete} of {} tables are not complete after {took:?}", nodes.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_of_fifty_finds_itself_loses_half_and_finds_it_again() {
    let mut rng = StdRng::seed_from_u64(1);
    let keys: Vec<NodeKey> = (0..NODES).map(|_| NodeKey::generate(&mut rng)).collect();
    let ids: Vec<NodeId> = keys.iter().map(NodeKey::id).collect();

    // Each knows the one started before it, and the first one the last: a ring.
    let mut nodes: Vec<Discovery> = Vec::new();
    for key in &keys {
        let knows = nodes.last().map(bootnode);
        nodes.push(start(key, 0, knows, config()).await);
    }
    let last = bootnode(nodes.last().expect("there are nodes"));
    nodes[0].add_bootnode(last).await.expect("the node runs");
    let took = converge(&nodes, &ids, Duration::from_secs(10)).await;
    println!("{NODES} nodes know one another after {took:?}");

    // Every other one dies without a word.
    let ports: Vec<u16> = nodes.iter().map(|node| node.local_addr().port()).collect();
    let urls: Vec<Bootnode> = nodes.iter().map(bootnode).collect();
    let (mut alive, mut alive_ids) = (Vec::new(), Vec::new());
    for (at, node) in nodes.into_iter().enumerate() {
        if at % 2 == 0 {
            alive.push(node);
            alive_ids.push(ids[at]);
        } else {
            node.shutdown().await;
        }
    }
    let took = converge(&alive, &alive_ids, Duration::from_secs(60)).await;
    println!("half of them are forgotten after {took:?}");

    // They come back with their keys and ports, each knowing its old neighbour.
    for at in (1..NODES).step_by(2) {
        alive.push(start(&keys[at], ports[at], Some(urls[at - 1].clone()), config()).await);
        alive_ids.push(ids[at]);
    }
    let took = converge(&alive, &alive_ids, Duration::from_secs(60)).await;
    println!("they are known again after {took:?}");
}

/// The four of the article, with the settings as they are by default. Their own rounds take 2.5 s each, and they need two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_with_default_settings_know_one_another_at_once_forget_the_dead_and_know_who_is_back() {
    let mut rng = StdRng::seed_from_u64(2);
    let keys: Vec<NodeKey> = (0..4).map(|_| NodeKey::generate(&mut rng)).collect();
    let mut ids: Vec<NodeId> = keys.iter().map(NodeKey::id).collect();
    let mut nodes: Vec<Discovery> = Vec::new();
    for key in &keys {
        let knows = nodes.last().map(bootnode);
        nodes.push(start(key, 0, knows, Config::default()).await);
    }
    let last = bootnode(nodes.last().expect("there are nodes"));
    nodes[0].add_bootnode(last).await.expect("the node runs");
    let took = converge(&nodes, &ids, Duration::from_secs(1)).await;
    println!("four know one another after {took:?}");

    let (dead, id) = (nodes.pop().expect("there are four"), ids.pop().expect("there are four"));
    let port = dead.local_addr().port();
    dead.shutdown().await;
    let took = unnamed(&nodes, id, Duration::from_secs(60)).await;
    println!("nobody names the dead one after {took:?}");
    let took = converge(&nodes, &ids, Duration::from_secs(240)).await;
    println!("it is forgotten after {took:?} more");

    nodes.push(start(&keys[3], port, Some(bootnode(&nodes[2])), Config::default()).await);
    ids.push(id);
    let took = converge(&nodes, &ids, Duration::from_secs(2)).await;
    println!("it is known again after {took:?}");
}

/// Waits until no node would name this one in a NEIGHBORS, which names live members alone.
#[expect(clippy::disallowed_methods, reason = "real sockets take real time")]
async fn unnamed(nodes: &[Discovery], id: NodeId, limit: Duration) -> Duration {
    let begun = Instant::now();
    loop {
        let mut named = false;
        for node in nodes {
            let snapshot = node.snapshot().await.expect("the node runs");
            named |= snapshot.nodes.iter().any(|node| node.id == id && node.live && !node.replacement);
        }
        if !named {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < limit, "still named after {limit:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
