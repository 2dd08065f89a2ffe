//! DNS by the crate `hickory-resolver`: the only place that names it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use rand::RngExt;

use super::resolver::{Answer, DnsError, Service};

/// How long one try may take: 2 s, as the first try of most systems' resolvers does.
const TRY: Duration = Duration::from_secs(2);

/// Tries after the first: a lost datagram is no proof of a dead server.
const RETRIES: usize = 1;

/// What a question may take in all, with several servers and TCP for what is too long for UDP.
const MOST: Duration = Duration::from_secs(6);

/// Answers that are kept, of a few hundred bytes each; the one that has been used least goes.
const CACHE: u64 = 256;

/// Longest that an answer is kept, in case that its TTL is longer.
const KEPT: Duration = Duration::from_secs(600);

/// Longest that the absence of an answer is kept: whoever asks again has waited as long.
const ABSENCE_KEPT: Duration = Duration::from_secs(1);

/// Most texts that one name may have; further ones are not looked at. A root has one, with others beside it perhaps.
const MAX_TEXTS: usize = 16;

/// Most SRV records that are taken of one name, the best of them: 16.
const MAX_SERVICES: usize = 16;

#[derive(Clone)]
pub(super) struct Hickory(Arc<TokioResolver>);

impl fmt::Debug for Hickory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hickory")
    }
}

impl Hickory {
    pub(super) fn system() -> Result<Self, DnsError> {
        let builder = TokioResolver::builder_tokio().map_err(|error| DnsError::Settings(error.to_string()))?;
        Self::build(builder)
    }

    pub(super) fn with_server(server: SocketAddr) -> Result<Self, DnsError> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        Self::build(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, DnsError> {
        let options: &mut ResolverOpts = builder.options_mut();
        options.timeout = TRY;
        options.attempts = RETRIES;
        options.cache_size = CACHE;
        options.positive_max_ttl = Some(KEPT);
        options.negative_max_ttl = Some(ABSENCE_KEPT);
        // Entries of trees are longer than the 512 bytes that plain DNS has room for.
        options.edns0 = true;
        builder.build().map(|resolver| Self(Arc::new(resolver))).map_err(|error| DnsError::Settings(error.to_string()))
    }

    pub(super) async fn addresses(&self, name: &str) -> Result<Answer<IpAddr>, DnsError> {
        let (v4, v6) = tokio::join!(self.lookup(name, RecordType::A, "A"), self.lookup(name, RecordType::AAAA, "AAAA"));
        let (found, other) = match (v4, v6) {
            (Ok(v4), v6) => (v4, v6.ok()),
            (Err(_), Ok(v6)) => (v6, None),
            // Which of them is absent matters less than that one is not answered.
            (Err(v4), Err(v6)) => return Err(if v4.is_absence() && !v6.is_absence() { v6 } else { address(v4) }),
        };
        let answers = || found.answers().iter().chain(other.iter().flat_map(Lookup::answers));
        let records = answers().filter_map(|record| match &record.data {
            RData::A(ip) => Some(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => Some(IpAddr::V6(ip.0).to_canonical()),
            _ => None,
        });
        Ok(Answer { records: records.collect(), ttl: least_ttl(answers().map(|record| record.ttl)) })
    }

    pub(super) async fn services(&self, name: &str) -> Result<Answer<Service>, DnsError> {
        let lookup =
            self.lookup(&format!("_discv4._udp.{}.", name.trim_end_matches('.')), RecordType::SRV, "SRV").await?;
        let services = lookup.answers().iter().filter_map(|record| match &record.data {
            // The root as the target says that there is no such service; port 0 receives nothing.
            RData::SRV(service) if !service.target.is_root() && service.port != 0 => Some(service),
            _ => None,
        });
        let mut services: Vec<&SRV> = services.collect();
        let mut rng = super::rng();
        // A draw by weight among equals in priority: the logarithm of a random number, divided by the weight, orders
        // them with the chances that RFC 2782 asks for. Weight 0 comes last, but for luck.
        let draw = |weight: u16, random: f64| -random.max(f64::MIN_POSITIVE).ln() / f64::from(weight).max(0.01);
        let mut drawn: Vec<(u16, f64, &SRV)> =
            services.drain(..).map(|service| (service.priority, draw(service.weight, rng.random()), service)).collect();
        drawn.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        let records: Vec<Service> = drawn
            .iter()
            .take(MAX_SERVICES)
            .map(|(_, _, service)| Service { host: service.target.to_utf8(), port: service.port })
            .collect();
        if records.is_empty() {
            return Err(DnsError::NoRecord("SRV"));
        }
        Ok(Answer { records, ttl: least_ttl(lookup.answers().iter().map(|record| record.ttl)) })
    }

    pub(super) async fn texts(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let name = format!("{}.", name.trim_end_matches('.'));
        let lookup = self.lookup(&name, RecordType::TXT, "TXT").await?;
        // Whoever walks through a tree remembers what it has read, and what it asks for again may have changed.
        self.0.clear_lookup_cache(&name, RecordType::TXT);
        let texts = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(text) => String::from_utf8(text.txt_data.concat()).ok(),
            _ => None,
        });
        Ok(texts.take(MAX_TEXTS).collect())
    }

    async fn lookup(&self, name: &str, kind: RecordType, said: &'static str) -> Result<Lookup, DnsError> {
        match tokio::time::timeout(MOST, self.0.lookup(name, kind)).await {
            Ok(Ok(lookup)) => Ok(lookup),
            Ok(Err(error)) if error.is_nx_domain() => Err(DnsError::NoName),
            Ok(Err(error)) if error.is_no_records_found() => Err(DnsError::NoRecord(said)),
            Ok(Err(NetError::Timeout | NetError::NoConnections)) | Err(_) => Err(DnsError::Timeout),
            Ok(Err(error)) => Err(DnsError::Other(error.to_string())),
        }
    }
}

/// Neither kind of address is there.
fn address(error: DnsError) -> DnsError {
    if matches!(error, DnsError::NoRecord(_)) { DnsError::NoRecord("address") } else { error }
}

fn least_ttl(ttls: impl Iterator<Item = u32>) -> Duration {
    Duration::from_secs(ttls.min().unwrap_or(0).into())
}
