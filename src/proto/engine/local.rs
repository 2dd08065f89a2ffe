//! The local node: its key, its record, and the endpoint that it names in its PINGs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::proto::identity::{AddressClass, Endpoint, NodeId, NodeKey, PublicKey, Record, RecordContent, RecordError};
use crate::proto::wire::WireEndpoint;

/// What the driver knows of the local node.
#[derive(Clone, Debug)]
pub struct LocalNode {
    /// Who it is.
    pub key: LocalKey,
    /// What the record says. When it names an address, no vote changes it.
    pub content: RecordContent,
    /// The sequence number of the record.
    pub seq: u64,
    /// The address that the socket is bound to, with the true port.
    pub bound: SocketAddr,
    /// Addresses of this host on the local network, one for each family: what PING names as its origin while nothing
    /// better is known.
    pub host: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// The TCP port of whatever runs above discovery; 0 for nothing.
    pub tcp: u16,
}

/// The identity of the local node.
#[derive(Clone, Debug)]
pub enum LocalKey {
    /// A node that signs what it says.
    Private(Arc<NodeKey>),
    /// A node that speaks in messages only, which nobody seals: in a simulation. It has no record.
    Public(PublicKey, NodeId),
}

impl LocalKey {
    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        match self {
            LocalKey::Private(key) => key.public_key(),
            LocalKey::Public(key, _) => key,
        }
    }

    /// The node ID.
    pub fn id(&self) -> NodeId {
        match self {
            LocalKey::Private(key) => key.id(),
            LocalKey::Public(_, id) => *id,
        }
    }

    /// The private key, if there is one.
    pub fn private(&self) -> Option<&NodeKey> {
        match self {
            LocalKey::Private(key) => Some(key),
            LocalKey::Public(..) => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Local {
    pub(super) node: LocalNode,
    /// There is one exactly when there is a private key.
    pub(super) record: Option<Arc<Record>>,
    /// Votes may fill in an address of that family.
    voted: (bool, bool),
}

impl Local {
    pub(super) fn new(node: LocalNode) -> Result<Self, RecordError> {
        let record = match node.key.private() {
            Some(key) => Some(Arc::new(Record::sign(key, node.seq, &node.content)?)),
            None => None,
        };
        let voted = (node.content.v4.is_none(), node.content.v6.is_none());
        Ok(Self { node, record, voted })
    }

    /// Changes what the record says, at the driver's wish. An address that is news counts as configured.
    pub(super) fn configure(&mut self, content: RecordContent) -> Result<bool, RecordError> {
        let (old, new) = (&self.node.content, &content);
        let voted = (
            if new.v4 == old.v4 { self.voted.0 } else { new.v4.is_none() },
            if new.v6 == old.v6 { self.voted.1 } else { new.v6.is_none() },
        );
        let changed = self.set_content(content)?;
        self.voted = voted;
        Ok(changed)
    }

    /// Changes what the record says; the sequence number rises exactly when that makes a difference.
    fn set_content(&mut self, content: RecordContent) -> Result<bool, RecordError> {
        if content == self.node.content {
            return Ok(false);
        }
        let (Some(key), Some(last)) = (self.node.key.private(), &self.record) else {
            self.node.content = content;
            return Ok(false);
        };
        let seq = self.node.seq.saturating_add(1);
        let record = Record::sign(key, seq, &content)?;
        // Not all that the content says goes into the record: ports alone do not when there is an address.
        let changed = !record.same_content(last);
        self.node.content = content;
        if changed {
            self.node.seq = seq;
            self.record = Some(Arc::new(record));
        }
        Ok(changed)
    }

    /// Takes over an address that others agree on. A configured address stays.
    pub(super) fn set_voted(&mut self, seen: SocketAddr) -> bool {
        let mut content = self.node.content.clone();
        match seen.ip() {
            IpAddr::V4(ip) if self.voted.0 => content.v4 = Some((ip, seen.port(), self.node.tcp)),
            IpAddr::V6(ip) if self.voted.1 => content.v6 = Some((ip, seen.port(), self.node.tcp)),
            _ => return false,
        }
        self.set_content(content).unwrap_or(false)
    }

    /// The sequence number of the record.
    pub(super) fn seq(&self) -> Option<u64> {
        self.record.as_ref().map(|record| record.seq())
    }

    /// The endpoint that a PING to `to` names as its origin: where its receiver can reach us.
    pub(super) fn endpoint_for(&self, to: IpAddr) -> WireEndpoint {
        let recorded = if to.is_ipv4() {
            self.node.content.v4.map(|(ip, udp, tcp)| Endpoint { ip: ip.into(), udp, tcp })
        } else {
            self.node.content.v6.map(|(ip, udp, tcp)| Endpoint { ip: ip.into(), udp, tcp })
        };
        // A voted address is how the internet sees us; a neighbour on the LAN reaches us more directly.
        let voted = if to.is_ipv4() { self.voted.0 } else { self.voted.1 };
        let far = AddressClass::of(to) == AddressClass::Global;
        if let Some(endpoint) = recorded.filter(|_| far || !voted) {
            return endpoint.into();
        }
        let bound = self.node.bound.ip().to_canonical();
        let ip = if !bound.is_unspecified() && bound.is_ipv4() == to.is_ipv4() {
            bound
        } else if to.is_loopback() {
            if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
        } else if to.is_ipv4() {
            self.node.host.0.unwrap_or(Ipv4Addr::UNSPECIFIED).into()
        } else {
            self.node.host.1.unwrap_or(Ipv6Addr::UNSPECIFIED).into()
        };
        WireEndpoint { ip: Some(ip), udp: self.node.bound.port(), tcp: self.node.tcp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(bound: &str, content: RecordContent) -> Local {
        Local::new(LocalNode {
            key: LocalKey::Private(Arc::new(NodeKey::from_bytes(&[5; 32]).unwrap())),
            content,
            seq: 7,
            bound: bound.parse().unwrap(),
            host: (Some([192, 168, 1, 5].into()), None),
            tcp: 9,
        })
        .unwrap()
    }

    fn from(local: &Local, to: &str) -> (String, u16) {
        let endpoint = local.endpoint_for(to.parse().unwrap());
        (endpoint.ip.unwrap().to_string(), endpoint.udp)
    }

    #[test]
    fn the_origin_of_a_ping_is_where_its_receiver_can_reach_us() {
        let wildcard = local("0.0.0.0:5", RecordContent::default());
        assert_eq!(from(&wildcard, "127.0.0.1"), ("127.0.0.1".into(), 5));
        assert_eq!(from(&wildcard, "127.0.0.9"), ("127.0.0.1".into(), 5));
        assert_eq!(from(&wildcard, "8.8.8.8"), ("192.168.1.5".into(), 5));
        let bound = local("127.0.0.2:5", RecordContent::default());
        assert_eq!(from(&bound, "127.0.0.1"), ("127.0.0.2".into(), 5));
        let advertised = RecordContent { v4: Some(([1, 2, 3, 4].into(), 6, 7)), ..Default::default() };
        assert_eq!(from(&local("0.0.0.0:5", advertised), "127.0.0.1"), ("1.2.3.4".into(), 6));
    }

    #[test]
    fn the_sequence_rises_exactly_when_the_record_changes() {
        let content = RecordContent { v4: Some(([1, 2, 3, 4].into(), 6, 7)), ..Default::default() };
        let mut local = local("0.0.0.0:5", content.clone());
        // Ports without an address go into no record that has one.
        assert!(!local.configure(RecordContent { ports: Some((9, 9)), ..content.clone() }).unwrap());
        assert_eq!(local.seq().unwrap(), 7);
        assert!(local.configure(RecordContent { v4: Some(([1, 2, 3, 4].into(), 6, 8)), ..content }).unwrap());
        assert_eq!(local.seq().unwrap(), 8);
    }

    #[test]
    fn votes_fill_in_what_is_not_configured_and_nothing_else() {
        let mut open = local("0.0.0.0:5", RecordContent::default());
        assert!(open.set_voted("9.9.9.9:55".parse().unwrap()));
        assert_eq!(
            (open.seq().unwrap(), open.record.as_ref().unwrap().endpoint().unwrap().to_string()),
            (8, "9.9.9.9:55".into())
        );
        assert!(!open.set_voted("9.9.9.9:55".parse().unwrap()), "nothing changed");
        assert_eq!(open.seq().unwrap(), 8);
        assert!(open.set_voted("9.9.9.8:55".parse().unwrap()));
        assert_eq!(from(&open, "8.8.8.8"), ("9.9.9.8".into(), 55));
        assert_eq!(from(&open, "10.0.0.1"), ("192.168.1.5".into(), 5));

        let content = RecordContent { v4: Some(([1, 2, 3, 4].into(), 6, 7)), ..Default::default() };
        let mut configured = local("0.0.0.0:5", content);
        assert!(!configured.set_voted("9.9.9.9:55".parse().unwrap()));
        assert_eq!(configured.seq().unwrap(), 7);
    }
}
