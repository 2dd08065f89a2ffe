//! The store of contacts: what lies behind the 32-bit handles by which tables and lookups name nodes.
//!
//! A contact is a public key at an address. It never changes: a node that moves gets a new handle. The daemon's engine
//! has a store of its own ([`OwnContacts`]); engines in a simulation can share one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::proto::identity::{Contact, Endpoint, NodeId, PublicKey};

/// The handle of a contact. It means something only together with the store that gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeRef(pub u32);

/// A store of contacts.
///
/// Handles stay valid until [`Contacts::sweep`] is called without naming them. The methods that take a handle panic when
/// it is not valid: that is a bug of the caller, which no bytes from the network can bring about.
pub trait Contacts {
    /// The handle for `contact`, new or old. The same key at the same IP address and UDP port is the same contact.
    /// `None` when the store is full.
    fn intern(&mut self, contact: &Contact) -> Option<NodeRef>;

    /// The handle of a known contact.
    fn find(&self, key: &PublicKey, addr: SocketAddr) -> Option<NodeRef>;

    /// The handles of all contacts at an address.
    fn at(&self, addr: SocketAddr) -> impl Iterator<Item = NodeRef>;

    /// The node's ID.
    fn id(&self, node: NodeRef) -> &NodeId;

    /// The node's public key.
    fn key(&self, node: NodeRef) -> &PublicKey;

    /// Where it is.
    fn endpoint(&self, node: NodeRef) -> Endpoint;

    /// Whether it is time to call [`Contacts::sweep`].
    fn wants_sweep(&self) -> bool {
        false
    }

    /// Forgets all contacts that are not in `live`, which is sorted.
    fn sweep(&mut self, live: &[NodeRef]) {
        let _ = live;
    }

    /// How many contacts it holds, and how many it ever does, when there is a bound.
    fn size(&self) -> Option<(usize, usize)> {
        None
    }

    /// Key and endpoint of a node.
    fn contact(&self, node: NodeRef) -> Contact {
        Contact { key: *self.key(node), endpoint: self.endpoint(node) }
    }
}

#[derive(Clone, Debug)]
struct Slot {
    id: NodeId,
    contact: Contact,
}

/// A store for one engine: bounded, and swept of what the engine no longer names.
#[derive(Clone, Debug)]
pub struct OwnContacts {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// By key and not by ID, which is a hash of it: every entry of a NEIGHBORS is looked up here.
    index: BTreeMap<(SocketAddr, PublicKey), NodeRef>,
    bound: usize,
    sweep_at: usize,
}

/// Contacts that [`OwnContacts`] holds by default, some 350 bytes each. An engine names at most its table (256 times
/// 26), its proofs (8,192), its requests (4,096), candidates and hints: at the bound strangers are not taken in.
pub const DEFAULT_CONTACTS: usize = 32_768;

/// Below this many contacts a sweep is not worth its while.
const FIRST_SWEEP: usize = 1024;

impl Default for OwnContacts {
    fn default() -> Self {
        Self::new(DEFAULT_CONTACTS)
    }
}

impl OwnContacts {
    /// An empty store for at most `bound` contacts.
    pub fn new(bound: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), index: BTreeMap::new(), bound, sweep_at: FIRST_SWEEP.min(bound) }
    }

    /// How many contacts it holds.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn slot(&self, node: NodeRef) -> &Slot {
        // See the trait: a handle that is not valid is a bug here, not bad input.
        self.slots[node.0 as usize].as_ref().expect("a handle is used after its contact was swept")
    }
}

