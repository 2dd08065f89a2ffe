//! What is done about an answer that is late: the request is sent once more, a node that may have forgotten us is bonded
//! anew, and one that stays silent is passed over.

use std::net::SocketAddr;
use std::time::Duration;

use super::bond::Why;
use super::errands::{Errand, ErrandId, Goal, Stage, Wake};
use super::requests::{Asked, Request};
use super::{Engine, RequestId, Timer};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::time::Time;
use crate::proto::wire::{EnrRequest, FindNode, Message};

/// A lookup passes over a node that leaves a PING unanswered for this many times as long as it takes to be late: by then
/// the answer to the PING's repetition is late as well. A FINDNODE has been out for three times as long then.
const SILENT_AFTER: u32 = 2;

/// But not before this: a shorter pause in the traffic is no sign of death.
const SILENT_AT_LEAST: Duration = Duration::from_millis(300);

impl<C: Contacts> Engine<C> {
    pub(super) fn on_late(&mut self, now: Time, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.late_at = Time::NEVER;
        let (node, addr, late, asked) = (request.node, request.addr, request.late, request.asked);
        if asked.errand().is_some_and(|errand| self.errands.get(errand).is_none()) {
            return;
        }
        let lookups: Vec<_> = self.errands.to(node).map(|(_, errand)| errand.goal).collect();
        for goal in lookups {
            if let Goal::Nodes(lookup) = goal {
                self.on_query_late(lookup, node);
            }
        }
        // A stranger that has just pinged from there gets one PING and its answers, and nothing else.
        if self.is_quiet(now, addr) {
            return;
        }
        self.ask_again(now, id);
        let is_ping = |request: &&Request| matches!(request.asked, Asked::Ping { .. });
        if self.requests.get(id).filter(is_ping).is_some() || self.is_ping_late(node, addr) {
            let silent_at = now + (SILENT_AFTER * late).max(SILENT_AT_LEAST).saturating_sub(late);
            for errand in self.waiting_for_ping(node) {
                self.set_wake(errand, silent_at, Wake::PassOver);
            }
        }
    }

    /// Sends a request of a lookup or a command once more, the very same, when its answer is late: a packet may have been
    /// lost, and right after the bond a FINDNODE can be at the node before the PONG that entitles us to it, and is dropped
    /// then.
    ///
    /// A second NEIGHBORS is no harm: what comes after the answer is complete is dropped.
    fn ask_again(&mut self, now: Time, id: RequestId) {
        let Some(request) = self.requests.get(id) else { return };
        let (addr, node, expiration) = (request.addr, request.node, request.expiration);
        match request.asked {
            Asked::FindNode { errand, begun: false, .. } => {
                self.send_find_again(id);
                // It may have forgotten us: then it pings us when it is pinged.
                if self.errands.get(errand).is_some_and(|errand| !errand.failed && !errand.anew) {
                    self.ping(now, node, Why::OwnAccord);
                }
            }
            Asked::Record { errand }
                if matches!(self.errands.get(errand).map(|errand| errand.goal), Some(Goal::Record(Some(_)))) =>
            {
                self.transmit(addr, Message::EnrRequest(EnrRequest { expiration }), Some(id));
                self.note_repeated(id);
            }
            Asked::Ping { own_accord: true, .. } if self.is_ping_awaited(node) => {
                let ping = self.ping_message(node, expiration);
                self.transmit(addr, ping, Some(id));
                self.note_repeated(id);
            }
            _ => {}
        }
    }

    fn send_find_again(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else { return };
        let (addr, expiration) = (request.addr, request.expiration);
        if let Asked::FindNode { errand, .. } = request.asked
            && let Some(Goal::Nodes(lookup)) = self.errands.get(errand).map(|errand| errand.goal)
            && let Some(target) = self.lookups.get(&lookup).map(|task| task.target)
        {
            self.transmit(addr, Message::FindNode(FindNode { target, expiration }), None);
            self.note_repeated(id);
        }
    }

    fn note_repeated(&mut self, id: RequestId) {
        if let Some(request) = self.requests.get_mut(id) {
            request.repeated = true;
        }
    }

    /// Whether the answer to the PING under way to a node is late.
    fn is_ping_late(&self, node: NodeRef, addr: SocketAddr) -> bool {
        let ping = self.requests.ping_to(node, addr).and_then(|id| self.requests.get(id));
        ping.is_some_and(|ping| ping.late_at == Time::NEVER)
    }

    /// Whether an errand goes on when a node answers a PING.
    fn is_ping_awaited(&self, node: NodeRef) -> bool {
        self.find_to_repeat(node).is_some() || self.errands.to(node).any(|(_, errand)| errand.stage == Stage::Pinged)
    }

