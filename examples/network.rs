//! A network of nodes in one process, some of them dead, for others to look around in.
//!
//! ```text
//! cargo run --release --example network -- --nodes 200 --dead 0.2
//! ```
//!
//! The nodes join through the first one. When their tables have settled, or after a minute, a share of them is shut
//! down; the first one never is. The others go on naming the dead, as any network does for some time: they check their
//! members too seldom to notice.
//!
//! On standard output come the word `settled` or `unsettled`, with figures; for each node a line `live <enode URL>` or
//! `dead <enode URL>`, the first one first; and `silent <address>`, where a socket is open that nobody answers on. The
//! program ends with the end of standard input or at SIGTERM, and says then in how many places of tables the dead still
//! are.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use clap::Parser;
use kadnode::Discovery;
use kadnode::bootstrap::Bootnode;
use kadnode::proto::config::Config;
use kadnode::proto::identity::{NodeKey, PublicKey};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Time between two looks at all tables.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks in a row that must find nobody new for the tables to have settled: 5 s.
const SAME_LOOKS: u32 = 10;

/// Looks after which the nodes are left as they are: 60 s.
const MAX_LOOKS: u32 = 120;

/// Starts a network of nodes in this process, shuts some of them down, and keeps it up.
#[derive(Debug, Parser)]
struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(2..=1000))]
    nodes: u16,
    /// The share of them that is shut down when the network has formed, 0 to 0.9
    #[arg(long, default_value_t = 0.2)]
    dead: f64,
    /// The address that all listen on, each at a port of its own
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen_ip: IpAddr,
    /// Decides the keys, and who dies
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if !(0.0..=0.9).contains(&args.dead) {
        return Err("--dead is a share, 0 to 0.9".into());
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let mut rng = StdRng::seed_from_u64(args.seed);
    let nodes = start(&args, &mut rng).await?;
    let silent = UdpSocket::bind((args.listen_ip, 0))?;

    let (word, looks, members) = settle(&nodes).await?;
    let seconds = LOOK_EVERY.as_secs_f64() * f64::from(looks);
    println!("{word} after {seconds:.1} s: {members} members in {} tables", nodes.len());

    // Whoever joins needs the first one.
    let mut order: Vec<usize> = (1..nodes.len()).collect();
    order.shuffle(&mut rng);
    let count = (args.dead * nodes.len() as f64).round() as usize;
    let dead: BTreeSet<usize> = order.into_iter().take(count).collect();
    for &number in &dead {
        nodes[number].shutdown().await;
    }
    for (number, node) in nodes.iter().enumerate() {
        let state = if dead.contains(&number) { "dead" } else { "live" };
        println!("{state} {}", node.local_enode());
    }
    println!("silent {}", silent.local_addr()?);

    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let read = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        // Nobody waits for it any more after SIGTERM.
        let _ = ended.send(read);
    });
    tokio::select! {
        _ = terminated.recv() => {}
        _ = end => {}
    }
    let (named, all) = named_dead(&nodes, &dead).await?;
    // Whoever has started it may be gone.
    let _ = writeln!(std::io::stdout(), "{named} of the {all} members that the living would name are dead");
    Ok(())
}

/// Starts all nodes; the first one is the bootnode of the others.
async fn start(args: &Args, rng: &mut StdRng) -> Result<Vec<Discovery>, Box<dyn Error>> {
    let mut nodes: Vec<Discovery> = Vec::new();
    while nodes.len() < usize::from(args.nodes) {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        // All but one in 2^128 numbers are keys.
        let Ok(key) = NodeKey::from_bytes(&secret) else { continue };
        let first = nodes.first().map(|first| Bootnode::Enode(first.local_enode()));
        let builder = Discovery::builder(key).config(unsuspecting()).listen((args.listen_ip, 0).into());
        nodes.push(builder.bootnodes(first).start().await?);
    }
    Ok(nodes)
}

/// Settings of a node that joins a network as any other does, and after that checks nobody for a day.
fn unsuspecting() -> Config {
    let mut config = Config::default();
    let day = Duration::from_hours(24);
    config.table.first_check = day;
    config.table.min_check = day;
    config.table.max_check = day;
    config.table.retry_check = day;
    // The wait between two refreshes doubles for as long as there is nothing to gain by them.
    config.refresh.max_room = day;
    config.refresh.max_full = day;
    config
}

/// Waits until no table grows any more. Says whether that came about, after how many looks, and how many members there
/// are in all tables.
async fn settle(nodes: &[Discovery]) -> Result<(&'static str, u32, usize), Box<dyn Error>> {
    let (mut last, mut same) = (0, 0);
    for look in 1..=MAX_LOOKS {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut members = 0;
        for node in nodes {
            members += node.stats().await?.members;
        }
        same = if members == last { same + 1 } else { 0 };
        last = members;
        if same >= SAME_LOOKS {
            return Ok(("settled", look, members));
        }
    }
    Ok(("unsettled", MAX_LOOKS, last))
}

/// How many of those that the living would name in NEIGHBORS are dead, and how many these are in all.
async fn named_dead(nodes: &[Discovery], dead: &BTreeSet<usize>) -> Result<(usize, usize), Box<dyn Error>> {
    let keys: BTreeSet<PublicKey> = dead.iter().map(|&number| nodes[number].local_enode().key).collect();
    let (mut named, mut all) = (0, 0);
    for (_, node) in nodes.iter().enumerate().filter(|(number, _)| !dead.contains(number)) {
        let snapshot = node.snapshot().await?;
        let live = || snapshot.nodes.iter().filter(|node| node.live && !node.replacement);
        named += live().filter(|node| keys.contains(&node.contact.key)).count();
        all += live().count();
    }
    Ok((named, all))
}
