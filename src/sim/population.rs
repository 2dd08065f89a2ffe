//! Who takes part: keys, IDs and addresses of all nodes, shared by all engines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::{Contact, Endpoint, NodeId, NodeKey, PublicKey};

/// The UDP port of every simulated node. Behind a symmetric address translator others see one of the next 255 instead.
pub const PORT: u16 = 30303;

/// The most nodes that have an address of their own in 10.0.0.0/8.
pub const MAX_NODES: usize = 1 << 24;

/// Everybody who is there or ever will be. Node `i` lives at the `i`-th address of 10.0.0.0/8.
#[derive(Debug)]
pub struct Population {
    keys: Vec<PublicKey>,
    ids: Vec<NodeId>,
    /// Kept only where packets are signed.
    private: Vec<Arc<NodeKey>>,
}

/// The population as an engine's store of contacts: read-only, and the same for all.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Population>);

impl Population {
    /// `count` nodes whose keys follow from the seed; `sign` keeps their private keys. Spread over `threads`.
    pub fn new(count: usize, seed: u64, sign: bool, threads: usize) -> Self {
        let share = count.div_ceil(threads.max(1)).max(1);
        let starts: Vec<usize> = (0..count).step_by(share).collect();
        let parts: Vec<Vec<NodeKey>> = std::thread::scope(|scope| {
            let handles: Vec<_> = starts
                .iter()
                .map(|&start| {
                    let end = (start + share).min(count);
                    scope.spawn(move || (start..end).map(|node| node_key(seed, node)).collect::<Vec<_>>())
                })
                .collect();
            // A panic in a worker is a panic here.
            handles.into_iter().map(|handle| handle.join().expect("key generation does not panic")).collect()
        });
        let mut population = Self { keys: Vec::with_capacity(count), ids: Vec::with_capacity(count), private: vec![] };
        for key in parts.into_iter().flatten() {
            population.keys.push(*key.public_key());
            population.ids.push(key.id());
            if sign {
                population.private.push(Arc::new(key));
            }
        }
        population
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The ID of a node.
    pub fn id(&self, node: usize) -> &NodeId {
        &self.ids[node]
    }

    /// Gives a node an ID that its key does not have: what a Sybil takes long to search for.
    #[cfg(test)]
    pub(super) fn craft(&mut self, node: usize, id: NodeId) {
        self.ids[node] = id;
    }

    /// The public key of a node.
    pub fn key(&self, node: usize) -> &PublicKey {
        &self.keys[node]
    }

    /// The private key of a node, where packets are signed.
    pub fn private(&self, node: usize) -> Option<&Arc<NodeKey>> {
        self.private.get(node)
    }

    /// Where a node lives.
    pub fn addr(&self, node: usize) -> SocketAddr {
        addr_of(handle(node, 0))
    }

    /// Key and address of a node.
    pub fn contact(&self, node: usize) -> Contact {
        Contact { key: self.keys[node], endpoint: endpoint(handle(node, 0)) }
    }
}

impl Shared {
    /// The store of an engine.
    pub fn new(population: Arc<Population>) -> Self {
        Self(population)
    }
}

impl Contacts for Shared {
    fn intern(&mut self, contact: &Contact) -> Option<NodeRef> {
        self.node_at(contact.endpoint.udp_addr()).filter(|&node| *self.key(node) == contact.key)
    }

    fn find(&self, key: &PublicKey, addr: SocketAddr) -> Option<NodeRef> {
        self.node_at(addr).filter(|&node| self.key(node) == key)
    }

    fn at(&self, addr: SocketAddr) -> impl Iterator<Item = NodeRef> {
        self.node_at(addr).into_iter()
    }

    fn id(&self, node: NodeRef) -> &NodeId {
        &self.0.ids[number(node)]
    }

    fn key(&self, node: NodeRef) -> &PublicKey {
        &self.0.keys[number(node)]
    }

