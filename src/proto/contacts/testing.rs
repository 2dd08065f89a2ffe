//! A store for tests, whose IDs can be chosen: real ones are hashes, and would have to be searched for.

use std::net::{IpAddr, SocketAddr};

use super::{Contacts, NodeRef};
use crate::proto::identity::{Contact, Endpoint, NodeId, PublicKey};
use crate::proto::random::mix;

#[derive(Clone, Debug)]
pub(crate) struct ChosenIds {
    nodes: Vec<(NodeId, Endpoint)>,
    key: PublicKey,
}

impl ChosenIds {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), key: PublicKey([7; 64]) }
    }

    /// A new contact, even if there is an equal one.
    pub(crate) fn put(&mut self, id: NodeId, ip: IpAddr, port: u16) -> NodeRef {
        self.nodes.push((id, Endpoint::new(ip, port, port)));
        NodeRef(u32::try_from(self.nodes.len() - 1).unwrap())
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Contacts for ChosenIds {
    /// Impossible: the ID of a contact follows from its key.
    fn intern(&mut self, _: &Contact) -> Option<NodeRef> {
        None
    }

    /// The same: all have one key.
    fn find(&self, _: &PublicKey, _: SocketAddr) -> Option<NodeRef> {
        None
    }

    fn at(&self, _: SocketAddr) -> impl Iterator<Item = NodeRef> {
        std::iter::empty()
    }

    fn id(&self, node: NodeRef) -> &NodeId {
        &self.nodes[node.0 as usize].0
    }

    /// The same for all: no test here needs a key.
    fn key(&self, _: NodeRef) -> &PublicKey {
        &self.key
    }

    fn endpoint(&self, node: NodeRef) -> Endpoint {
        self.nodes[node.0 as usize].1
    }
}

/// The ID in the bucket of log distance `log` as seen from `local`, in the sixteenth `subrange` of it. The low 32 bits of
/// the distance are `tail`, and the 28 bits after the sixteenth follow from it, where the bucket is large enough.
pub(crate) fn id_at(local: &NodeId, log: u16, subrange: u8, tail: u32) -> NodeId {
    let mut id = local.0;
    let mut flip = |bit: u16| id[31 - usize::from(bit / 8)] ^= 1 << (bit % 8);
    flip(log - 1);
    for step in (1..=4).filter(|step| log > *step) {
        if subrange >> (4 - step) & 1 == 1 {
            flip(log - 1 - step);
        }
    }
    if log > 36 {
        (0..32).filter(|bit| tail >> bit & 1 == 1).for_each(&mut flip);
    }
    if log > 36 + 28 {
        let spread = mix(0, u64::from(tail));
        (0..28).filter(|bit| spread >> bit & 1 == 1).for_each(|bit| flip(log - 33 + bit));
    }
    NodeId(id)
}
