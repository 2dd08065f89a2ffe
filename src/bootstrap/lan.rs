//! Nodes in the LAN, by multicast DNS and DNS-SD (RFC 6762, RFC 6763): each announces itself as a service, with its
//! signed record in the TXT record, and looks for the others.

mod neighbours;
mod sighting;
mod txt;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mdns_sd::{DaemonEvent, DaemonStatus, IfKind, MDNS_PORT, Receiver, ServiceDaemon, ServiceEvent, ServiceInfo};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::time::timeout;

pub(crate) use self::neighbours::{Neighbours, Try};
pub(crate) use self::sighting::{Local, sighting};
use crate::proto::identity::{NodeId, Record};

/// The kind of service that a node is.
pub(crate) const SERVICE: &str = "_kadnode._udp.local.";

/// Bytes of the node ID that name a service: 8, sixteen hex digits, so that two nodes of one LAN never have one name.
const NAMED_BY: usize = 8;

/// Records that the responder may hold, some 500 bytes each: four for each of 5,000 nodes. It has no bound of its own and
/// keeps what others send, asked for or not, for as long as they say; beyond this it is ended, with all that it holds.
const MAX_RECORDS: i64 = 20_000;

/// Timers that the responder may hold, 16 bytes each. It sets two or three for each record that it hears, again and again
/// for the same one, and each stays until the record would have been out of date.
const MAX_TIMERS: i64 = 1_000_000;

/// How long the responder may take to answer or to say goodbye; it needs some milliseconds. It does not answer while
/// packets come in faster than it reads them.
const PATIENCE: Duration = Duration::from_millis(400);

/// Why mDNS does not work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LanError {
    /// Another program has port 5353 for itself.
    #[error("UDP port {MDNS_PORT} is held by another program that does not share it ({0})")]
    Port(String),
    /// There is no interface to announce on.
    #[error("no network interface {} takes part in multicast", where_bound(.0))]
    NoInterface(IpAddr),
    /// Somebody in the LAN sends more records than are kept.
    #[error("others in the LAN send more mDNS records than the {MAX_RECORDS} that are kept")]
    Flood,
    /// The responder has ended.
    #[error("the mDNS responder has stopped ({0})")]
    Stopped(String),
}

/// What the responder tells.
#[derive(Debug)]
pub(crate) enum Notice {
    /// This node has been announced on some interface.
    Announced,
    /// A service was found, or says something new.
    Found(Box<mdns_sd::ResolvedService>),
    /// The service of this name is gone.
    Gone(String),
    /// Nothing of interest.
    Other,
}

/// An mDNS responder, on a thread of its own, which ends when this is dropped.
pub(crate) struct Responder {
    daemon: Daemon,
    services: Receiver<ServiceEvent>,
    monitor: Receiver<DaemonEvent>,
    bound: SocketAddr,
}

impl Responder {
    /// Starts looking for services. Only the interface that the node's socket is bound to takes part, or every one but
    /// loopback when that listens on all; but while it starts, the responder joins the group on every interface for a
    /// moment.
    pub(crate) fn start(bound: SocketAddr) -> Result<Self, LanError> {
        let daemon = Daemon(ServiceDaemon::new().map_err(stopped)?);
        // In this order: nothing is sent before the interfaces are chosen, and no notice is missed.
        choose_interfaces(&daemon.0, bound.ip()).map_err(stopped)?;
        let monitor = daemon.0.monitor().map_err(stopped)?;
        let services = daemon.0.browse(SERVICE).map_err(stopped)?;
        Ok(Self { daemon, services, monitor, bound })
    }

    /// Announces the node with this record, in place of what was announced before.
    pub(crate) fn announce(&self, record: &Record) -> Result<(), LanError> {
        self.daemon.0.register(service(record, self.bound).map_err(stopped)?).map_err(stopped)
    }

    /// Waits for the next notice.
    pub(crate) async fn next(&self) -> Result<Notice, LanError> {
        // A channel ends when the thread does, or when it was full.
        tokio::select! {
            event = self.monitor.recv_async() => Ok(match event.map_err(stopped)? {
                DaemonEvent::Announce(..) | DaemonEvent::IpAdd(_) => Notice::Announced,
                _ => Notice::Other,
            }),
            event = self.services.recv_async() => Ok(match event.map_err(stopped)? {
                ServiceEvent::ServiceResolved(service) => Notice::Found(service),
                ServiceEvent::ServiceRemoved(_, name) => Notice::Gone(name),
                _ => Notice::Other,
            }),
        }
    }

    /// Fails when the responder holds too much and should be ended. Says whether it had time to answer.
    pub(crate) async fn check(&self) -> Result<bool, LanError> {
        let metrics = self.daemon.0.get_metrics().map_err(stopped)?;
        let Ok(metrics) = timeout(PATIENCE, metrics.recv_async()).await else { return Ok(false) };
        let metrics = metrics.map_err(stopped)?;
        let count = |name: &str| metrics.get(name).copied().unwrap_or(0);
        let records = ["cached-ptr", "cached-srv", "cached-txt", "cached-addr", "cached-nsec", "cached-subtype"];
        let records: i64 = records.into_iter().map(count).sum();
        if records > MAX_RECORDS || count("timer") > MAX_TIMERS { Err(LanError::Flood) } else { Ok(true) }
    }

