//! What a service that mDNS has found says of a node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use arrayvec::ArrayVec;
use mdns_sd::ResolvedService;
use thiserror::Error;

use super::txt::{self, TxtError};
use crate::proto::identity::{AddressClass, Endpoint, PublicKey, Record, plausible, reaches};

/// Addresses of one service that are tried, at most, beside the two that its record may have. More than four network
/// interfaces in one LAN are rare, and whoever invents addresses has us send no more packets than this.
const RESOLVED: usize = 4;

/// Longest name of a service that is kept, in bytes: a DNS name has 255, and four times as many where each is escaped.
const MAX_NAME_LEN: usize = 1020;

/// Stands for whoever it was on the link that announced something.
const SOMEBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 0, 1));

/// Where a node may be, in the order in which to try.
pub(crate) type Endpoints = ArrayVec<Endpoint, { RESOLVED + 2 }>;

/// The node that looks around.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local {
    /// Its key.
    pub(crate) key: PublicKey,
    /// What its socket is bound to.
    pub(crate) bound: SocketAddr,
    /// Whether it sends to ports up to 1024.
    pub(crate) allow_privileged_ports: bool,
}

/// A node that announces itself in the LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// The full name of its service.
    pub(crate) name: String,
    /// Its public key, from a record that it has signed.
    pub(crate) key: PublicKey,
    /// Where it may be: what mDNS says first, since a record can tell an address that only the internet sees; at least
    /// one.
    pub(crate) endpoints: Endpoints,
}

/// Why a service is no node to contact.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SightingError {
    /// No name of a service is that long.
    #[error("its name has {0} bytes, and {MAX_NAME_LEN} is the most")]
    Name(usize),
    /// It carries no valid record.
    #[error(transparent)]
    Txt(#[from] TxtError),
    /// What we announced ourselves.
    #[error("it is this node itself")]
    Itself,
    /// None of its addresses can be one that it has and that we can send to.
    #[error("no address of it can be sent to from here")]
    NoAddress,
}

/// Reads what a service says. Nothing of it is known to be true but that the node with that key has signed the record.
pub(crate) fn sighting(service: &ResolvedService, local: &Local) -> Result<Sighting, SightingError> {
    let name = service.get_fullname();
    if name.len() > MAX_NAME_LEN {
        return Err(SightingError::Name(name.len()));
    }
    let record = txt::join(|key| service.get_property_val(key).flatten())?;
    if *record.public_key() == local.key {
        return Err(SightingError::Itself);
    }
    let resolved = service.get_addresses().iter().map(|address| address.to_ip_addr());
    let endpoints = endpoints(&record, resolved, service.get_port(), local);
    if endpoints.is_empty() {
        return Err(SightingError::NoAddress);
    }
    Ok(Sighting { name: name.to_owned(), key: *record.public_key(), endpoints })
}

