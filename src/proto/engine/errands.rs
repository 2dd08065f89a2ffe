//! Errands: requests to a node that must have a proof of us first.
//!
//! A FINDNODE or ENRREQUEST is answered only by a node that has pinged us and got its PONG. When we cannot count on that,
//! an errand pings the node, waits for its PING (which clients send at once when they do not know us), and then makes its
//! request. A NEIGHBORS does not say which FINDNODE it answers, so a node is sent one at a time. No step waits for a fixed time: the wait for the PING is over when it comes, or after about two round trips,
//! since a node that remembers us does not ping.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrayvec::ArrayVec;

use super::bond::Why;
use super::output::{CommandError, CommandId, Reply, RequestId};
use super::proofs::Known;
use super::requests::Asked;
use super::{Engine, Timer};
use crate::proto::config::K;
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::time::{Secs, Time};
use crate::proto::wire::{EnrRequest, FindNode, Message};

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
    /// Its PING has been answered; the request follows then, so as not to overtake the PONG.
    Follows(Time),
    /// A FINDNODE of another errand to the node is under way.
    Turn,
    /// The request is under way.
    Requested(RequestId),
}

/// What an errand of a lookup does when it has waited for an answer for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The node is silent: the lookup passes over it.
    PassOver,
    /// The node has a new proof of us: its FINDNODE is made once more.
    AskAnew,
}

#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) node: NodeRef,
    pub(super) goal: Goal,
    pub(super) stage: Stage,
    /// What it does next while that stage lasts, and when.
    pub(super) wake: Option<(Time, Wake)>,
    /// When the node answered the PING of this errand.
    pub(super) proved: Time,
    /// Its round trip time by that answer, if the PING was sent once.
    pub(super) rtt: Option<Duration>,
    /// A FINDNODE was late, and has been sent again since the node has bonded anew.
    pub(super) anew: bool,
    /// A request has failed. It is made once more after bonding anew, and when that fails too, that is all.
    pub(super) failed: bool,
    /// The nodes that a lookup has taken up from the answer so far.
    pub(super) taken: ArrayVec<NodeRef, K>,
}

/// All errands, by number and by node.
#[derive(Clone, Debug, Default)]
pub(super) struct Errands {
    all: BTreeMap<ErrandId, Errand>,
    by_node: BTreeSet<(NodeRef, ErrandId)>,
    serial: u64,
}

impl Errands {
    pub(super) fn insert(&mut self, errand: Errand) -> ErrandId {
        self.serial += 1;
        let id = ErrandId(self.serial);
        self.by_node.insert((errand.node, id));
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
            .filter_map(|&(_, id)| Some((id, self.all.get(&id)?)))
    }

    /// Those of them that are at a stage.
    pub(super) fn at_stage(&self, node: NodeRef, wanted: impl Fn(Stage) -> bool) -> Vec<ErrandId> {
        self.to(node).filter(|(_, errand)| wanted(errand.stage)).map(|(id, _)| id).collect()
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

    /// All that errands name: those asked, and those that answers have named, which a lookup may have dropped again.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeRef> {
        self.all.values().flat_map(|errand| std::iter::once(errand.node).chain(errand.taken.iter().copied()))
    }
}

impl<C: Contacts> Engine<C> {
    /// Starts an errand; when nothing can be sent it fails at once, and `None` is returned.
    pub(super) fn start_errand(&mut self, now: Time, node: NodeRef, goal: Goal) -> Option<ErrandId> {
        if self.errands.len() >= self.config.requests.max_pending {
            self.counters.not_sent += 1;
            return None;
        }
        let errand = Errand {
            node,
            goal,
            stage: Stage::Quiet(now),
            wake: None,
            proved: Time::ZERO,
            rtt: None,
            anew: false,
            failed: false,
            taken: ArrayVec::new(),
        };
        let id = self.errands.insert(errand);
        let addr = self.contacts.endpoint(node).udp_addr();
        if let Some(until) = self.quiet_until(now, addr) {
            self.set_stage(id, Stage::Quiet(until));
            if let Goal::Nodes(lookup) = goal {
                self.on_query_late(lookup, node);
            }
            return Some(id);
        }
        let at = now + self.spread.behind();
        if goal == Goal::Record(None) && at > now {
            // What has told us of a new record may be a PING whose PONG has just left.
            self.set_stage(id, Stage::Follows(at));
            return Some(id);
        }
        self.advance(now, id).then_some(id)
    }

