//! What the commands that make one request have in common: a node with a fresh key that keeps nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::failure::Failure;
use crate::bootstrap::dns::{News, Resolver, Step, TreeUrl, Walk};
use crate::bootstrap::{Address, Bootnode, contacts};
use crate::proto::config::Config;
use crate::proto::engine::CommandError;
use crate::proto::identity::{Contact, Host, IdPrefix};
use crate::store::fresh_key;
use crate::{Discovery, RequestError, StartError};

/// How often a request is made before it is given up: a lost datagram is no proof of a dead node.
pub(super) const TRIES: u32 = 3;

/// Nodes of a tree that a lookup begins with: 8, of which some may have gone.
const TREE_NODES: usize = 8;

/// Longest that reading a tree holds up a lookup: 10 s, on top of the time that DNS takes.
const TREE_TIME: Duration = Duration::from_secs(10);

/// Somebody to ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    /// A node.
    Known(Contact),
    /// Whoever is at an address, with this ID where one is pinned.
    Unknown(SocketAddr, Option<IdPrefix>),
}

impl Peer {
    pub(super) fn addr(&self) -> SocketAddr {
        match self {
            Peer::Known(contact) => contact.endpoint.udp_addr(),
            Peer::Unknown(addr, _) => *addr,
        }
    }
}

/// Starts a node that asks and does nothing of its own accord.
///
/// It listens where it can reach `peers`: on both address families when one of them is on IPv6.
pub(super) async fn start(peers: &[Peer]) -> Result<Discovery, Failure> {
    let key = fresh_key().map_err(Failure::runtime)?;
    let mut config = Config::default();
    config.refresh.enabled = false;
    config.votes.enabled = false;
    config.fetch_records = false;
    let builder = |key| Discovery::builder(key).config(config.clone());
    if peers.iter().any(|peer| peer.addr().is_ipv6()) {
        match builder(key.clone()).listen((Ipv6Addr::UNSPECIFIED, 0).into()).start().await {
            // A host without IPv6 may still reach the others.
            Err(StartError::Bind { .. }) => {}
            other => return other.map_err(Failure::runtime),
        }
    }
    builder(key).listen((Ipv4Addr::UNSPECIFIED, 0).into()).start().await.map_err(Failure::runtime)
}

/// Tells a node whom to begin its lookups with. Those whose key is not known are pinged first: who answers is in the
/// table.
pub(super) async fn introduce(discovery: &Discovery, peers: &[Peer]) -> Result<(), Failure> {
    let mut pings = JoinSet::new();
    for peer in peers {
        match *peer {
            Peer::Known(contact) => discovery.add_bootnode(contact.into()).await.map_err(Failure::runtime)?,
            Peer::Unknown(addr, pin) => {
                let discovery = discovery.clone();
                pings.spawn(async move { (addr, discovery.ping_address(addr, pin).await) });
            }
        }
    }
    while let Some(Ok((addr, pinged))) = pings.join_next().await {
        if let Err(error) = pinged {
            warn!("nothing from the node at {addr} ({error})");
        }
    }
    Ok(())
}

/// One node to ask, with its key if that is known; a DNS name is resolved, to an IPv4 address if it has one.
pub(super) async fn resolve(bootnode: &Bootnode, resolver: &Resolver) -> Result<Peer, Failure> {
    match bootnode {
        Bootnode::Enode(enode) => Ok(Peer::Known(enode.at(one_address(&enode.host, resolver).await?))),
        Bootnode::Record(_) => match bootnode.contact() {
            Some(contact) => Ok(Peer::Known(contact)),
            None => Err(Failure::input("the record holds no address to contact its node at")),
        },
        Bootnode::Address(Address { host, port, pin }) => {
            Ok(Peer::Unknown((one_address(host, resolver).await?, *port).into(), *pin))
        }
        Bootnode::Seed(_) | Bootnode::Tree(_) | Bootnode::Lan => Err(Failure::input(format!(
            "{bootnode} stands for many nodes, and this command asks one: give its enode URL, its enr: record or HOST:PORT"
        ))),
    }
}

/// One node to ask, whose key is found out by a PING where it is not known.
pub(super) async fn find_key(discovery: &Discovery, peer: Peer) -> Result<Contact, Failure> {
    match peer {
        Peer::Known(contact) => Ok(contact),
        Peer::Unknown(addr, pin) => {
            let pinged = retry(|| discovery.ping_address(addr, pin)).await;
            Ok(pinged.map_err(|error| explain(error, addr))?.contact)
        }
    }
}