fn endpoints(record: &Record, resolved: impl Iterator<Item = IpAddr>, port: u16, local: &Local) -> Endpoints {
    let own = || [record.endpoint_v4(), record.endpoint_v6()].into_iter().flatten();
    let tcp = |ip| own().find(|own| own.ip == ip && own.udp == port).map_or(0, |own| own.tcp);
    let resolved = resolved.map(|ip| ip.to_canonical());
    let resolved = resolved.map(|ip| Endpoint::new(ip, port, tcp(ip))).filter(|endpoint| usable(endpoint, local));
    let mut resolved: Vec<Endpoint> = resolved.collect();
    // The LAN before the internet, and this host last.
    let order = |class| if class == AddressClass::Loopback { AddressClass::Special } else { class };
    resolved.sort_by_key(|endpoint| (order(AddressClass::of(endpoint.ip)), *endpoint));
    resolved.dedup();
    let mut endpoints: Endpoints = resolved.into_iter().take(RESOLVED).collect();
    for endpoint in own().filter(|endpoint| usable(endpoint, local)) {
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    endpoints
}

fn usable(endpoint: &Endpoint, local: &Local) -> bool {
    let bound = local.bound.ip().to_canonical();
    // Nobody on the LAN may send us to our loopback, unless there is nothing else that we hear.
    let teller = if bound.is_loopback() { bound } else { SOMEBODY };
    // They need the zone beside the address, which an endpoint has no place for.
    let zoned = matches!(endpoint.ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !zoned
        && endpoint.udp_addr() != local.bound
        && reaches(bound, endpoint.ip)
        && plausible(endpoint, teller, local.allow_privileged_ports).is_ok()
}

#[cfg(test)]
mod tests {
    use mdns_sd::{ServiceInfo, TxtProperty};

    use super::*;
    use crate::bootstrap::lan::SERVICE;
    use crate::proto::identity::{NodeKey, RecordContent, RecordError};

    fn key(byte: u8) -> NodeKey {
        NodeKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn local(bound: &str) -> Local {
        Local { key: *key(1).public_key(), bound: bound.parse().unwrap(), allow_privileged_ports: false }
    }

    fn record(byte: u8, content: &RecordContent) -> Record {
        Record::sign(&key(byte), 1, content).unwrap()
    }

    /// The record of a node that knows no address of its own, as most are at first.
    fn nowhere() -> Record {
        record(2, &RecordContent { ports: Some((5000, 0)), ..Default::default() })
    }

    fn service(ips: &str, port: u16, txt: Vec<TxtProperty>) -> ResolvedService {
        ServiceInfo::new(SERVICE, "kadnode-x", "kadnode-x.local.", ips, port, txt).unwrap().as_resolved_service()
    }

    fn announced(record: &Record) -> Vec<TxtProperty> {
        txt::split(record).into_iter().map(TxtProperty::from).collect()
    }

    fn seen(service: &ResolvedService, local: &Local) -> Vec<String> {
        sighting(service, local).unwrap().endpoints.iter().map(|endpoint| endpoint.udp_addr().to_string()).collect()
    }

    #[test]
    fn the_addresses_of_mdns_come_before_those_of_the_record() {
        let here = local("0.0.0.0:30303");
        let plain = service("192.168.1.7", 5000, announced(&nowhere()));
        let found = sighting(&plain, &here).unwrap();
        assert_eq!(found.name, "kadnode-x._kadnode._udp.local.");
        assert_eq!(found.key, *key(2).public_key());
        assert_eq!(seen(&plain, &here), ["192.168.1.7:5000"]);

        let public = record(2, &RecordContent { v4: Some(([8, 8, 8, 8].into(), 6000, 7)), ..Default::default() });
        let both = service("9.9.9.9,10.0.0.2,192.168.1.7", 5000, announced(&public));
        assert_eq!(seen(&both, &here), ["10.0.0.2:5000", "192.168.1.7:5000", "9.9.9.9:5000", "8.8.8.8:6000"]);

        let same = record(2, &RecordContent { v4: Some(([10, 0, 0, 2].into(), 5000, 7)), ..Default::default() });
        let found = sighting(&service("10.0.0.2", 5000, announced(&same)), &here).unwrap();
        assert_eq!(found.endpoints[..], [Endpoint::new([10, 0, 0, 2].into(), 5000, 7)], "the TCP port is the record's");
    }

    #[test]
    fn addresses_that_make_no_sense_are_left_out() {
        let here = local("0.0.0.0:30303");
        let some = |ips: &str, here: &Local| seen(&service(ips, 5000, announced(&nowhere())), here);
        let many = "127.0.0.1,224.0.0.1,0.0.0.0,255.255.255.255,fd00::1,10.0.0.1";
        assert_eq!(some(many, &here), ["10.0.0.1:5000"]);
        assert_eq!(some("fe80::1,fd00::1,10.0.0.1", &local("[::]:30303")), ["10.0.0.1:5000", "[fd00::1]:5000"]);
        assert_eq!(some("127.0.0.1", &local("127.0.0.1:30303")), ["127.0.0.1:5000"]);
        let lots = "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6";
        assert_eq!(some(lots, &here), ["10.0.0.1:5000", "10.0.0.2:5000", "10.0.0.3:5000", "10.0.0.4:5000"]);

        let refused = |ips: &str, port, here: &Local| sighting(&service(ips, port, announced(&nowhere())), here);
        assert_eq!(refused("127.0.0.1", 5000, &here), Err(SightingError::NoAddress));
        assert_eq!(refused("10.0.0.1", 0, &here), Err(SightingError::NoAddress));
        assert_eq!(refused("10.0.0.1", 53, &here), Err(SightingError::NoAddress));
        assert_eq!(refused("", 5000, &here), Err(SightingError::NoAddress));
        assert_eq!(refused("10.0.0.9", 30303, &local("10.0.0.9:30303")), Err(SightingError::NoAddress), "our socket");
        let privileged = Local { allow_privileged_ports: true, ..here };
        assert_eq!(some("10.0.0.1", &privileged), ["10.0.0.1:5000"]);
        assert!(refused("10.0.0.1", 53, &privileged).is_ok());

        let loopback = record(2, &RecordContent { v4: Some(([127, 0, 0, 1].into(), 6000, 0)), ..Default::default() });
        assert_eq!(seen(&service("10.0.0.1", 5000, announced(&loopback)), &here), ["10.0.0.1:5000"]);
    }

    #[test]
    fn hostile_services_are_refused() {
        let here = local("0.0.0.0:30303");
        let refuse = |txt: Vec<TxtProperty>| sighting(&service("10.0.0.1", 5000, txt), &here).unwrap_err();
        let txt = |text: &str| vec![TxtProperty::from(("enr", text.as_bytes()))];

        assert_eq!(refuse(vec![]), SightingError::Txt(TxtError::Missing));
        assert_eq!(refuse(vec!["enr".into()]), SightingError::Txt(TxtError::Missing), "a key without a value");
        assert_eq!(refuse(announced(&record(1, &RecordContent::default()))), SightingError::Itself);

        // Another's record with an address put into it.
        let content = RecordContent { v4: Some(([10, 0, 0, 7].into(), 5000, 0)), ..Default::default() };
        let mut raw = record(2, &content).as_bytes().to_vec();
        let at = raw.windows(4).position(|bytes| bytes == [10, 0, 0, 7]).unwrap();
        raw[at + 3] = 8;
        let forged = format!("enr:{}", base64_url(&raw));
        assert_eq!(refuse(txt(&forged)), SightingError::Txt(RecordError::Signature.into()));

        let long = format!("enr:{}", "A".repeat(240));
        assert!(matches!(refuse(txt(&long)), SightingError::Txt(TxtError::Record(_))));

        let named = "x".repeat(2000);
        let service = ServiceInfo::new(SERVICE, &named, "x.local.", "10.0.0.1", 5, announced(&nowhere())).unwrap();
        let refused = sighting(&service.as_resolved_service(), &here);
        assert_eq!(refused, Err(SightingError::Name(2000 + 1 + SERVICE.len())));
    }

    #[test]
    fn anothers_record_leads_to_a_node_with_its_key_only() {
        // Whoever copies it can have us send a PING somewhere, and only the node itself can answer that.
        let copied = service("10.0.0.66", 6666, announced(&nowhere()));
        let found = sighting(&copied, &local("0.0.0.0:30303")).unwrap();
        assert_eq!((found.key, found.endpoints.len()), (*key(2).public_key(), 1));
    }

    fn base64_url(raw: &[u8]) -> String {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(raw)
    }
}
