//! What is asked of DNS, and of the system where it alone resolves names.

#[cfg(feature = "dns")]
use std::collections::BTreeSet;
use std::net::IpAddr;
#[cfg(feature = "dns")]
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rand::seq::SliceRandom;
use thiserror::Error;
#[cfg(feature = "dns")]
use tokio::task::JoinSet;

#[cfg(feature = "dns")]
use super::hickory::Hickory;

/// Most addresses that are taken from one name: 64, four times as many nodes as a bucket holds. Of more, which are taken
/// is left to chance.
pub const MAX_ADDRESSES: usize = 64;

/// How long a name is good for when the system has resolved it, which does not tell: a minute.
const SYSTEM_TTL: Duration = Duration::from_secs(60);

/// Asks DNS. Clones share one cache.
#[derive(Clone, Debug)]
pub struct Resolver {
    #[cfg(feature = "dns")]
    server: Option<SocketAddr>,
    backend: Arc<RwLock<Backend>>,
}

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// At least one.
    pub records: Vec<T>,
    /// How long they are good for.
    pub ttl: Duration,
}

/// A host and a port that a SRV record names (RFC 2782).
#[cfg(feature = "dns")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its DNS name.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DnsError {
    /// NXDOMAIN.
    #[error("there is no such name")]
    NoName,
    /// The name has records, and none of this kind.
    #[error("the name has no {0} record")]
    NoRecord(&'static str),
    /// No server has answered.
    #[error("no DNS server answers")]
    Timeout,
    /// What the system or a server says.
    #[error("{0}")]
    Other(String),
    /// The settings of the system cannot be read.
    #[error("the DNS settings of this system cannot be read: {0}; name a server with --dns-server")]
    Settings(String),
}

#[derive(Clone, Debug)]
enum Backend {
    #[cfg(feature = "dns")]
    Hickory(Hickory),
    /// The system's resolver, and why it is.
    System(#[cfg_attr(not(feature = "dns"), expect(dead_code, reason = "there is no other"))] DnsError),
}

impl DnsError {
    /// Whether the answer is that there is nothing, rather than no answer.
    pub fn is_absence(&self) -> bool {
        matches!(self, DnsError::NoName | DnsError::NoRecord(_))
    }
}

#[cfg(feature = "dns")]
impl Backend {
    fn new(server: Option<SocketAddr>) -> Self {
        server.map_or_else(Hickory::system, Hickory::with_server).map_or_else(Backend::System, Backend::Hickory)
    }
}

impl Resolver {
    /// With the settings of the system.
    #[cfg(feature = "dns")]
    pub fn system() -> Self {
        Self { server: None, backend: Arc::new(RwLock::new(Backend::new(None))) }
    }

    /// The resolver of the system.
    #[cfg(not(feature = "dns"))]
    pub fn system() -> Self {
        let reason = DnsError::Other(super::super::BootnodeError::NoDns.to_string());
        Self { backend: Arc::new(RwLock::new(Backend::System(reason))) }
    }

    /// With one server and no other.
    #[cfg(feature = "dns")]
    pub fn with_server(server: SocketAddr) -> Self {
        Self { server: Some(server), backend: Arc::new(RwLock::new(Backend::new(Some(server)))) }
    }

    /// Begins anew, for this clone and all others: what is cached is forgotten, and the settings of the system are read
    /// again, since this host may be in another network by now. Where they cannot be read, all stays as it is.
    pub fn renew(&self) {
        #[cfg(feature = "dns")]
        if let renewed @ Backend::Hickory(_) = Backend::new(self.server) {
            *self.backend.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        }
    }

    fn backend(&self) -> Backend {
        self.backend.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The addresses of a name, of both families, at most [`MAX_ADDRESSES`].
    ///
    /// # Errors
    /// When there are none, or DNS does not answer.
    pub async fn addresses(&self, name: &str) -> Result<Answer<IpAddr>, DnsError> {
        let mut answer = match self.backend() {
            #[cfg(feature = "dns")]
            Backend::Hickory(hickory) => hickory.addresses(name).await?,
            Backend::System(_) => {
                let found =
                    tokio::net::lookup_host((name, 0)).await.map_err(|error| DnsError::Other(error.to_string()))?;
                Answer { records: found.map(|addr| addr.ip().to_canonical()).collect(), ttl: SYSTEM_TTL }
            }
        };
        answer.records.sort_unstable();
        answer.records.dedup();
        if answer.records.is_empty() {
            return Err(DnsError::NoRecord("address"));
        }
        if answer.records.len() > MAX_ADDRESSES {
            answer.records.shuffle(&mut super::rng());
            answer.records.truncate(MAX_ADDRESSES);
        }
        Ok(answer)
    }

    /// The hosts that serve discv4 for a name: those of `_discv4._udp.<name>`, in the order in which they are to be tried.
    ///
    /// # Errors
    /// When there are none, or DNS does not answer.
    #[cfg(feature = "dns")]
    pub async fn services(&self, name: &str) -> Result<Answer<Service>, DnsError> {
        match self.backend() {
            Backend::Hickory(hickory) => hickory.services(name).await,
            Backend::System(reason) => Err(reason),
        }
    }

    /// The addresses of the nodes of a DNS seed, at most [`MAX_ADDRESSES`]: first those that SRV records name, then those
    /// of the name itself, with `port`, in an order that is left to chance.
    ///
    /// # Errors
    /// When there are none, or DNS does not answer.
    #[cfg(feature = "dns")]
    pub async fn seed(&self, name: &str, port: u16) -> Result<Answer<SocketAddr>, DnsError> {
        let (services, plain) = tokio::join!(self.services(name), self.addresses(name));
        let mut found: Vec<SocketAddr> = Vec::new();
        let mut ttl = Duration::MAX;
        let mut failed = None;
        match services {
            Ok(services) => {
                ttl = services.ttl;
                let mut asked = JoinSet::new();
                for (rank, Service { host, port }) in services.records.into_iter().enumerate() {
                    let resolver = self.clone();
                    asked.spawn(async move { (rank, port, resolver.addresses(&host).await) });
                }
                let mut answers = asked.join_all().await;
                answers.sort_unstable_by_key(|(rank, ..)| *rank);
                for (_, port, answer) in answers {
                    match answer {
                        Ok(answer) => {
                            ttl = ttl.min(answer.ttl);
                            found.extend(answer.records.into_iter().map(|ip| SocketAddr::new(ip, port)));
                        }
                        Err(error) => failed = Some(error),
                    }
                }
            }
            Err(error) if error.is_absence() => {}
            Err(error) => failed = Some(error),
        }
        match plain {
            Ok(mut plain) => {
                ttl = ttl.min(plain.ttl);
                plain.records.shuffle(&mut super::rng());
                found.extend(plain.records.into_iter().map(|ip| SocketAddr::new(ip, port)));
            }
            Err(error) if found.is_empty() => return Err(failed.unwrap_or(error)),
            Err(_) => {}
        }
        let mut seen = BTreeSet::new();
        found.retain(|addr| seen.insert(*addr));
        found.truncate(MAX_ADDRESSES);
        Ok(Answer { records: found, ttl })
    }

    /// The texts of a name; what is several strings in one record is one text.
    ///
    /// # Errors
    /// When there are none, or DNS does not answer.
    #[cfg(feature = "dns")]
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, DnsError> {
        match self.backend() {
            Backend::Hickory(hickory) => hickory.texts(name).await,
            Backend::System(reason) => Err(reason),
        }
    }
}
