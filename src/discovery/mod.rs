//! The handle of a running node, and the builder that starts one.

mod builder;
#[cfg(feature = "lan")]
mod lan;
#[cfg(feature = "store")]
mod memory;
mod report;
mod sources;
mod streams;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_stream::wrappers::BroadcastStream;
use tracing::warn;

pub use self::builder::{Advertise, Builder, StartError};
#[cfg(feature = "store")]
pub use self::memory::MemoryConfig;
#[cfg(feature = "store")]
use self::memory::MemoryHandle;
pub use self::report::{Snapshot, SnapshotNode, Stats};
use self::sources::{Sources, Target};
pub use self::streams::{Events, Foreign, Lagged};
use crate::bootstrap::{self, Bootnode};
use crate::proto::contacts::{Contacts, OwnContacts};
use crate::proto::engine::{Command, CommandError, Engine, Event, LookupReport, Pinged, Reply};
use crate::proto::identity::{
    Contact, Endpoint, Enode, Host, IdPrefix, NodeKey, PublicKey, Record, RecordContent, RecordError,
};
use crate::udp::{Request, Shared};

/// Requests of handles that wait for the loop; whoever asks beyond that waits.
const REQUESTS: usize = 256;

/// Events kept for a subscriber that is slow; then it is told how many it has missed.
const EVENTS: usize = 1024;

/// Datagrams of another protocol that wait for the application; further ones are dropped.
const FOREIGN: usize = 1024;

/// A running discovery node. Clones are handles of the same node; it ends when the last one is dropped or at
/// [`Discovery::shutdown`].
#[derive(Clone, Debug)]
pub struct Discovery {
    requests: mpsc::Sender<Request>,
    /// Weak, so that subscribers learn of the end while there are handles.
    events: broadcast::WeakSender<Event>,
    /// Subscribed before the node started, for the first caller of [`Discovery::events`].
    first_events: Arc<Mutex<Option<broadcast::Receiver<Event>>>>,
    shared: Arc<Shared>,
    sources: Arc<Sources>,
    key: PublicKey,
    /// Of a task that says goodbye when the node has ended; it closes when that is done.
    farewell: Option<watch::Receiver<()>>,
    #[cfg(feature = "store")]
    memory: Option<MemoryHandle>,
}

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The engine says so.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A lookup ended without an answer of the node itself.
    #[error("the node was not found; {queries} nodes were asked")]
    NotFound {
        /// FINDNODE requests made.
        queries: u32,
    },
    /// The record does not fit.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The node has been shut down.
    #[error("the discovery node has been shut down")]
    Closed,
}

impl Discovery {
    /// Settings for a node with this key: it listens on `0.0.0.0:30303` and knows nobody.
    pub fn builder(key: NodeKey) -> Builder {
        Builder::new(key)
    }

    /// Finds the (at most 16) nodes nearest to keccak256 of the target.
    ///
    /// # Errors
    /// [`CommandError::Busy`] when 64 lookups are under way.
    pub async fn lookup(&self, target: PublicKey) -> Result<LookupReport, RequestError> {
        self.find(target, false).await
    }

    /// Like [`Discovery::lookup`], but ends as soon as the node with this very key has answered.
    ///
    /// # Errors
    /// As [`Discovery::lookup`].
    pub async fn find(&self, target: PublicKey, until_found: bool) -> Result<LookupReport, RequestError> {
        self.run_lookup(Command::Lookup { target, until_found, paths: None }).await
    }

    /// Like [`Discovery::lookup`], along so many disjoint paths, 1 to 8, for a lookup that matters: whoever lies on one path
    /// cannot lead away the others (Baumgart and Mies 2007, "S/Kademlia"). It takes as many times the requests.
    ///
    /// # Errors
    /// As [`Discovery::lookup`].
    pub async fn lookup_disjoint(&self, target: PublicKey, paths: usize) -> Result<LookupReport, RequestError> {
        self.run_lookup(Command::Lookup { target, until_found: false, paths: Some(paths) }).await
    }

    /// Finds the node with this key and asks it for its record, the newest there is.
    ///
    /// # Errors
    /// [`RequestError::NotFound`] when no lookup reaches it, or those of [`Discovery::request_enr`].
    pub async fn resolve(&self, key: PublicKey) -> Result<Arc<Record>, RequestError> {
        let report = self.find(key, true).await?;
        match report.closest.iter().find(|found| found.contact.key == key && found.answered) {
            Some(found) => self.request_enr(found.contact).await,
            None => Err(RequestError::NotFound { queries: report.queries }),
        }
    }

    /// Pings a node.
    ///
    /// # Errors
    /// When it does not answer, or another node does.
    pub async fn ping(&self, contact: Contact) -> Result<Pinged, RequestError> {
        match self.command(Command::Ping(contact)).await? {
            Reply::Ping(pinged) => Ok(pinged),
            _ => Err(RequestError::Closed),
        }
    }