    fn endpoint(&self, node: NodeRef) -> Endpoint {
        endpoint(node)
    }
}

impl Shared {
    fn node_at(&self, addr: SocketAddr) -> Option<NodeRef> {
        handle_of(addr).filter(|&node| number(node) < self.0.len())
    }
}

/// The node that lives at an address, whichever of its ports that names.
pub(super) fn node_of(addr: SocketAddr) -> Option<usize> {
    handle_of(addr).map(number)
}

/// The handle of an address: 24 bits of node number, and above them 8 bits of port, 0 for [`PORT`] itself.
pub(super) fn handle_of(addr: SocketAddr) -> Option<NodeRef> {
    let port = u8::try_from(addr.port().checked_sub(PORT)?).ok()?;
    match addr.ip() {
        IpAddr::V4(ip) if ip.octets()[0] == 10 => Some(handle((u32::from(ip) & NUMBER) as usize, port)),
        _ => None,
    }
}

/// The handle of a node at a port, 0 for [`PORT`] itself.
pub(super) fn handle(node: usize, port: u8) -> NodeRef {
    // There are at most 2^24 nodes.
    NodeRef(node as u32 | u32::from(port) << 24)
}

/// The number of the node that a handle names.
pub(super) fn number(handle: NodeRef) -> usize {
    (handle.0 & NUMBER) as usize
}

/// The port that a handle names, 0 for [`PORT`] itself.
pub(super) fn port(handle: NodeRef) -> u8 {
    (handle.0 >> 24) as u8
}

/// The address that a handle names.
pub(super) fn addr_of(handle: NodeRef) -> SocketAddr {
    endpoint(handle).udp_addr()
}

/// The bits of a handle, and of an address, that are the number of the node.
const NUMBER: u32 = 0xff_ffff;

fn endpoint(handle: NodeRef) -> Endpoint {
    let ip = Ipv4Addr::from(0x0a00_0000 | handle.0 & NUMBER);
    Endpoint { ip: ip.into(), udp: PORT + u16::from(port(handle)), tcp: 0 }
}

/// The key of node `node`: a hash of seed and number.
fn node_key(seed: u64, node: usize) -> NodeKey {
    let mut bytes = *b"kadnode simulated key: seed, number, round......................";
    for round in 0u64.. {
        bytes[40..48].copy_from_slice(&seed.to_be_bytes());
        bytes[48..56].copy_from_slice(&(node as u64).to_be_bytes());
        bytes[56..64].copy_from_slice(&round.to_be_bytes());
        // One hash in 2^128 is no key.
        if let Ok(key) = NodeKey::from_bytes(&crate::proto::crypto::keccak256(&bytes)) {
            return key;
        }
    }
    unreachable!("2^64 hashes in a row are no keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_do_not_change_who_is_there() {
        let one = Population::new(7, 1, true, 1);
        let three = Population::new(7, 1, false, 3);
        assert_eq!((one.keys, one.ids), (three.keys, three.ids));
        assert_eq!((one.private.len(), three.private.len()), (7, 0));
        assert_ne!(Population::new(1, 2, false, 1).ids, Population::new(1, 1, false, 1).ids);
    }

    #[test]
    fn a_contact_is_found_by_its_address_and_nobody_elses() {
        let population = Arc::new(Population::new(300, 1, false, 1));
        let mut store = Shared::new(population.clone());
        let contact = population.contact(257);
        assert_eq!(contact.endpoint.to_string(), "10.0.1.1:30303");
        assert_eq!(store.intern(&contact), Some(NodeRef(257)));
        assert_eq!(store.contact(NodeRef(257)), contact);
        assert_eq!(store.find(population.key(257), population.addr(257)), Some(NodeRef(257)));
        assert_eq!(store.find(population.key(256), population.addr(257)), None);
        let liar = Contact { key: *population.key(1), ..contact };
        assert_eq!(store.intern(&liar), None);
        let nowhere = Contact { endpoint: Endpoint::new([10, 0, 1, 44].into(), PORT, 0), ..contact };
        assert_eq!(store.intern(&nowhere), None);
    }

    #[test]
    fn every_port_of_a_node_is_another_contact() {
        let population = Arc::new(Population::new(3, 1, false, 1));
        let mut store = Shared::new(population.clone());
        let mut contact = population.contact(2);
        contact.endpoint.udp = PORT + 255;
        let there = store.intern(&contact).unwrap();
        assert_eq!((number(there), port(there)), (2, 255));
        assert_eq!((store.contact(there), store.id(there)), (contact, population.id(2)));
        assert_eq!(addr_of(there).to_string(), "10.0.0.2:30558");
        assert_eq!(store.find(population.key(2), addr_of(there)), Some(there));
        assert_eq!(node_of(addr_of(there)), Some(2));
        for nowhere in ["10.0.0.2:30559", "10.0.0.2:30302", "11.0.0.2:30303", "[::a00:2]:30303"] {
            assert_eq!(handle_of(nowhere.parse().unwrap()), None, "{nowhere}");
        }
    }
}