    /// Why nothing could be announced, when that is so.
    pub(crate) fn obstacle(&self) -> LanError {
        match bind_shared(self.bound.ip()) {
            Err(error) => LanError::Port(error.to_string()),
            Ok(()) => LanError::NoInterface(self.bound.ip()),
        }
    }

    /// Says goodbye and ends.
    pub(crate) async fn stop(&self) {
        if let Ok(ended) = self.daemon.0.shutdown() {
            // Whoever does not hear it forgets us when the announcement is out of date.
            let _ = timeout(PATIENCE, ended.recv_async()).await;
        }
    }

    /// Whether its thread has ended, so that another may be started.
    pub(crate) fn has_ended(&self) -> bool {
        self.daemon.0.status().is_ok_and(|status| status.try_recv() == Ok(DaemonStatus::Shutdown))
    }
}

/// The thread of the crate, which by itself would outlive all its handles.
struct Daemon(ServiceDaemon);

impl Drop for Daemon {
    fn drop(&mut self) {
        // When it has ended before, nobody hears this.
        let _ = self.0.shutdown();
    }
}

fn choose_interfaces(daemon: &ServiceDaemon, bound: IpAddr) -> mdns_sd::Result<()> {
    let ip = bound.to_canonical();
    if ip.is_unspecified() {
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        // A socket on 0.0.0.0 hears no IPv6.
        return if ip.is_ipv4() { daemon.disable_interface(IfKind::IPv6) } else { Ok(()) };
    }
    daemon.disable_interface(IfKind::All)?;
    daemon.enable_interface(match ip {
        IpAddr::V4(ip) if ip.is_loopback() => IfKind::LoopbackV4,
        IpAddr::V6(ip) if ip.is_loopback() => IfKind::LoopbackV6,
        ip => IfKind::Addr(ip),
    })
}

/// What is announced: the addresses are those of the interfaces, unless the socket is bound to one.
fn service(record: &Record, bound: SocketAddr) -> mdns_sd::Result<ServiceInfo> {
    let name = instance_name(&record.node_id());
    let host = format!("{name}.local.");
    let txt = txt::split(record);
    let ip = bound.ip().to_canonical();
    let info = if ip.is_unspecified() {
        ServiceInfo::new(SERVICE, &name, &host, (), bound.port(), &txt[..])?.enable_addr_auto()
    } else {
        ServiceInfo::new(SERVICE, &name, &host, ip, bound.port(), &txt[..])?
    };
    Ok(without_probes(info))
}

/// Names that are made of a hash are known to be unique, and then RFC 6762, section 8.1, lets the announcement come at
/// once instead of after 0.75 s.
fn without_probes(mut info: ServiceInfo) -> ServiceInfo {
    info.set_requires_probe(false);
    info
}

fn instance_name(id: &NodeId) -> String {
    format!("kadnode-{}", hex::encode(&id.0[..NAMED_BY]))
}

/// Binds as the responder does, and lets go again.
fn bind_shared(ip: IpAddr) -> std::io::Result<()> {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let addr = SocketAddr::new(any, MDNS_PORT);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())
}

fn where_bound(ip: &IpAddr) -> String {
    if ip.is_unspecified() { "but loopback".to_owned() } else { format!("with the address {ip}") }
}

fn stopped(error: impl ToString) -> LanError {
    LanError::Stopped(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::{NodeKey, RecordContent};

    #[test]
    fn what_is_announced() {
        let key = NodeKey::from_bytes(&[7; 32]).unwrap();
        let record = Record::sign(&key, 1, &RecordContent::default()).unwrap();
        let id = key.id().to_string();
        let info = service(&record, "10.0.0.7:5000".parse().unwrap()).unwrap();
        assert_eq!(info.get_fullname(), format!("kadnode-{}._kadnode._udp.local.", &id[..16]));
        assert_eq!(info.get_hostname(), format!("kadnode-{}.local.", &id[..16]));
        assert_eq!((info.get_port(), info.is_addr_auto()), (5000, false));
        assert_eq!(info.get_addresses().iter().collect::<Vec<_>>(), [&IpAddr::from([10, 0, 0, 7])]);
        assert_eq!(info.get_property_val_str("enr"), Some(record.to_string().as_str()));
        // RFC 6763, section 7.2: at most fifteen characters.
        assert!(SERVICE.split('.').next().unwrap().len() <= 16);

        let info = service(&record, "0.0.0.0:5000".parse().unwrap()).unwrap();
        assert_eq!((info.get_addresses().len(), info.is_addr_auto()), (0, true));
    }

    #[test]
    fn obstacles_are_one_sentence() {
        let text = |ip: &str| LanError::NoInterface(ip.parse().unwrap()).to_string();
        assert_eq!(text("0.0.0.0"), "no network interface but loopback takes part in multicast");
        assert_eq!(text("10.0.0.7"), "no network interface with the address 10.0.0.7 takes part in multicast");
    }
}