    /// Pings whoever is at an address. With `pin`, an answer of another node is an error.
    ///
    /// # Errors
    /// When nobody answers, or another node does.
    pub async fn ping_address(&self, addr: SocketAddr, pin: Option<IdPrefix>) -> Result<Pinged, RequestError> {
        match self.command(Command::PingAddress(addr, pin)).await? {
            Reply::Ping(pinged) => Ok(pinged),
            _ => Err(RequestError::Closed),
        }
    }

    /// Asks a node for its record (EIP-868), bonding first where need be.
    ///
    /// # Errors
    /// When it does not answer, or the record is not its own.
    pub async fn request_enr(&self, contact: Contact) -> Result<Arc<Record>, RequestError> {
        match self.command(Command::RequestRecord(contact)).await? {
            Reply::Record(record) => Ok(record),
            _ => Err(RequestError::Closed),
        }
    }

    /// Adds a contact that is tried until it answers, and again whenever the table is empty. To add it twice is as good as
    /// once.
    ///
    /// Names and DNS seeds are resolved now, again until they resolve, when their TTL is over, and when the table has
    /// become empty. A tree is read while the table has fewer than 16 members. At most 256 names, seeds and trees are
    /// followed at once; further ones are refused with a warning in the log.
    ///
    /// # Errors
    /// When the node has been shut down.
    pub async fn add_bootnode(&self, bootnode: Bootnode) -> Result<(), RequestError> {
        if let Bootnode::Record(record) = &bootnode
            && bootstrap::contacts(record).next().is_none()
        {
            warn!("a bootnode cannot be used: its record holds no address with a UDP port: {record}");
            return Ok(());
        }
        if self.requests.is_closed() {
            return Err(RequestError::Closed);
        }
        let Some(targets) = self.targets(&bootnode) else {
            self.sources.add(&bootnode);
            return Ok(());
        };
        if self.sources.note(&bootnode) {
            for target in targets {
                self.send(target.added()).await?;
            }
        }
        Ok(())
    }

    /// Takes back a contact that was added: its name is resolved no more, and its node is tried no longer, unless another
    /// contact stands for it too. Nodes that are in the table stay there.
    ///
    /// # Errors
    /// When the node has been shut down.
    pub async fn remove_bootnode(&self, bootnode: &Bootnode) -> Result<(), RequestError> {
        if self.requests.is_closed() {
            return Err(RequestError::Closed);
        }
        let Some(targets) = self.targets(bootnode) else {
            self.sources.remove(bootnode);
            return Ok(());
        };
        if self.sources.unnote(bootnode) {
            for target in targets {
                self.send(target.removed()).await?;
            }
        }
        Ok(())
    }

