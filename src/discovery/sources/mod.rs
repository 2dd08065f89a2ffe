//! Contacts that change while the node runs: names that are resolved again, DNS seeds, trees of records.
//!
//! Each is followed by a task of its own, which ends with the node or when its contact is removed.

mod hosts;
#[cfg(feature = "dns")]
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tracing::{debug, warn};

use self::hosts::Name;
use crate::bootstrap::dns::Resolver;
use crate::bootstrap::{Address, Bootnode};
use crate::proto::engine::Event;
use crate::proto::identity::{Contact, Host, IdPrefix, reaches};
use crate::udp::Request;

/// Names, seeds and trees that are followed at once: 256. Further ones are refused, with a warning.
pub(super) const MAX_SOURCES: usize = 256;

/// Contacts of the application that the engine is told of directly: 1,024, as many as it takes by default. Further ones it
/// refuses, with a warning.
const MAX_DIRECT: usize = 1024;

/// The tasks of a node.
#[derive(Debug)]
pub(super) struct Sources {
    requests: mpsc::WeakSender<Request>,
    events: broadcast::WeakSender<Event>,
    bound: IpAddr,
    #[cfg_attr(not(feature = "dns"), expect(dead_code, reason = "the system alone resolves names"))]
    dns_server: Option<SocketAddr>,
    /// Set up when it is first needed.
    resolver: OnceLock<Resolver>,
    contacts: OnceLock<watch::Receiver<bool>>,
    /// By the text of the contact; dropped, it ends the task.
    running: Mutex<BTreeMap<String, oneshot::Sender<Stop>>>,
    /// The texts of the contacts that need no task.
    direct: Mutex<BTreeSet<String>>,
}

/// Tells a task that its contact has been removed.
#[derive(Debug)]
struct Stop;

/// What a task has of the node.
#[derive(Clone)]
struct Link {
    requests: mpsc::WeakSender<Request>,
    resolver: Resolver,
    /// Whether the node has any contact in its table.
    contacts: watch::Receiver<bool>,
    bound: IpAddr,
}

/// Something that the engine tries until it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Contact(Contact),
    Address(SocketAddr, Option<IdPrefix>),
}

impl Target {
    fn ip(&self) -> IpAddr {
        match self {
            Target::Contact(contact) => contact.endpoint.ip,
            Target::Address(addr, _) => addr.ip(),
        }
    }

    pub(super) fn added(self) -> Request {
        match self {
            Target::Contact(contact) => Request::AddBootnode(contact),
            Target::Address(addr, pin) => Request::AddAddress(addr, pin),
        }
    }

    pub(super) fn removed(self) -> Request {
        match self {
            Target::Contact(contact) => Request::RemoveBootnode(contact),
            Target::Address(addr, pin) => Request::RemoveAddress(addr, pin),
        }
    }
}

/// Of the addresses of one contact those that a socket bound to `bound` can send to; all, when it is none, which is worth
/// the warning that follows.
pub(super) fn sendable(bound: IpAddr, targets: Vec<Target>) -> Vec<Target> {
    let can = |target: &&Target| reaches(bound, target.ip());
    let sendable: Vec<Target> = targets.iter().filter(can).copied().collect();
    if sendable.is_empty() { targets } else { sendable }
}

impl Sources {
    pub(super) fn new(
        requests: mpsc::WeakSender<Request>,
        events: broadcast::WeakSender<Event>,
        bound: IpAddr,
        dns_server: Option<SocketAddr>,
    ) -> Self {
        let (resolver, contacts) = (OnceLock::new(), OnceLock::new());
        let (running, direct) = (Mutex::default(), Mutex::default());
        Self { requests, events, bound, dns_server, resolver, contacts, running, direct }
    }

    /// Notes a contact of which the engine is to be told directly; `false` when it has been. The engine counts how often it
    /// is given a node, since a name may stand for it as well; the application may say the same thing twice.
    pub(super) fn note(&self, bootnode: &Bootnode) -> bool {
        let mut direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        direct.len() >= MAX_DIRECT || direct.insert(bootnode.to_string())
    }

    /// Undoes that; `false` when there is nothing to be taken back.
    pub(super) fn unnote(&self, bootnode: &Bootnode) -> bool {
        self.direct.lock().unwrap_or_else(PoisonError::into_inner).remove(&bootnode.to_string())
    }