    /// Takes an errand on: the request itself when the node has a proof of us, else a PING. Says whether it goes on.
    pub(super) fn advance(&mut self, now: Time, id: ErrandId) -> bool {
        let Some(errand) = self.errands.get(id) else { return false };
        let (node, stage, goal) = (errand.node, errand.stage, errand.goal);
        // A node that has only pinged us may be anybody in the name of anybody: it is pinged first.
        let endorsed =
            self.has_proved(now, node) && self.known(node).endorsed.within(self.config.endorsement_lasts, now);
        // After its wait an errand asks anyway: a node that remembers us from before has no reason to ping.
        let waited = matches!(stage, Stage::AwaitsPing(_) | Stage::Follows(_) | Stage::Turn);
        if endorsed || waited {
            return self.make_request(now, id);
        }
        let why = if matches!(goal, Goal::Record(Some(_))) { Why::Told } else { Why::OwnAccord };
        if self.ping(now, node, why) {
            self.set_stage(id, Stage::Pinged);
            return true;
        }
        self.fail_errand(now, id, CommandError::Busy);
        false
    }

    fn make_request(&mut self, now: Time, id: ErrandId) -> bool {
        let Some(errand) = self.errands.get(id) else { return false };
        let (node, goal) = (errand.node, errand.goal);
        if let Goal::Nodes(lookup) = goal
            && matches!(errand.stage, Stage::Pinged | Stage::Follows(_))
            && self.is_wanted(lookup, node)
        {
            // It has just proved itself, and needs not name anybody.
            self.cancel_errand_timer(id);
            self.errands.remove(id);
            self.on_query_needless(now, lookup, node);
            return true;
        }
        if matches!(goal, Goal::Nodes(_)) {
            self.drop_outlived(node);
        }
        if let Goal::Nodes(lookup) = goal
            && self.requests.is_asked(node, self.contacts.endpoint(node).udp_addr())
        {
            self.set_stage(id, Stage::Turn);
            self.on_query_late(lookup, node);
            return true;
        }
        let expiration = self.expiration(now);
        let sent = match goal {
            Goal::Nodes(lookup) => self.lookups.get(&lookup).map(|task| task.target).and_then(|target| {
                let message = Message::FindNode(FindNode { target, expiration });
                self.request(now, node, Asked::FindNode { errand: id, received: 0, begun: false, first: 0 }, message)
            }),
            Goal::Record(_) => {
                let expiration = self.distinct_expiration(now, self.contacts.endpoint(node).udp_addr());
                self.request(now, node, Asked::Record { errand: id }, Message::EnrRequest(EnrRequest { expiration }))
            }
        };
        match sent {
            Some(request) => {
                self.set_stage(id, Stage::Requested(request));
                true
            }
            None => {
                self.fail_errand(now, id, CommandError::Busy);
                false
            }
        }
    }

    /// The node has answered our PING. If it has no proof of us yet its own PING is on the way.
    pub(super) fn await_ping_back(&mut self, now: Time, id: ErrandId, known: Known, rtt: Duration) {
        if known.endorsed.within(self.config.endorsement_lasts, now) {
            self.make_request(now, id);
            return;
        }
        let (low, high) = self.config.requests.ping_back;
        self.set_stage(id, Stage::AwaitsPing(now + (2 * rtt).clamp(low, high)));
    }

    /// The bond is complete: the node's PING was answered at `ponged`. A request that came before that PONG would be
    /// dropped, so it is sent as far behind it as packets of one moment lie apart on arrival.
    pub(super) fn request_behind_pong(&mut self, now: Time, id: ErrandId, ponged: Time) {
        let at = ponged + self.spread.behind();
        self.set_stage(id, Stage::Follows(at));
        if at <= now {
            self.make_request(now, id);
        }
    }

    pub(super) fn on_errand_deadline(&mut self, now: Time, id: ErrandId) {
        self.advance(now, id);
    }