    /// The local record.
    pub fn local_record(&self) -> Arc<Record> {
        match self.shared.record.read() {
            Ok(record) => record.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// The local enode URL. Where the record holds no address it says the one that the socket is bound to, and 127.0.0.1 for
    /// the wildcard address.
    ///
    /// The form has a place for a TCP port and none for its absence. Without one the UDP port stands there: many readers
    /// overlook `?discport=`. The record, PING and NEIGHBORS say that there is none.
    pub fn local_enode(&self) -> Enode {
        let record = self.local_record();
        if let Some(Contact { key, endpoint: Endpoint { ip, udp, tcp } }) = record.contact() {
            return Enode { key, host: Host::Ip(ip), tcp: if tcp == 0 { udp } else { tcp }, udp };
        }
        let (bound, port) = (self.shared.local_addr.ip(), self.shared.local_addr.port());
        // The wildcard address of IPv6 takes IPv4 too.
        let ip = if bound.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { bound };
        Enode { key: self.key, host: Host::Ip(ip), tcp: port, udp: port }
    }

    /// The address that the socket is bound to, with the true port.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Changes what the local record says; see [`RecordContent`].
    ///
    /// # Errors
    /// When it does not fit in 300 bytes.
    pub async fn set_record(&self, content: RecordContent) -> Result<(), RequestError> {
        let (done, answer) = oneshot::channel();
        self.send(Request::SetRecord(content, done)).await?;
        Ok(answer.await.map_err(|_| RequestError::Closed)??)
    }

    /// Some figures.
    ///
    /// # Errors
    /// When the node has been shut down.
    pub async fn stats(&self) -> Result<Stats, RequestError> {
        self.inspect(|engine, now| {
            let lasts = engine.config().endorsement_lasts;
            let members = || engine.table().entries().map(|(_, entry)| entry);
            let counters = engine.counters().clone();
            Stats {
                members: members().count(),
                live: members().filter(|entry| entry.is_live()).count(),
                bonded: members().filter(|entry| entry.endorsed.within(lasts, now)).count(),
                bootnodes: engine.bootnodes(),
                packets_in: counters.total_received(),
                packets_out: counters.total_sent(),
                lookups: counters.lookups,
                counters,
            }
        })
        .await
    }

    /// The table as it is now.
    ///
    /// # Errors
    /// When the node has been shut down.
    pub async fn snapshot(&self) -> Result<Snapshot, RequestError> {
        self.inspect(|engine, now| {
            let contacts = engine.contacts();
            let members = engine.table().entries().map(|entry| (false, entry));
            let replacements = engine.table().replacements().map(|entry| (true, entry));
            let nodes = members
                .chain(replacements)
                .map(|(replacement, (log_distance, entry))| SnapshotNode {
                    contact: contacts.contact(entry.node),
                    id: *contacts.id(entry.node),
                    log_distance,
                    replacement,
                    live: entry.is_live(),
                    rtt: entry.rtt(),
                    last_seen: entry.proved.age(now),
                    record: engine.record_of(entry.node).cloned(),
                })
                .collect();
            Snapshot { nodes }
        })
        .await
    }

    /// What happens: for the first caller since the start, for later ones from now on.
    pub fn events(&self) -> Events {
        if let Some(first) = self.first_events.lock().ok().and_then(|mut first| first.take()) {
            return Events(BroadcastStream::new(first));
        }
        let receiver = match self.events.upgrade() {
            Some(events) => events.subscribe(),
            // The node has ended: a channel without a sender says so.
            None => broadcast::channel(1).1,
        };
        Events(BroadcastStream::new(receiver))
    }

    /// The datagrams that arrive from now on and are not discv4, so that another protocol can share the port. The
    /// newest caller gets them; when 1,024 wait to be read, further ones are dropped.
    ///
    /// # Errors
    /// When the node has been shut down.
    pub async fn foreign(&self) -> Result<Foreign, RequestError> {
        let (sender, receiver) = mpsc::channel(FOREIGN);
        let (done, answer) = oneshot::channel();
        self.send(Request::Foreign(sender, done)).await?;
        answer.await.map_err(|_| RequestError::Closed)?;
        Ok(Foreign(receiver))
    }

    /// Sends a datagram of another protocol by the same socket.
    ///
    /// # Errors
    /// When the node has been shut down. That the system could not send it is not told.
    pub async fn send_foreign(&self, to: SocketAddr, datagram: Bytes) -> Result<(), RequestError> {
        self.send(Request::SendForeign(to, datagram)).await
    }

    /// Ends the node; the port is free when this returns, and what it remembers has been written.
    pub async fn shutdown(&self) {
        #[cfg(feature = "store")]
        if let Some(memory) = &self.memory {
            memory.close().await;
        }
        let (done, ended) = oneshot::channel();
        if self.send(Request::Shutdown(done)).await.is_ok() {
            let _ = ended.await;
        }
        if let Some(mut farewell) = self.farewell.clone() {
            // Nothing is ever sent there.
            let _ = farewell.changed().await;
        }
    }

    /// What a contact stands for; `None` when that has to be found out.
    fn targets(&self, bootnode: &Bootnode) -> Option<Vec<Target>> {
        match bootnode {
            Bootnode::Record(record) => {
                let targets = bootstrap::contacts(record).map(Target::Contact).collect();
                Some(sources::sendable(self.shared.local_addr.ip(), targets))
            }
            Bootnode::Enode(enode) => enode.contact().map(|contact| vec![Target::Contact(contact)]),
            Bootnode::Address(address) => sources::fixed(address).map(|target| vec![target]),
            Bootnode::Seed(_) | Bootnode::Tree(_) | Bootnode::Lan => None,
        }
    }

    async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Engine<OwnContacts>, crate::proto::time::Time) -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let (done, answer) = oneshot::channel();
        self.send(Request::Inspect(Box::new(move |engine, now| {
            let _ = done.send(look(engine, now));
        })))
        .await?;
        answer.await.map_err(|_| RequestError::Closed)
    }

    async fn run_lookup(&self, command: Command) -> Result<LookupReport, RequestError> {
        match self.command(command).await? {
            Reply::Lookup(report) => Ok(report),
            _ => Err(RequestError::Closed),
        }
    }

    async fn command(&self, command: Command) -> Result<Reply, RequestError> {
        let (done, answer) = oneshot::channel();
        self.send(Request::Command(command, done)).await?;
        match answer.await {
            Ok(Reply::Failed(error)) => Err(error.into()),
            Ok(reply) => Ok(reply),
            Err(_) => Err(RequestError::Closed),
        }
    }

    async fn send(&self, request: Request) -> Result<(), RequestError> {
        self.requests.send(request).await.map_err(|_| RequestError::Closed)
    }
}