/// All to begin with, as far as names can be resolved, with a warning for each other.
pub(super) async fn resolve_all(bootnodes: &[Bootnode], resolver: &Resolver) -> Vec<Peer> {
    let mut peers = Vec::new();
    for bootnode in bootnodes {
        match bootnode {
            // Both of its addresses: which one can be reached is found out by asking.
            Bootnode::Record(record) => peers.extend(contacts(record).map(Peer::Known)),
            Bootnode::Enode(_) | Bootnode::Address(_) => match resolve(bootnode, resolver).await {
                Ok(peer) => peers.push(peer),
                Err(failure) => warn!("{failure}; going on without it"),
            },
            Bootnode::Seed(seed) => match resolver.seed(&seed.name, seed.port).await {
                Ok(found) => peers.extend(found.records.into_iter().map(|addr| Peer::Unknown(addr, None))),
                Err(error) => warn!("the DNS seed {} does not resolve ({error}); going on without it", seed.name),
            },
            Bootnode::Tree(url) => peers.extend(read_tree(url, resolver).await),
            Bootnode::Lan => warn!("this command does not look for nodes in the local network; going on without it"),
        }
    }
    peers
}

/// Makes a request, again when nothing came back.
pub(super) async fn retry<T, F>(mut request: impl FnMut() -> F) -> Result<T, RequestError>
where
    F: Future<Output = Result<T, RequestError>>,
{
    let mut tries = 1;
    loop {
        match request().await {
            Err(RequestError::Command(CommandError::Timeout)) if tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

/// Why a request to one node failed, and what to do about it.
pub(super) fn explain(error: RequestError, at: SocketAddr) -> Failure {
    Failure::runtime(match error {
        RequestError::Command(CommandError::Timeout) => format!(
            "no answer from {at} to {TRIES} tries of 1 s each: check that the address and the UDP port are right, that \
             the node runs, and that no firewall drops UDP"
        ),
        RequestError::Command(CommandError::OtherNode) => {
            format!("the node at {at} has another key than the contact says: ask for its current enode URL or record")
        }
        RequestError::Command(CommandError::BadRecord) => {
            format!("the node at {at} sent a record that is not valid, or not its own")
        }
        RequestError::Command(CommandError::Unreachable) => {
            format!("{at} cannot be sent to: it is no address that a node can have")
        }
        RequestError::Command(CommandError::OtherFamily) => format!("{at} cannot be sent to: this host has no IPv6"),
        other => format!("the request to {at} failed: {other}"),
    })
}

/// There is no contact to begin with.
pub(super) fn nobody() -> Failure {
    Failure::runtime("there is nobody to ask: no bootnode was given, or none could be resolved")
}

/// None of the contacts to begin with has answered.
pub(super) fn silence(asked: usize) -> Failure {
    let who = if asked == 1 { "the one contact".to_owned() } else { format!("none of the {asked} contacts") };
    let verb = if asked == 1 { "asked did not answer" } else { "asked answered" };
    Failure::runtime(format!("{who} {verb}: check addresses and ports, and that no firewall drops UDP"))
}

async fn one_address(host: &Host, resolver: &Resolver) -> Result<IpAddr, Failure> {
    let name = match host {
        Host::Ip(ip) => return Ok(*ip),
        Host::Name(name) => name,
    };
    let found = resolver.addresses(name).await;
    let found = found.map_err(|error| Failure::runtime(format!("the host name {name} does not resolve: {error}")))?;
    // Most nodes listen on IPv4 alone.
    let ip = found.records.iter().find(|ip| ip.is_ipv4()).or(found.records.first());
    ip.copied().ok_or_else(|| Failure::runtime(format!("the host name {name} has no address")))
}

/// Some nodes of a tree, enough to begin a lookup with.
#[expect(clippy::disallowed_methods, reason = "the walk is given real time here")]
async fn read_tree(url: &TreeUrl, resolver: &Resolver) -> Vec<Peer> {
    let mut walk = Walk::random(url.clone());
    let mut peers = Vec::new();
    let start = Instant::now();
    while peers.len() < TREE_NODES {
        let query = match walk.poll(start.elapsed()) {
            Step::Ask(query) => query,
            Step::Wait(until) if until < TREE_TIME => {
                tokio::time::sleep(until.saturating_sub(start.elapsed())).await;
                continue;
            }
            Step::Wait(_) | Step::Rest(_) => break,
        };
        let answer = resolver.texts(&query.name).await;
        for news in walk.handle_answer(start.elapsed(), &query, answer) {
            match news {
                News::Node(record) => peers.extend(contacts(&record).map(Peer::Known)),
                News::Root { .. } | News::Link { .. } => debug!("{news}"),
                // It is not asked for again here.
                News::BadRoot { domain, error, .. } => warn!("the tree at {domain} is not used: {error}"),
                News::Unanswered { name, error, .. } => {
                    warn!("the tree entry {name} could not be asked for ({error}); going on without it");
                    return peers;
                }
                _ => warn!("{news}"),
            }
        }
    }
    if peers.is_empty() {
        warn!("the tree at {} has no node with an address; going on without it", url.domain);
    }
    peers
}