    /// A request failed. The node may have forgotten us, or our PONG may have been lost: bond again, once.
    pub(super) fn retry_or_fail(&mut self, now: Time, id: ErrandId, error: CommandError) {
        let Some(errand) = self.errands.get_mut(id) else { return };
        let node = errand.node;
        if errand.failed || error != CommandError::Timeout {
            self.fail_errand(now, id, error);
            return;
        }
        errand.failed = true;
        // A replacement has it in both places.
        self.table.forget_endorsement(node, &self.contacts);
        if self.proofs.contains(node) {
            let known = Known { endorsed: Secs::NEVER, ..self.proofs.get(node) };
            self.proofs.put(node, known, self.config.max_proofs);
        }
        self.set_stage(id, Stage::Pinged);
        self.advance(now, id);
    }

    pub(super) fn fail_errand(&mut self, now: Time, id: ErrandId, error: CommandError) {
        self.cancel_errand_timer(id);
        let Some(errand) = self.errands.remove(id) else { return };
        match errand.goal {
            Goal::Nodes(lookup) => self.on_query_failed(now, lookup, errand.node),
            Goal::Record(Some(command)) => self.reply(command, Reply::Failed(error)),
            Goal::Record(None) => {}
        }
    }

    /// Drops an errand whose result nobody wants any more, with its request.
    pub(super) fn drop_errand(&mut self, now: Time, id: ErrandId) {
        self.cancel_errand_timer(id);
        if let Some(errand) = self.errands.remove(id)
            && let Stage::Requested(request) = errand.stage
        {
            // What is late goes on alone.
            if !self.outlives(errand.node, request) {
                self.take_request(request);
            }
            self.next_turn(now, errand.node);
        }
    }

    pub(super) fn cancel_errand_timer(&mut self, id: ErrandId) {
        self.cancel_wake(id);
        if let Some(errand) = self.errands.get(id)
            && let Stage::Quiet(at) | Stage::AwaitsPing(at) | Stage::Follows(at) = errand.stage
        {
            self.timers.cancel(at, Timer::Errand(id));
        }
    }

    fn set_stage(&mut self, id: ErrandId, stage: Stage) {
        self.cancel_errand_timer(id);
        if let Stage::Quiet(at) | Stage::AwaitsPing(at) | Stage::Follows(at) = stage {
            self.timers.set(at, Timer::Errand(id));
        }
        if let Some(errand) = self.errands.get_mut(id) {
            errand.stage = stage;
        }
    }

    /// A peer has told the sequence number of its record. A member's is fetched when we have none or an older one.
    pub(super) fn on_record_seq(&mut self, now: Time, node: NodeRef, seq: Option<u64>) {
        let Some(seq) = seq else { return };
        if !self.config.fetch_records || self.table.get(node, &self.contacts).is_none() {
            return;
        }
        let stale = self.records.get(&node).is_none_or(|record| record.seq() < seq);
        let under_way = self.errands.to(node).any(|(_, errand)| errand.goal == Goal::Record(None));
        let quiet = self.is_quiet(now, self.contacts.endpoint(node).udp_addr());
        let endorsed = self.known(node).endorsed.within(self.config.endorsement_lasts, now);
        // It is no hurry: whom this passes over is checked again soon, and says its number again.
        if stale && !under_way && !quiet && endorsed && self.has_proved(now, node) {
            self.start_errand(now, node, Goal::Record(None));
        }
    }

    pub(super) fn waiting_for_turn(&self, node: NodeRef) -> Vec<ErrandId> {
        self.errands.at_stage(node, |stage| stage == Stage::Turn)
    }

    /// A FINDNODE to the node is over: the next errand has its turn, and where it cannot ask, since too much is under way,
    /// the one after it.
    pub(super) fn next_turn(&mut self, now: Time, node: NodeRef) {
        let next = |errands: &Errands| errands.to(node).find(|(_, e)| e.stage == Stage::Turn).map(|(id, _)| id);
        while let Some(next) = next(&self.errands)
            && !self.advance(now, next)
        {}
    }

    /// Whether a node is merely asked on the way of refreshes: it is no member for that. Who is asked first is whom
    /// everybody knows, and tables would all hold the same few.
    pub(super) fn is_passing(&self, node: NodeRef) -> bool {
        let mut errands = self.errands.to(node).peekable();
        errands.peek().is_some()
            && errands.all(|(_, errand)| {
                matches!(errand.goal, Goal::Nodes(lookup)
                    if self.lookups.get(&lookup).is_some_and(|task| task.is_refresh()))
            })
    }
}
