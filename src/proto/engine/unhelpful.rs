//! Members that answer PINGs and no FINDNODE: they are of no use to anybody, and lose their place.
//!
//! A FINDNODE has failed when it is not answered after the node has bonded anew. A lookup often ends sooner than that, and
//! would leave nothing to count where a liar is the first to be asked each time. So a FINDNODE to a member that is late
//! when its lookup ends outlives it: nothing more is sent, but the answer is still awaited.
//!
//! Who lost its place like that gets none again by PONGs alone, while its proof is remembered and its bucket at least half
//! full. Lookups go on asking it when they hear of it, and an answer makes it welcome again.

use super::errands::ErrandId;
use super::proofs::Known;
use super::requests::Asked;
use super::{Engine, Removal, RequestId};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::table::Verdict;
use crate::proto::time::{Secs, Time};

impl<C: Contacts> Engine<C> {
    /// Whether a FINDNODE goes on though the errand that it was for is dropped.
    pub(super) fn outlives(&self, node: NodeRef, id: RequestId) -> bool {
        let late = self.requests.get(id).is_some_and(|request| {
            request.late_at == Time::NEVER && matches!(request.asked, Asked::FindNode { begun: false, .. })
        });
        late && self.table.get(node, &self.contacts).is_some()
    }

    /// Drops the FINDNODE to a node that has outlived its lookup: the answer to another one would be taken for its own.
    pub(super) fn drop_outlived(&mut self, node: NodeRef) {
        let addr = self.contacts.endpoint(node).udp_addr();
        let outlived = self.requests.at(addr).find(|(_, request)| match request.asked {
            Asked::FindNode { errand, .. } => request.node == node && !self.is_wanted_by(errand),
            _ => false,
        });
        if let Some((id, _)) = outlived {
            self.take_request(id);
        }
    }

    fn is_wanted_by(&self, errand: ErrandId) -> bool {
        self.errands.get(errand).is_some()
    }

    /// A FINDNODE that outlived its lookup has been answered, or has not.
    pub(super) fn on_find_outlived(&mut self, now: Time, node: NodeRef, answered: bool) {
        if answered {
            self.on_find_answered(node);
            return;
        }
        // It may have forgotten us: the next to ask it bonds first.
        self.table.forget_endorsement(node, &self.contacts);
        self.on_find_failed(now, node);
    }

    /// A node has answered a FINDNODE.
    pub(super) fn on_find_answered(&mut self, node: NodeRef) {
        self.table.answer_find(node, &self.contacts);
        let known = self.proofs.get(node);
        if known.unhelpful {
            self.proofs.put(node, Known { unhelpful: false, ..known }, self.config.max_proofs);
        }
    }

    /// A node has left a FINDNODE unanswered, and has bonded with us before.
    pub(super) fn on_find_failed(&mut self, now: Time, node: NodeRef) {
        let known = self.known(node);
        if let Verdict::Removed(promoted) = self.table.fail_find(node, &self.contacts, &self.config.table) {
            self.forget_member(node, Removal::Unhelpful);
            let known = Known { endorsed: Secs::NEVER, unhelpful: true, ..known };
            self.proofs.put(node, known, self.config.max_proofs);
            self.on_place_free(now, promoted);
        }
    }

    /// Whether a node gets no place since it has lost one and others are there.
    pub(super) fn is_shut_out(&self, node: NodeRef) -> bool {
        self.proofs.get(node).unhelpful && self.table.can_spare(self.contacts.id(node), &self.config.table)
    }

    /// A member has gone; a replacement may have its place.
    pub(super) fn on_place_free(&mut self, now: Time, promoted: Option<NodeRef>) {
        if let Some(promoted) = promoted {
            self.proofs.remove(promoted);
            self.upkeep.gain();
            self.on_member(now, promoted);
            self.arm_checks(now, promoted);
        }
        self.on_member_lost(now, promoted.is_some());
    }
}