    /// Follows a contact, unless it is followed already.
    pub(super) fn add(&self, bootnode: &Bootnode) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let text = bootnode.to_string();
        if running.contains_key(&text) {
            debug!("the contact {text} is followed already");
            return;
        }
        if running.len() >= MAX_SOURCES {
            warn!("the contact {text} is not used: at most {MAX_SOURCES} names, seeds and trees are followed at once");
            return;
        }
        let (stop, stopped) = oneshot::channel();
        match bootnode {
            Bootnode::Enode(enode) => tokio::spawn(hosts::follow(self.link(), Name::Enode(enode.clone()), stopped)),
            Bootnode::Address(address) => {
                tokio::spawn(hosts::follow(self.link(), Name::Address(address.clone()), stopped))
            }
            #[cfg(feature = "dns")]
            Bootnode::Seed(seed) => tokio::spawn(hosts::follow(self.link(), Name::Seed(seed.clone()), stopped)),
            #[cfg(feature = "dns")]
            Bootnode::Tree(url) => tokio::spawn(trees::follow(self.link(), url.clone(), stopped)),
            #[cfg(not(feature = "dns"))]
            Bootnode::Seed(_) | Bootnode::Tree(_) => {
                warn!("the contact {text} is not used: {}", crate::bootstrap::BootnodeError::NoDns);
                return;
            }
            Bootnode::Record(_) | Bootnode::Lan => return,
        };
        running.insert(text, stop);
    }

    /// Ends the task that follows a contact; it has the engine forget what it has added.
    pub(super) fn remove(&self, bootnode: &Bootnode) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = running.remove(&bootnode.to_string()) {
            // It may have ended with the node.
            let _ = stop.send(Stop);
        }
    }

    fn link(&self) -> Link {
        #[cfg(feature = "dns")]
        let resolver = || self.dns_server.map_or_else(Resolver::system, Resolver::with_server);
        #[cfg(not(feature = "dns"))]
        let resolver = Resolver::system;
        Link {
            requests: self.requests.clone(),
            resolver: self.resolver.get_or_init(resolver).clone(),
            contacts: self.contacts.get_or_init(|| self.watch_contacts()).clone(),
            bound: self.bound,
        }
    }

    /// Whether the node has contacts, from now on.
    fn watch_contacts(&self) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        if let Some(events) = self.events.upgrade() {
            tokio::spawn(watch_contacts(events.subscribe(), self.requests.clone(), sender));
        }
        receiver
    }
}

impl Link {
    /// Hands the engine a request; `None` when the node has ended.
    async fn send(&self, request: Request) -> Option<()> {
        self.requests.upgrade()?.send(request).await.ok()
    }

    /// Adds what is new, removes what has gone.
    async fn replace(&self, old: &[Target], new: &[Target]) -> Option<()> {
        for target in old.iter().filter(|target| !new.contains(target)) {
            self.send(target.removed()).await?;
        }
        for target in new.iter().filter(|target| !old.contains(target)) {
            self.send(target.added()).await?;
        }
        Some(())
    }

    fn has_contacts(&self) -> bool {
        *self.contacts.borrow()
    }

    fn ended(&self) -> bool {
        self.requests.upgrade().is_none_or(|requests| requests.is_closed())
    }

    /// Waits until the table has become empty; for ever when the node has ended.
    async fn emptied(&mut self) {
        if self.contacts.wait_for(|any| *any).await.is_err() || self.contacts.wait_for(|any| !any).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn watch_contacts(
    mut events: broadcast::Receiver<Event>,
    requests: mpsc::WeakSender<Request>,
    contacts: watch::Sender<bool>,
) {
    // What was before, or was missed.
    let mut unknown = true;
    loop {
        if std::mem::take(&mut unknown) {
            let Some(members) = members(&requests).await else { return };
            contacts.send_replace(members > 0);
        }
        match events.recv().await {
            Ok(Event::Contacts { any }) => {
                contacts.send_replace(any);
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => unknown = true,
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// How many members the table has; `None` when the node has ended.
async fn members(requests: &mpsc::WeakSender<Request>) -> Option<usize> {
    let (done, answer) = oneshot::channel();
    let look = Box::new(move |engine: &_, _| {
        let _ = done.send(count(engine));
    });
    requests.upgrade()?.send(Request::Inspect(look)).await.ok()?;
    answer.await.ok()
}

fn count(engine: &crate::proto::engine::Engine<crate::proto::contacts::OwnContacts>) -> usize {
    engine.table().entries().count()
}

/// The address of a contact without a key, when it is one.
pub(super) fn fixed(address: &Address) -> Option<Target> {
    match address.host {
        Host::Ip(ip) => Some(Target::Address((ip, address.port).into(), address.pin)),
        Host::Name(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::{Endpoint, PublicKey};

    #[test]
    fn of_two_addresses_the_one_that_can_be_sent_to_is_tried() {
        let at = |ip: &str| {
            Target::Contact(Contact { key: PublicKey([1; 64]), endpoint: Endpoint::new(ip.parse().unwrap(), 5, 0) })
        };
        let (v4, v6) = (at("8.8.8.8"), at("2a00::1"));
        let tried = |bound: &str, targets: &[Target]| sendable(bound.parse().unwrap(), targets.to_vec());
        assert_eq!(tried("0.0.0.0", &[v4, v6]), [v4]);
        assert_eq!(tried("::", &[v4, v6]), [v4, v6]);
        assert_eq!(tried("0.0.0.0", &[v6]), [v6], "and a warning tells that it cannot be");
    }

    #[cfg(feature = "dns")]
    #[tokio::test]
    async fn no_more_sources_are_followed_than_the_bound() {
        // Nobody answers there.
        let silent = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (requests, _receiver) = mpsc::channel(1);
        let (events, _) = broadcast::channel(1);
        let bound = std::net::Ipv4Addr::LOCALHOST.into();
        let sources = Sources::new(requests.downgrade(), events.downgrade(), bound, silent.local_addr().ok());
        let seed = |number: usize| format!("dns:seed{number}.example.org").parse::<Bootnode>().unwrap();
        let followed = || sources.running.lock().unwrap().len();
        for number in 0..MAX_SOURCES + 10 {
            sources.add(&seed(number));
            // Once more is no further one.
            sources.add(&seed(0));
        }
        assert_eq!(followed(), MAX_SOURCES);
        sources.remove(&seed(0));
        sources.remove(&seed(MAX_SOURCES));
        assert_eq!(followed(), MAX_SOURCES - 1);
        sources.add(&seed(MAX_SOURCES));
        assert_eq!(followed(), MAX_SOURCES);
    }
}
