//! The handle of a running node, and the builder that starts one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use rand::TryRng;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::wrappers::BroadcastStream;
use tracing::{debug, info, warn};

use crate::bootstrap::Bootnode;
use crate::proto::config::Config;
use crate::proto::contacts::{Contacts, OwnContacts};
use crate::proto::engine::{
    Command, CommandError, Counters, Engine, EngineError, Event, LocalNode, LookupReport, Pinged, Reply,
};
use crate::proto::identity::{
    Contact, Endpoint, Enode, Host, NodeId, NodeKey, PublicKey, Record, RecordContent, RecordError,
};
use crate::udp::{Driver, Request, Shared, Socket};

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
    key: PublicKey,
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address could not be bound.
    #[error("cannot listen on UDP {addr}: {}", bind_hint(.source))]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Settings or record are impossible.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
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

/// The address that the record carries, never overwritten by what others say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// The IP address.
    pub ip: IpAddr,
    /// The UDP port; the listening port when absent.
    pub udp: Option<u16>,
    /// The TCP port; that of [`Builder::tcp`] when absent.
    pub tcp: Option<u16>,
}

/// Settings of a node that is about to start.
pub struct Builder {
    key: NodeKey,
    listen: SocketAddr,
    advertise: Vec<Advertise>,
    tcp: u16,
    config: Config,
    bootnodes: Vec<Bootnode>,
    seq: u64,
    last_record: Option<Record>,
    extra: Vec<(Vec<u8>, Vec<u8>)>,
    on_record: Box<dyn FnMut(&Record) + Send>,
}

/// Some figures of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Members of the table.
    pub members: usize,
    /// Members that answered when last asked.
    pub live: usize,
    /// Members to whom we have proved ourselves as well: they answer our FINDNODE.
    pub bonded: usize,
    /// Configured contacts, resolved ones only.
    pub bootnodes: usize,
    /// Datagrams received.
    pub packets_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Lookups done.
    pub lookups: u64,
    /// All counters.
    pub counters: Counters,
}

/// The table at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Members and replacements, farthest bucket first.
    pub nodes: Vec<SnapshotNode>,
}

/// A node of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotNode {
    /// Key and endpoint.
    pub contact: Contact,
    /// The node ID.
    pub id: NodeId,
    /// Log distance to the local node, 1 to 256: its bucket.
    pub log_distance: u16,
    /// A replacement, which waits for a place.
    pub replacement: bool,
    /// Whether it answered when last asked.
    pub live: bool,
    /// The smoothed round trip time, within 10 %.
    pub rtt: Duration,
    /// Since its last PONG, in whole seconds.
    pub last_seen: Duration,
    /// Its record, if it was fetched.
    pub record: Option<Arc<Record>>,
}

/// The events of a node, as a stream. A subscriber that falls more than 1,024 events behind gets [`Lagged`].
#[derive(Debug)]
pub struct Events(BroadcastStream<Event>);

/// How many events a slow subscriber has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were missed")]
pub struct Lagged(pub u64);

/// Datagrams that are not discv4, from a socket that another protocol shares.
#[derive(Debug)]
pub struct Foreign(mpsc::Receiver<(SocketAddr, Bytes)>);

