//! Settings of a node, and its start.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rand::TryRng;
use tokio::sync::{broadcast, mpsc};
use tracing::debug;

#[cfg(feature = "store")]
use super::memory::{self, MemoryConfig};
use super::sources::Sources;
use super::{Discovery, EVENTS, REQUESTS};
use crate::bootstrap::Bootnode;
use crate::proto::config::Config;
use crate::proto::contacts::OwnContacts;
use crate::proto::engine::{Engine, EngineError, LocalKey, LocalNode};
use crate::proto::identity::{NodeKey, Record, RecordContent};
#[cfg(feature = "store")]
use crate::store::NodeDb;
use crate::udp::{Driver, Socket};

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
    threads: usize,
    bootnodes: Vec<Bootnode>,
    dns_server: Option<SocketAddr>,
    seq: u64,
    last_record: Option<Record>,
    extra: Vec<(Vec<u8>, Vec<u8>)>,
    on_record: Box<dyn FnMut(&Record) + Send>,
    #[cfg(feature = "lan")]
    lan: bool,
    #[cfg(feature = "store")]
    memory: Option<(NodeDb, MemoryConfig)>,
}

impl Builder {
    pub(super) fn new(key: NodeKey) -> Self {
        Self {
            key,
            listen: (Ipv4Addr::UNSPECIFIED, 30303).into(),
            advertise: Vec::new(),
            tcp: 0,
            config: Config::default(),
            threads: 1,
            bootnodes: Vec::new(),
            dns_server: None,
            seq: 1,
            last_record: None,
            extra: Vec::new(),
            on_record: Box::new(|_| {}),
            #[cfg(feature = "lan")]
            lan: false,
            #[cfg(feature = "store")]
            memory: None,
        }
    }

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

    /// How many threads open and seal packets, that of the task which runs the node included. The others are started when
    /// packets come in faster than one thread opens them, some 20,000 a second. Default: 1.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Contacts to join the network by.
    pub fn bootnodes(mut self, bootnodes: impl IntoIterator<Item = Bootnode>) -> Self {
        self.bootnodes.extend(bootnodes);
        self
    }

    /// Looks for other nodes in the LAN by mDNS (DNS-SD, service `_kadnode._udp`), and announces this one to them with its
    /// record. A node that listens on one address takes part on that interface only; one that listens on all, on every
    /// interface but loopback. Whatever hinders that is logged and retried, and the node runs on. Default: false.
    #[cfg(feature = "lan")]
    pub fn lan(mut self, on: bool) -> Self {
        self.lan = on;
        self
    }

    /// The DNS server to ask for the names of contacts, and no other. Default: those of the system.
    #[cfg(feature = "dns")]
    pub fn dns_server(mut self, server: SocketAddr) -> Self {
        self.dns_server = Some(server);
        self
    }

    /// The sequence number of the record, when there is no [`Builder::last_record`], and the lowest of one that differs from
    /// it. Default: 1.
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

    /// Remembers in `db` who answers, and tries those that are in it at the start, beside the bootnodes, and again
    /// whenever the table is empty. When it cannot be written, a warning is logged and the node goes on without.
    ///
    /// [`Discovery::shutdown`] writes for the last time; without it the last seconds are lost.
    #[cfg(feature = "store")]
    pub fn memory(mut self, db: NodeDb, config: MemoryConfig) -> Self {
        self.memory = Some((db, config));
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
        // So that a node that comes back chooses those again whom it had chosen.
        let order = self.key.derive("kadnode: order of the table");
        let local = LocalNode {
            seq: self.next_seq(&content),
            key: LocalKey::Private(Arc::new(self.key)),
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
        #[cfg(feature = "lan")]
        let lan = (self.lan || self.bootnodes.contains(&Bootnode::Lan))
            .then(|| (sender.subscribe(), config.allow_privileged_ports));
        #[cfg(feature = "store")]
        let memory = self.memory.map(|(db, config)| (db, config, sender.subscribe()));
        let driver = Driver::new(socket, self.threads, receiver, sender, self.on_record, |clock| {
            let mut engine = Engine::new(local, config, OwnContacts::default(), seed, clock)?;
            engine.set_table_order(order);
            Ok::<_, EngineError>(engine)
        })?;
        let shared = driver.shared();
        #[cfg(feature = "lan")]
        let farewell = lan.map(|(events, allow_privileged_ports)| {
            let local = crate::bootstrap::lan::Local { key, bound, allow_privileged_ports };
            super::lan::spawn(local, requests.downgrade(), events, shared.clone())
        });
        #[cfg(not(feature = "lan"))]
        let farewell = None;
        tokio::spawn(driver.run());
        let first_events = Arc::new(Mutex::new(Some(first)));
        let sources =
            Arc::new(Sources::new(requests.downgrade(), events.clone(), shared.local_addr.ip(), self.dns_server));
        let discovery = Discovery {
            #[cfg(feature = "store")]
            memory: memory.map(|(db, config, heard)| memory::start(db, config, requests.downgrade(), heard)),
            requests,
            events,
            first_events,
            shared,
            sources,
            key,
            farewell,
        };
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
            // Where the last ones could not be saved, more have been shown than the one that is known.
            _ => last.seq().saturating_add(1).max(self.seq),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::NodeId;
    use crate::udp::Request;

    /// The places of some nodes in the order of the table of a node with this key.
    async fn order(key: u8) -> Vec<u64> {
        let key = NodeKey::from_bytes(&[key; 32]).unwrap();
        let node = Discovery::builder(key).listen((Ipv4Addr::LOCALHOST, 0).into()).start().await.unwrap();
        let (done, answer) = tokio::sync::oneshot::channel();
        let look = move |engine: &Engine<OwnContacts>, _| {
            let _ = done.send((0..4).map(|id| engine.table().rank(&NodeId([id; 32]))).collect());
        };
        node.send(Request::Inspect(Box::new(look))).await.unwrap();
        answer.await.unwrap()
    }

    #[tokio::test]
    async fn a_node_that_comes_back_prefers_the_same_nodes() {
        let first = order(1).await;
        assert_eq!(order(1).await, first);
        assert_ne!(order(2).await, first);
    }
}
