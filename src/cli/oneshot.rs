//! What the commands that make one request have in common: a node with a fresh key that keeps nothing.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tracing::warn;

use super::failure::Failure;
use crate::bootstrap::Bootnode;
use crate::proto::config::Config;
use crate::proto::engine::CommandError;
use crate::proto::identity::{Contact, Enode, Host};
use crate::store::fresh_key;
use crate::{Discovery, RequestError, StartError};

/// How often a request is made before it is given up: a lost datagram is no proof of a dead node.
pub(super) const TRIES: u32 = 3;

/// Starts a node that asks and does nothing of its own accord.
///
/// It listens where it can reach `contacts`: on both address families when one of them is on IPv6.
pub(super) async fn start(contacts: &[Contact]) -> Result<Discovery, Failure> {
    let key = fresh_key().map_err(Failure::runtime)?;
    let mut config = Config::default();
    config.refresh.enabled = false;
    config.votes.enabled = false;
    config.fetch_records = false;
    let builder = |key| Discovery::builder(key).config(config.clone());
    if contacts.iter().any(|contact| contact.endpoint.ip.is_ipv6()) {
        match builder(key.clone()).listen((Ipv6Addr::UNSPECIFIED, 0).into()).start().await {
            // A host without IPv6 may still reach the others.
            Err(StartError::Bind { .. }) => {}
            other => return other.map_err(Failure::runtime),
        }
    }
    builder(key).listen((Ipv4Addr::UNSPECIFIED, 0).into()).start().await.map_err(Failure::runtime)
}

/// Tells a node whom to begin its lookups with.
pub(super) async fn introduce(discovery: &Discovery, contacts: &[Contact]) -> Result<(), Failure> {
    for contact in contacts {
        discovery.add_bootnode((*contact).into()).await.map_err(Failure::runtime)?;
    }
    Ok(())
}

/// Key and address of a contact; a DNS name is resolved, to an IPv4 address if it has one.
pub(super) async fn resolve(bootnode: &Bootnode) -> Result<Contact, Failure> {
    match bootnode {
        Bootnode::Enode(enode) => match &enode.host {
            Host::Ip(ip) => Ok(enode.at(*ip)),
            Host::Name(name) => resolve_name(enode, name).await,
        },
        Bootnode::Record(record) => {
            record.contact().ok_or_else(|| Failure::input("the record holds no address to contact its node at"))
        }
    }
}

/// As many of the contacts as can be resolved, with a warning for each other.
pub(super) async fn resolve_all(bootnodes: &[Bootnode]) -> Vec<Contact> {
    let mut contacts = Vec::new();
    for bootnode in bootnodes {
        match bootnode {
            // Both of its addresses: which one can be reached is found out by asking.
            Bootnode::Record(record) => contacts.extend(
                [record.endpoint_v4(), record.endpoint_v6()]
                    .into_iter()
                    .flatten()
                    .map(|endpoint| Contact { key: *record.public_key(), endpoint }),
            ),
            Bootnode::Enode(_) => match resolve(bootnode).await {
                Ok(contact) => contacts.push(contact),
                Err(failure) => warn!("{failure}; going on without it"),
            },
        }
    }
    contacts
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
pub(super) fn explain(error: RequestError, contact: &Contact) -> Failure {
    let at = contact.endpoint;
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

async fn resolve_name(enode: &Enode, name: &str) -> Result<Contact, Failure> {
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((name, enode.udp)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Err(Failure::runtime(format!("the host name {name} does not resolve: {error}"))),
    };
    // Most nodes listen on IPv4 alone.
    match addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()) {
        Some(address) => Ok(enode.at(address.ip())),
        None => Err(Failure::runtime(format!("the host name {name} has no address"))),
    }
}