    /// The errands of lookups to a node that is silent if it does not answer a PING. One that has just bonded is not.
    fn waiting_for_ping(&self, node: NodeRef) -> Vec<ErrandId> {
        let late = self.find_to_repeat(node).map(|(errand, _)| errand);
        let late = late.filter(|errand| self.errands.get(*errand).is_some_and(|errand| errand.proved == Time::ZERO));
        let pinged =
            |(_, errand): &(ErrandId, &Errand)| errand.stage == Stage::Pinged && matches!(errand.goal, Goal::Nodes(_));
        self.errands.to(node).filter(pinged).map(|(id, _)| id).chain(late).collect()
    }

    /// The FINDNODE that is under way to a node, late and not answered, if it may be made once more.
    fn find_to_repeat(&self, node: NodeRef) -> Option<(ErrandId, RequestId)> {
        self.errands.to(node).find_map(|(id, errand)| {
            let Stage::Requested(request) = errand.stage else { return None };
            let late = self.is_unanswered(request) && self.requests.get(request)?.repeated;
            (late && !errand.failed && !errand.anew).then_some((id, request))
        })
    }

    fn is_unanswered(&self, id: RequestId) -> bool {
        self.requests.get(id).is_some_and(|request| matches!(request.asked, Asked::FindNode { begun: false, .. }))
    }

    /// A node has a new proof of us. A FINDNODE to it that is late is sent once more, `at` a time behind the PONG, instead of
    /// after the timeout.
    pub(super) fn ask_anew(&mut self, now: Time, node: NodeRef, at: Time) {
        let Some((id, request)) = self.find_to_repeat(node) else { return };
        self.on_node_alive(node);
        let planned = self.errands.get(id).and_then(|errand| errand.wake);
        if matches!(planned, Some((planned, Wake::AskAnew)) if planned <= at) {
            return;
        }
        self.expire_at(request, at.max(now) + self.config.requests.timeout);
        self.set_wake(id, at, Wake::AskAnew);
        if at <= now {
            self.on_wake(now, id);
        }
    }

    /// A node has answered a PING: the lookups that wait for it wait longer.
    pub(super) fn on_node_alive(&mut self, node: NodeRef) {
        let errands: Vec<_> = self.errands.to(node).map(|(id, errand)| (id, errand.goal, errand.wake)).collect();
        for (id, goal, wake) in errands {
            if let Some((_, Wake::PassOver)) = wake {
                self.cancel_wake(id);
            }
            if let Goal::Nodes(lookup) = goal
                && let Some(task) = self.lookups.get_mut(&lookup)
            {
                task.on_sign_of_life(node);
            }
        }
    }

    /// An errand has waited long enough.
    pub(super) fn on_wake(&mut self, now: Time, id: ErrandId) {
        let Some((_, wake)) = self.cancel_wake(id) else { return };
        let Some(errand) = self.errands.get_mut(id) else { return };
        let (node, goal) = (errand.node, errand.goal);
        match (wake, errand.stage, goal) {
            (Wake::PassOver, Stage::Pinged, Goal::Nodes(lookup)) => self.on_query_silent(lookup, node),
            (Wake::PassOver, Stage::Requested(request), Goal::Nodes(lookup)) if self.is_unanswered(request) => {
                self.on_query_silent(lookup, node);
            }
            (Wake::AskAnew, Stage::Requested(request), _) if self.is_unanswered(request) => {
                let addr = self.contacts.endpoint(node).udp_addr();
                if self.is_quiet(now, addr) {
                    return;
                }
                if let Some(errand) = self.errands.get_mut(id) {
                    errand.anew = true;
                }
                self.send_find_again(request);
                let Some(late) = self.requests.get(request).map(|request| self.lateness(node, request.asked)) else {
                    return;
                };
                self.late_at(request, now, late);
            }
            _ => {}
        }
    }

    fn late_at(&mut self, id: RequestId, now: Time, late: Duration) {
        if let Some(request) = self.requests.get_mut(id) {
            self.timers.cancel(request.late_at, Timer::Late(id));
            (request.late, request.late_at) = (late, now + late);
            self.timers.set(request.late_at, Timer::Late(id));
        }
    }

    /// After how long an answer is late: two round trips of the node, or what most strangers do not need.
    pub(super) fn lateness(&self, node: NodeRef, asked: Asked) -> Duration {
        let own = asked.errand().and_then(|errand| self.errands.get(errand)?.rtt);
        let late = match self.table.get(node, &self.contacts) {
            Some(entry) => 2 * entry.rtt(),
            None => own.map_or(self.round_trip.late(), |rtt| 2 * rtt),
        };
        let (low, high) = self.config.requests.late;
        late.clamp(low, high)
    }

    fn set_wake(&mut self, id: ErrandId, at: Time, wake: Wake) {
        self.cancel_wake(id);
        if let Some(errand) = self.errands.get_mut(id) {
            errand.wake = Some((at, wake));
            self.timers.set(at, Timer::Wake(id));
        }
    }

    pub(super) fn cancel_wake(&mut self, id: ErrandId) -> Option<(Time, Wake)> {
        let (at, wake) = self.errands.get_mut(id)?.wake.take()?;
        self.timers.cancel(at, Timer::Wake(id));
        Some((at, wake))
    }
}