impl Contacts for OwnContacts {
    fn intern(&mut self, contact: &Contact) -> Option<NodeRef> {
        let place = (contact.endpoint.udp_addr(), contact.key);
        if let Some(&node) = self.index.get(&place) {
            // The TCP port is news, not identity.
            if let Some(Some(slot)) = self.slots.get_mut(node.0 as usize)
                && contact.endpoint.tcp != 0
            {
                slot.contact.endpoint.tcp = contact.endpoint.tcp;
            }
            return Some(node);
        }
        if self.index.len() >= self.bound {
            return None;
        }
        let slot = Some(Slot { id: contact.id(), contact: *contact });
        let node = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                NodeRef(index)
            }
            None => {
                self.slots.push(slot);
                NodeRef(u32::try_from(self.slots.len() - 1).ok()?)
            }
        };
        self.index.insert(place, node);
        Some(node)
    }

    fn find(&self, key: &PublicKey, addr: SocketAddr) -> Option<NodeRef> {
        self.index.get(&(addr, *key)).copied()
    }

    fn at(&self, addr: SocketAddr) -> impl Iterator<Item = NodeRef> {
        self.index.range((addr, PublicKey([0; 64]))..=(addr, PublicKey([0xff; 64]))).map(|(_, node)| *node)
    }

    fn id(&self, node: NodeRef) -> &NodeId {
        &self.slot(node).id
    }

    fn key(&self, node: NodeRef) -> &PublicKey {
        &self.slot(node).contact.key
    }

    fn endpoint(&self, node: NodeRef) -> Endpoint {
        self.slot(node).contact.endpoint
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((self.index.len(), self.bound))
    }

    fn wants_sweep(&self) -> bool {
        self.index.len() >= self.sweep_at
    }

    fn sweep(&mut self, live: &[NodeRef]) {
        let mut live = live.iter().copied().peekable();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let node = NodeRef(index as u32);
            while live.next_if(|&l| l < node).is_some() {}
            if live.peek() != Some(&node)
                && let Some(dead) = slot.take()
            {
                self.index.remove(&(dead.contact.endpoint.udp_addr(), dead.contact.key));
                self.free.push(node.0);
            }
        }
        // Doubling keeps the cost of sweeping constant for each contact taken in.
        self.sweep_at = (self.index.len() * 2).clamp(FIRST_SWEEP.min(self.bound), self.bound);
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(n: u8, port: u16) -> Contact {
        Contact { key: PublicKey([n; 64]), endpoint: Endpoint::new([10, 0, 0, n].into(), port, 0) }
    }

    #[test]
    fn a_contact_is_a_key_at_an_address() {
        let mut store = OwnContacts::new(8);
        let a = store.intern(&contact(1, 1)).unwrap();
        let b = store.intern(&contact(1, 2)).unwrap();
        assert_ne!(a, b);
        assert_eq!(store.id(a), store.id(b));
        let mut with_tcp = contact(1, 1);
        with_tcp.endpoint.tcp = 9;
        assert_eq!(store.intern(&with_tcp), Some(a));
        assert_eq!(store.endpoint(a).tcp, 9);
        assert_eq!(store.find(&contact(1, 2).key, contact(1, 2).endpoint.udp_addr()), Some(b));
        assert_eq!(store.contact(a), with_tcp);
        let c = store.intern(&Contact { key: PublicKey([9; 64]), ..with_tcp }).unwrap();
        let at = |port| store.at(contact(1, port).endpoint.udp_addr()).collect::<Vec<_>>();
        assert_eq!((at(1), at(2), at(3)), (vec![a, c], vec![b], vec![]));
    }

    #[test]
    fn it_is_bounded_and_a_sweep_makes_room() {
        let mut store = OwnContacts::new(4);
        let nodes: Vec<NodeRef> = (1..=4).map(|n| store.intern(&contact(n, 1)).unwrap()).collect();
        assert!(store.wants_sweep());
        assert_eq!(store.intern(&contact(5, 1)), None);
        store.sweep(&[nodes[1], nodes[3]]);
        assert_eq!(store.len(), 2);
        assert_eq!(store.find(&contact(1, 1).key, contact(1, 1).endpoint.udp_addr()), None);
        assert_eq!(store.contact(nodes[3]), contact(4, 1));
        assert!(store.intern(&contact(5, 1)).is_some());
    }
}
