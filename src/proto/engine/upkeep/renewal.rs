//! All proofs anew, after a sleep, or when the local node has another address; and members that have another one.
//!
//! While the machine slept the driver's time stood still, and whoever has moved is a stranger where it is now: what
//! either side has proved to the other may be over, and nobody says so. Waiting for the next check would take hours.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{CHECKS_AT_ONCE, Upkeep};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::engine::Engine;
use crate::proto::engine::bond::Why;
use crate::proto::time::Time;

/// Members that may have moved: those beyond take the places of the first, and are found out by the usual checks.
pub(in crate::proto::engine) const MAX_MOVING: usize = 64;

impl Upkeep {
    /// A node has answered where it is.
    pub(in crate::proto::engine) fn stays(&mut self, node: NodeRef) {
        self.moving.retain(|(old, _)| *old != node);
    }
}

impl<C: Contacts> Engine<C> {
    /// A member has proved itself at another endpoint. It may have two, or have moved: whether it still answers at the one
    /// that we have tells.
    pub(in crate::proto::engine) fn on_seen_elsewhere(&mut self, now: Time, node: NodeRef) {
        let Some(member) = self.table.find(self.contacts.id(node), &self.contacts).map(|entry| entry.node) else {
            return;
        };
        self.upkeep.moving.retain(|moving| *moving != (member, node));
        if self.upkeep.moving.len() >= MAX_MOVING {
            self.upkeep.moving.remove(0);
        }
        self.upkeep.moving.push((member, node));
        self.ping(now, member, Why::OwnAccord);
    }

    /// A node has not answered where it was. If it has been seen elsewhere it is looked for there.
    pub(in crate::proto::engine) fn follow_to_new_endpoint(&mut self, now: Time, node: NodeRef) {
        let moved: Vec<NodeRef> =
            self.upkeep.moving.extract_if(.., |(old, _)| *old == node).map(|(_, new)| new).collect();
        for new in moved {
            self.ping(now, new, Why::OwnAccord);
        }
    }

    /// Asks all members at once whether they are there, a few at a time, and takes it that nobody has a proof of us any
    /// more. Configured contacts that were silent are tried, and what others have said of our address is forgotten.
    pub fn renew(&mut self, now: Time) {
        self.votes.forget();
        self.table.forget_endorsements();
        self.proofs.forget_endorsements();
        self.upkeep.renewals = self.table.entries().map(|(_, entry)| entry.node).collect();
        let shortest = self.config.refresh.retry_min;
        self.upkeep.bootnodes.iter_mut().for_each(|bootnode| bootnode.hurry(now, shortest));
        if !self.upkeep.renewals.is_empty() {
            self.set_checks(Some(now + Duration::from_millis(1)));
            self.refresh_soon(now);
        }
        self.on_bootnodes_due(now);
        self.settle(now);
    }

    /// Notes the addresses of this host on the local network, as [`LocalNode::host`](crate::proto::engine::LocalNode::host)
    /// has them. If they have changed, [`Engine::renew`] should follow.
    pub fn set_host(&mut self, host: (Option<Ipv4Addr>, Option<Ipv6Addr>)) {
        self.local.node.host = host;
    }

    /// Pings some of those that are to be asked anew; says how many.
    pub(super) fn ping_renewals(&mut self, now: Time) -> usize {
        let (mut started, mut refused) = (0, Vec::new());
        while started < CHECKS_AT_ONCE
            && let Some(node) = self.upkeep.renewals.pop()
        {
            if self.table.get(node, &self.contacts).is_none() {
                continue;
            }
            if self.ping(now, node, Why::OwnAccord) {
                started += 1;
            } else {
                // Too much is under way, to its address or at all: it comes with the next ones.
                refused.push(node);
            }
        }
        self.upkeep.renewals.append(&mut refused);
        started
    }
}
