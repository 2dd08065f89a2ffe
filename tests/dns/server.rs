//! A DNS server on loopback whose records can be changed, and trees signed for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hickory_server::Server as Hickory;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::rdata::{A, AAAA, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record as DnsRecord, RecordType, RrKey};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use kadnode::bootstrap::dns::{Entry, Hash, TreeUrl};
use kadnode::proto::crypto::{SecretKey, keccak256};
use kadnode::proto::identity::{NodeKey, PublicKey, Record, RecordContent};
use tokio::net::{TcpListener, UdpSocket};

/// Seconds that answers are good for, unless a test says otherwise.
pub(crate) const TTL: u32 = 300;

/// The zone `example.org`, served on UDP and TCP.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    zone: Arc<InMemoryZoneHandler<TokioRuntimeProvider>>,
    _running: Hickory<Catalog>,
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).expect("a name")
}

impl Server {
    pub(crate) async fn start() -> Self {
        let origin = name("example.org");
        let zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let zone = Arc::new(zone);
        let soa = SOA::new(name("ns.example.org"), name("root.example.org"), 1, 60, 60, 60, TTL);
        zone.upsert(DnsRecord::from_rdata(origin.clone(), TTL, RData::SOA(soa)), 0).await;
        let mut catalog = Catalog::new();
        catalog.upsert(origin.into(), vec![zone.clone()]);
        let mut running = Hickory::new(catalog);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            // It may be taken for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("it is bound")).await {
                break (udp, tcp);
            }
        };
        let addr = udp.local_addr().expect("it is bound");
        running.register_socket(udp);
        running.register_listener(tcp, Duration::from_secs(5), 64);
        Self { addr, zone, _running: running }
    }

    async fn add(&self, at: &str, ttl: u32, data: RData) {
        assert!(self.zone.upsert(DnsRecord::from_rdata(name(at), ttl, data), 0).await, "{at} is new");
    }

    pub(crate) async fn address(&self, at: &str, ip: impl Into<IpAddr>, ttl: u32) {
        let data = match ip.into() {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        self.add(at, ttl, data).await;
    }

    pub(crate) async fn service(&self, of: &str, priority: u16, weight: u16, port: u16, target: &str) {
        let data = RData::SRV(SRV::new(priority, weight, port, name(target)));
        self.add(&format!("_discv4._udp.{of}"), TTL, data).await;
    }

    /// A TXT record, in strings of 255 bytes at most.
    pub(crate) async fn text(&self, at: &str, text: &str) {
        let strings = text.as_bytes().chunks(255).collect();
        self.add(at, TTL, RData::TXT(TXT::from_bytes(strings))).await;
    }

    pub(crate) async fn remove(&self, at: &str, kind: RecordType) {
        let gone = self.zone.records_mut().await.remove(&RrKey::new(name(at).into(), kind));
        assert!(gone.is_some(), "{at} was there");
    }

    /// Publishes what a tree consists of.
    pub(crate) async fn publish(&self, tree: &Tree) {
        for (at, text) in tree.zone() {
            self.text(&at, &text).await;
        }
    }
}

/// A tree that is signed.
pub(crate) struct Tree {
    pub(crate) url: TreeUrl,
    pub(crate) root: String,
    /// Below the root, by name.
    pub(crate) entries: Vec<(Hash, String)>,
}

impl Tree {
    /// With branches of 13 entries, as other makers of trees have them.
    pub(crate) fn sign(signer: u8, domain: &str, seq: u64, nodes: &[Record], links: &[TreeUrl]) -> Self {
        let mut entries = Vec::new();
        let nodes: Vec<String> = nodes.iter().map(Record::to_string).collect();
        let links: Vec<String> = links.iter().map(TreeUrl::to_string).collect();
        let (e, l) = (subtree(&nodes, &mut entries), subtree(&links, &mut entries));
        Self::of(signer, domain, seq, e, l, entries)
    }

    pub(crate) fn of(signer: u8, domain: &str, seq: u64, e: Hash, l: Hash, entries: Vec<(Hash, String)>) -> Self {
        let signer = SecretKey::from_bytes(&[signer; 32]).expect("a valid key");
        let text = format!("enrtree-root:v1 e={e} l={l} seq={seq}");
        let signature = signer.sign_recoverable(&keccak256(text.as_bytes()));
        let root = format!("{text} sig={}", URL_SAFE_NO_PAD.encode(signature));
        let url = TreeUrl { key: PublicKey(signer.public_key()), domain: domain.to_owned() };
        Self { url, root, entries }
    }

    /// All names with their texts.
    pub(crate) fn zone(&self) -> Vec<(String, String)> {
        let domain = &self.url.domain;
        let entries = self.entries.iter().map(|(hash, text)| (format!("{hash}.{domain}"), text.clone()));
        entries.chain([(domain.clone(), self.root.clone())]).collect()
    }
}

/// Makes entries of texts, and branches above them; the hash of the topmost.
fn subtree(texts: &[String], entries: &mut Vec<(Hash, String)>) -> Hash {
    let mut level: Vec<Hash> = texts
        .iter()
        .map(|text| {
            entries.push((Hash::of(text), text.clone()));
            Hash::of(text)
        })
        .collect();
    while level.len() != 1 {
        let mut above = Vec::new();
        for children in level.chunks(13) {
            let text = Entry::Branch(children.to_vec()).to_string();
            above.push(Hash::of(&text));
            entries.push((Hash::of(&text), text));
        }
        if above.is_empty() {
            let text = Entry::Branch(Vec::new()).to_string();
            above.push(Hash::of(&text));
            entries.push((Hash::of(&text), text));
        }
        level = above;
    }
    level[0]
}

/// The record of a node that does not exist.
pub(crate) fn record(number: u32) -> Record {
    let mut secret = [7; 32];
    secret[..4].copy_from_slice(&number.to_be_bytes());
    let key = NodeKey::from_bytes(&secret).expect("a valid key");
    let content = RecordContent { v4: Some((Ipv4Addr::LOCALHOST, 9, 0)), ..RecordContent::default() };
    Record::sign(&key, 1, &content).expect("it fits")
}