impl Discovery {
    /// Settings for a node with this key: it listens on `0.0.0.0:30303` and knows nobody.
    pub fn builder(key: NodeKey) -> Builder {
        Builder {
            key,
            listen: (Ipv4Addr::UNSPECIFIED, 30303).into(),
            advertise: Vec::new(),
            tcp: 0,
            config: Config::default(),
            bootnodes: Vec::new(),
            seq: 1,
            last_record: None,
            extra: Vec::new(),
            on_record: Box::new(|_| {}),
        }
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
        match self.command(Command::Lookup { target, until_found }).await? {
            Reply::Lookup(report) => Ok(report),
            _ => Err(RequestError::Closed),
        }
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

    /// Adds a contact that is tried until it answers, and again whenever the table is empty. A DNS name is resolved
    /// now, and again until it resolves.
    ///
    /// # Errors
    /// When the node has been shut down.
    pub async fn add_bootnode(&self, bootnode: Bootnode) -> Result<(), RequestError> {
        let unresolved = match bootnode {
            Bootnode::Record(record) => {
                let endpoints = [record.endpoint_v4(), record.endpoint_v6()];
                if endpoints == [None, None] {
                    warn!("a bootnode cannot be used: its record holds no address with a UDP port: {record}");
                }
                for endpoint in endpoints.into_iter().flatten() {
                    self.send(Request::AddBootnode(Contact { key: *record.public_key(), endpoint })).await?;
                }
                return Ok(());
            }
            Bootnode::Enode(enode) => match enode.contact() {
                Some(contact) => return self.send(Request::AddBootnode(contact)).await,
                None => enode,
            },
        };
        tokio::spawn(resolve_until_found(self.requests.downgrade(), unresolved));
        Ok(())
    }

    /// The local record.
    pub fn local_record(&self) -> Arc<Record> {
        match self.shared.record.read() {
            Ok(record) => record.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// The local enode URL. With a wildcard listening address and no known address of our own it says 127.0.0.1.
    ///
    /// The form has a place for a TCP port and none for its absence. Without one the UDP port stands there: many readers
    /// overlook `?discport=`. The record, PING and NEIGHBORS say that there is none.
    pub fn local_enode(&self) -> Enode {
        let record = self.local_record();
        if let Some(Contact { key, endpoint: Endpoint { ip, udp, tcp } }) = record.contact() {
            return Enode { key, host: Host::Ip(ip), tcp: if tcp == 0 { udp } else { tcp }, udp };
        }
        let port = self.shared.local_addr.port();
        let ip = match self.shared.local_addr.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
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

    /// Ends the node; the port is free when this returns.
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        if self.send(Request::Shutdown(done)).await.is_ok() {
            let _ = ended.await;
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

impl Builder {
    /// The address to listen on; port 0 takes a free one. Default: `0.0.0.0:30303`.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// The address that the record carries; once for each address family.
    pub fn advertise(mut self, advertise: Advertise) -> Self {
        self.advertise.push(advertise);
        self
    }

    /// The TCP port of the protocol above discovery. Default: 0, nothing listens there.
    pub fn tcp(mut self, port: u16) -> Self {
        self.tcp = port;
        self
    }

    /// Settings of the engine.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Contacts to join the network by.
    pub fn bootnodes(mut self, bootnodes: impl IntoIterator<Item = Bootnode>) -> Self {
        self.bootnodes.extend(bootnodes);
        self
    }

    /// The sequence number of the record, when there is no [`Builder::last_record`]. Default: 1.
    pub fn record_seq(mut self, seq: u64) -> Self {
        self.seq = seq;
        self
    }

    /// The record of the former run: with the same content its sequence number is kept, else the next one is taken. The
    /// record of another key is ignored.
    pub fn last_record(mut self, record: Option<Record>) -> Self {
        self.last_record = record;
        self
    }

    /// A further pair of the record: a key, and a value that is one RLP item.
    pub fn record_pair(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.extra.push((key.into(), value.into()));
        self
    }

    /// Called with the local record at the start, and with each new one before anybody sees it: the place to save it.
    /// The node handles no packet meanwhile.
    pub fn on_record(mut self, save: impl FnMut(&Record) + Send + 'static) -> Self {
        self.on_record = Box::new(save);
        self
    }

    /// Binds the socket and starts the node on the current tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound or the settings are impossible.
    pub async fn start(self) -> Result<Discovery, StartError> {
        let socket = Socket::bind(self.listen).map_err(|source| StartError::Bind { addr: self.listen, source })?;
        let bound = socket.local_addr();
        debug!(%bound, receive_buffer = socket.receive_buffer(), "listening");
        let content = self.content(bound);
        let key = *self.key.public_key();
        let local = LocalNode {
            seq: self.next_seq(&content),
            key: Arc::new(self.key),
            content,
            bound,
            host: crate::udp::host_addresses(),
            tcp: self.tcp,
        };
        let seed = random_seed()?;
        let config = Arc::new(self.config);
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let (sender, first) = broadcast::channel(EVENTS);
        let events = sender.downgrade();
        let driver = Driver::new(socket, receiver, sender, self.on_record, |clock| {
            Engine::new(local, config, OwnContacts::default(), seed, clock)
        })?;
        let shared = driver.shared();
        tokio::spawn(driver.run());
        let first_events = Arc::new(Mutex::new(Some(first)));
        let discovery = Discovery { requests, events, first_events, shared, key };
        for bootnode in self.bootnodes {
            // It has just been started.
            let _ = discovery.add_bootnode(bootnode).await;
        }
        Ok(discovery)
    }

    /// What the record says: the advertised addresses, else the one that is listened on.
    fn content(&self, bound: SocketAddr) -> RecordContent {
        let mut content = RecordContent { extra: self.extra.iter().cloned().collect(), ..RecordContent::default() };
        let listened = Advertise { ip: bound.ip(), udp: None, tcp: None };
        let listened = (!bound.ip().is_unspecified() && self.advertise.is_empty()).then_some(listened);
        for advertise in self.advertise.iter().chain(&listened) {
            let (udp, tcp) = (advertise.udp.unwrap_or(bound.port()), advertise.tcp.unwrap_or(self.tcp));
            match advertise.ip.to_canonical() {
                IpAddr::V4(ip) => content.v4 = Some((ip, udp, tcp)),
                IpAddr::V6(ip) => content.v6 = Some((ip, udp, tcp)),
            }
        }
        if content.v4.is_none() && content.v6.is_none() {
            content.ports = Some((bound.port(), self.tcp));
        }
        content
    }

    fn next_seq(&self, content: &RecordContent) -> u64 {
        let Some(last) = self.last_record.as_ref().filter(|last| last.public_key() == self.key.public_key()) else {
            return self.seq;
        };
        match Record::sign(&self.key, last.seq(), content) {
            Ok(record) if record.same_content(last) => last.seq(),
            _ => last.seq().saturating_add(1),
        }
    }
}

impl Stream for Events {
    type Item = Result<Event, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged as Missed;
        Pin::new(&mut self.0).poll_next(cx).map(|item| item.map(|item| item.map_err(|Missed(count)| Lagged(count))))
    }
}

impl Events {
    /// The next event; `None` when the node has ended.
    pub async fn next(&mut self) -> Option<Result<Event, Lagged>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Foreign {
    /// The next datagram and who sent it; `None` when the node has ended or another caller reads them now.
    pub async fn recv(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.0.recv().await
    }
}

/// Resolves the name of a bootnode, again and again until it resolves or the node has ended.
async fn resolve_until_found(requests: mpsc::WeakSender<Request>, enode: Enode) {
    let Host::Name(name) = &enode.host else { return };
    let mut wait = Duration::from_secs(1);
    loop {
        match tokio::net::lookup_host((name.as_str(), enode.udp)).await {
            Ok(addresses) => {
                let contacts: Vec<Contact> = addresses.map(|addr| enode.at(addr.ip())).collect();
                if !contacts.is_empty() {
                    info!(%name, addresses = contacts.len(), "resolved the name of a bootnode");
                    for contact in contacts {
                        let Some(requests) = requests.upgrade() else { return };
                        if requests.send(Request::AddBootnode(contact)).await.is_err() {
                            return;
                        }
                    }
                    return;
                }
                warn!("the bootnode name {name} has no address; trying again in {} s", wait.as_secs());
            }
            Err(error) => {
                warn!("the bootnode name {name} does not resolve ({error}); trying again in {} s", wait.as_secs());
            }
        }
        tokio::time::sleep(wait).await;
        if requests.upgrade().is_none_or(|requests| requests.is_closed()) {
            return;
        }
        wait = (wait * 2).min(Duration::from_secs(60));
    }
}

/// A node's choices must not be foretold, so its seed is the system's.
fn random_seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(seed)
}

fn bind_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use by another program; choose another one, or port 0 for any".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need privileges".to_owned(),
        _ => error.to_string(),
    }
}
