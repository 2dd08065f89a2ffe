//! Errands: requests to a node that must have a proof of us first.
//!
//! A FINDNODE or ENRREQUEST is answered only by a node that has pinged us and got its PONG. When we cannot count on that,
//! an errand pings the node, waits for its PING (which clients send at once when they do not know us), and then makes its
//! request. A NEIGHBORS does not say which FINDNODE it answers, so a node is sent one at a time. No step waits for a fixed time: the wait for the PING is over when it comes, or after about two round trips,
//! since a node that remembers us does not ping.

use std::collections::BTreeMap;

use super::output::{CommandId, RequestId};
use crate::proto::contacts::NodeRef;
use crate::proto::time::Time;

/// Names an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ErrandId(pub(super) u64);

/// Names a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LookupId(pub(super) u64);

/// What an errand is to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Nodes for a lookup.
    Nodes(LookupId),
    /// The node's record, for a command or because it has a newer one.
    Record(Option<CommandId>),
}

/// How far an errand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The node is left in peace until then.
    Quiet(Time),
    /// It has been pinged.
    Pinged,
    /// It has answered; its own PING is awaited until then.
    AwaitsPing(Time),
    /// A FINDNODE of another errand to the node is under way.
    Turn,
    /// The request is under way.
    Requested(RequestId),
}

#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) node: NodeRef,
    pub(super) goal: Goal,
    pub(super) stage: Stage,
    /// A request has failed. It is made once more after bonding anew, and when that fails too, that is all.
    pub(super) failed: bool,
}

/// All errands, by number and by node.
#[derive(Clone, Debug, Default)]
pub(super) struct Errands {
    all: BTreeMap<ErrandId, Errand>,
    by_node: BTreeMap<(NodeRef, ErrandId), ()>,
    serial: u64,
}

impl Errands {
    pub(super) fn insert(&mut self, errand: Errand) -> ErrandId {
        self.serial += 1;
        let id = ErrandId(self.serial);
        self.by_node.insert((errand.node, id), ());
        self.all.insert(id, errand);
        id
    }

    pub(super) fn get_mut(&mut self, id: ErrandId) -> Option<&mut Errand> {
        self.all.get_mut(&id)
    }

    pub(super) fn get(&self, id: ErrandId) -> Option<&Errand> {
        self.all.get(&id)
    }

    pub(super) fn remove(&mut self, id: ErrandId) -> Option<Errand> {
        let errand = self.all.remove(&id)?;
        self.by_node.remove(&(errand.node, id));
        Some(errand)
    }

    /// The errands to a node, oldest first.
    pub(super) fn to(&self, node: NodeRef) -> impl Iterator<Item = (ErrandId, &Errand)> {
        self.by_node
            .range((node, ErrandId(0))..=(node, ErrandId(u64::MAX)))
            .filter_map(|(&(_, id), ())| Some((id, self.all.get(&id)?)))
    }

    pub(super) fn of_lookup(&self, lookup: LookupId) -> Vec<ErrandId> {
        self.all.iter().filter(|(_, errand)| errand.goal == Goal::Nodes(lookup)).map(|(id, _)| *id).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ErrandId, &Errand)> {
        self.all.iter().map(|(id, errand)| (*id, errand))
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeRef> {
        self.all.values().map(|errand| errand.node)
    }
}
