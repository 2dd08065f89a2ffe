//! Requests and their ends: PINGs, and the endpoint proofs that come of them.
//!
//! An endpoint proof belongs to (node ID, IP address, UDP port). It is given by a PONG that carries our PING's hash, is
//! signed by the node that we pinged, and came from the very address that we pinged; a handle stands for just that
//! triple.

use std::iter;
use std::net::SocketAddr;
use std::time::Duration;

use super::errands::Stage;
use super::proofs::Known;
use super::requests::{Asked, Request};
use super::{CommandError, Engine, MAX_QUIET, Pinged, Removal, Reply, RequestId, Timer};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::table::{Entry, Offer, Opening, Proof, Refusal, Verdict};
use crate::proto::time::{Secs, Time};
use crate::proto::wire::{Message, Ping, Pong};

/// Why a PING is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The node pinged us.
    Back,
    /// We want to know whether it is there, of our own accord.
    OwnAccord,
    /// A command, a file or the application named it.
    Told,
    /// A NEIGHBORS named it.
    Hint,
}

impl<C: Contacts> Engine<C> {
    /// Pings a node, unless that is under way already. Says whether a PONG can be waited for.
    pub(super) fn ping(&mut self, now: Time, node: NodeRef, why: Why) -> bool {
        let addr = self.contacts.endpoint(node).udp_addr();
        if let Some(id) = self.requests.ping_to(node, addr) {
            // When our own places are taken it stays the stranger's; whoever waits for it hears of it all the same.
            if why != Why::Back && self.requests.own() < self.own_places() {
                self.requests.want(id);
            }
            return true;
        }
        if !self.may_knock(now, node, addr, why) {
            return false;
        }
        let asked = Asked::Ping {
            back: why == Why::Back,
            own_accord: why != Why::Back,
            hint: why == Why::Hint,
            endorsed: None,
        };
        let ping = self.ping_message(node, self.distinct_expiration(now, addr));
        self.request(now, node, asked, ping).is_some()
    }

    pub(super) fn ping_message(&self, node: NodeRef, expiration: u64) -> Message {
        let to = self.contacts.endpoint(node);
        Message::Ping(Ping {
            from: self.local.endpoint_for(to.ip),
            to: to.into(),
            expiration,
            enr_seq: self.local.seq(),
        })
    }

    /// Pings a stranger that has pinged us, so that it can prove itself; and one that has, but was refused a place that
    /// is free now.
    pub(super) fn ping_back(&mut self, now: Time, node: NodeRef, addr: SocketAddr) {
        let known = self.known(node);
        let proved = known.proved.within(self.config.proof_lasts, now) && !known.lost;
        let ruled_out = self.is_ruled_out(addr, node);
        if (proved && self.opening(now, node) != Some(Opening::Room))
            || self.requests.ping_to(node, addr).is_some()
            || ruled_out
        {
            return;
        }
        // Where we knock we are no stranger to be left in peace by.
        if !known.proved.happened() && !self.knocks.is_at(addr) {
            while self.quiet.len() >= MAX_QUIET || self.quiet.front().is_some_and(|(until, _)| *until <= now) {
                self.quiet.pop_front();
            }
            self.quiet.push_back((now + self.config.quiet_after_first_ping, addr));
        }
        self.ping(now, node, Why::Back);
    }

    /// Notes that we have answered a PING of the node: it has a proof of us now.
    pub(super) fn on_endorsed(&mut self, now: Time, node: NodeRef, addr: SocketAddr) {
        self.on_served(now, node);
        if let Some(id) = self.requests.ping_to(node, addr)
            && let Some(request) = self.requests.get_mut(id)
            && let Asked::Ping { endorsed, .. } = &mut request.asked
        {
            *endorsed = Some(now);
        }
        // Errands that only waited for this go on. One whose PING is still out has its answer coming.
        let waiting = self.errands.at_stage(node, |stage| matches!(stage, Stage::AwaitsPing(_)));
        if let Some(proved) = waiting.first().and_then(|id| self.errands.get(*id)).map(|errand| errand.proved) {
            self.spread.measure(now.since(proved), self.round_trip.mean);
        }
        for id in waiting {
            self.request_behind_pong(now, id, now);
        }
        self.ask_anew(now, node, now + self.spread.behind());
    }

    /// A PONG has come in answer to a PING of ours.
    pub(super) fn on_proved(&mut self, now: Time, id: RequestId, pong: &Pong) {
        let Some(request) = self.take_request(id) else { return };
        let Asked::Ping { own_accord, hint, endorsed, .. } = request.asked else { return };
        self.counters.answered += 1;
        let node = request.node;
        let took = now.since(request.sent);
        let rtt = if request.repeated {
            self.round_trip.back_off();
            self.expected_round_trip(node)
        } else {
            self.round_trip.measure(took);
            took
        };
        self.note_expiration(now, request.addr.ip(), pong.expiration);
        let before = self.known(node);
        let endorsed_secs = endorsed.map_or(Secs::NEVER, Time::secs);
        let known = before.merge(Known { proved: now.secs(), endorsed: endorsed_secs, ..Known::default() });
        let proof = Proof { proved: known.proved, endorsed: known.endorsed, rtt };
        let member = self.table.find(self.contacts.id(node), &self.contacts).map(|entry| entry.node);
        let left = member.map(|member| (member, self.known(member)));
        let offer = if member.is_none() && !hint && !self.table.is_empty() && self.is_passing(node) {
            Offer::Refused(Refusal::Passing)
        } else if self.is_shut_out(node) {
            Offer::Refused(Refusal::Unhelpful)
        } else {
            self.table.offer(node, proof, own_accord, now, &self.contacts, &self.config.table)
        };
        if let (Offer::Moved(_), Some((left, known))) = (offer, left) {
            // It may still ask from where it was: its proof there stands until it expires.
            self.proofs.put(left, Known { lost: true, ..known }, self.config.max_proofs);
        }
        self.on_offer(now, node, known, offer);
        self.upkeep.stays(node);
        // First, since the other would ping it again.
        self.on_bootnode_answered(now, node);
        self.on_former_answered(now, node);
        if before.lost || !before.proved.within(self.config.proof_lasts, now) {
            self.on_new_bond(now);
        }
        let contact = self.contacts.contact(node);
        if let Some(ip) = pong.to.ip
            && self.config.votes.enabled
            && let Some(agreed) =
                self.votes.note(request.addr.ip(), SocketAddr::new(ip, pong.to.udp), now, &self.config.votes)
            && self.local.set_voted(agreed)
        {
            self.emit_local_record();
        }
        for command in self.take_pings_wanted(node) {
            let our_address = pong.to.ip;
            self.reply(command, Reply::Ping(Pinged { contact, rtt: took, enr_seq: pong.enr_seq, our_address }));
        }
        if let Some(endorsed) = endorsed {
            self.spread.measure(now.since(endorsed), rtt);
        }
        self.on_node_alive(node);
        for errand in self.errands.at_stage(node, |stage| stage == Stage::Pinged) {
            if let Some(errand) = self.errands.get_mut(errand) {
                (errand.proved, errand.rtt) = (now, (!request.repeated).then_some(took));
            }
            match endorsed {
                Some(ponged) => self.request_behind_pong(now, errand, ponged),
                None => self.await_ping_back(now, errand, known, took),
            }
        }
        if let Some(ponged) = endorsed {
            self.ask_anew(now, node, ponged + self.spread.behind());
        }
        self.on_record_seq(now, node, pong.enr_seq);
        if hint {
            self.on_hint_ended(now, node);
        }
    }

    /// The round trip time of a node, as far as it is known: that of all, unless it has an entry in the table.
    fn expected_round_trip(&self, node: NodeRef) -> Duration {
        let member = self.table.find(self.contacts.id(node), &self.contacts);
        let entry = member.or_else(|| self.table.replacement(node, &self.contacts));
        entry.map_or(self.round_trip.mean, Entry::rtt)
    }

    /// Does what follows from a node's place in the table.
    fn on_offer(&mut self, now: Time, node: NodeRef, known: Known, offer: Offer) {
        match offer {
            Offer::Refreshed => self.proofs.remove(node),
            Offer::Added => {
                self.proofs.remove(node);
                self.upkeep.gain();
                self.on_member(now, node);
            }
            // No gain for the table by what follows, so no reason to look around sooner.
            Offer::Displaced(other) => {
                self.proofs.remove(node);
                // It is a replacement now; see below.
                self.proofs.put(other, self.known(other), self.config.max_proofs);
                self.forget_member(other, Removal::Displaced);
                self.on_member(now, node);
            }
            Offer::Moved(other) => {
                self.proofs.remove(node);
                self.forget_member(other, Removal::Moved);
                self.on_member(now, node);
            }
            // Replacements come and go without a word, so their proofs are kept here as well.
            Offer::Replacement => self.proofs.put(node, known, self.config.max_proofs),
            Offer::Refused(refusal) => {
                self.proofs.put(node, known, self.config.max_proofs);
                if refusal == Refusal::OtherEndpoint {
                    self.on_seen_elsewhere(now, node);
                }
                if let Refusal::BucketSubnet | Refusal::TableSubnet = refusal {
                    self.on_network_refused(now, node);
                }
            }
        }
        self.arm_checks(now, node);
    }

    /// Sends a request, unless too much is under way.
    pub(super) fn request(&mut self, now: Time, node: NodeRef, asked: Asked, message: Message) -> Option<RequestId> {
        let addr = self.contacts.endpoint(node).udp_addr();
        let limits = &self.config.requests;
        let full = !asked.is_back() && self.requests.own() >= self.own_places();
        if full || addr.port() == 0 {
            self.counters.not_sent += 1;
            return None;
        }
        if self.requests.at(addr).count() >= limits.max_per_address {
            // Whoever pings us with many keys, from there or in its name, must not keep us from asking there.
            let back = self.requests.at(addr).find(|(_, request)| request.asked.is_back() && !asked.is_back());
            match back.map(|(id, _)| id) {
                Some(back) => self.fail_request(now, back, CommandError::Busy),
                None => {
                    self.counters.not_sent += 1;
                    return None;
                }
            }
        }
        let limits = &self.config.requests;
        if self.requests.len() >= limits.max_pending {
            // Silent strangers must not keep out those that come after them.
            match self.requests.oldest_back() {
                Some(oldest) => self.fail_request(now, oldest, CommandError::Busy),
                None => {
                    self.counters.not_sent += 1;
                    return None;
                }
            }
        }
        let limits = &self.config.requests;
        // Whoever heard of the end of a request may have made another, in the very place that was cleared.
        if self.requests.at(addr).count() >= limits.max_per_address || self.requests.len() >= limits.max_pending {
            self.counters.not_sent += 1;
            return None;
        }
        let late = self.lateness(node, asked);
        let late_at = now + late;
        let expires = now + limits.timeout;
        let expiration = message.expiration().unwrap_or_default();
        let id = self.requests.insert(Request {
            node,
            addr,
            asked,
            hash: None,
            sent: now,
            late,
            late_at,
            expires,
            repeated: false,
            answers: 0,
            expired_pong: false,
            expiration,
        });
        self.timers.set(late_at, Timer::Late(id));
        self.timers.set(expires, Timer::Expires(id));
        let by_hash = !matches!(asked, Asked::FindNode { .. });
        self.transmit(addr, message, by_hash.then_some(id));
        Some(id)
    }

    /// An expiration that no request under way to an address bears: two that are alike would have the same hash, by which
    /// their answers are told apart.
    pub(super) fn distinct_expiration(&self, now: Time, addr: SocketAddr) -> u64 {
        let mut expiration = self.expiration(now);
        while self.requests.at(addr).any(|(_, request)| request.expiration == expiration) {
            expiration += 1;
        }
        expiration
    }

    /// Places for our own requests: an eighth of all is for strangers, so that we do not keep them out.
    fn own_places(&self) -> usize {
        let all = self.config.requests.max_pending;
        all - all / 8
    }

    /// Takes a request out, deadlines and all.
    pub(super) fn take_request(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(id)?;
        self.timers.cancel(request.late_at, Timer::Late(id));
        self.timers.cancel(request.expires, Timer::Expires(id));
        Some(request)
    }

    /// Sets another time at which a request ends.
    pub(super) fn expire_at(&mut self, id: RequestId, at: Time) {
        if let Some(request) = self.requests.get_mut(id) {
            self.timers.cancel(request.expires, Timer::Expires(id));
            request.expires = at;
            self.timers.set(at, Timer::Expires(id));
        }
    }

    /// How long to wait for the second NEIGHBORS packet: a round trip of that node, or as far as packets of one moment lie
    /// apart on arrival where that is known.
    pub(super) fn second_packet_wait(&self, now: Time, id: RequestId) -> Duration {
        let (low, high) = self.config.requests.second_packet;
        let round_trip = self.requests.get(id).map_or(low, |request| now.since(request.sent));
        let wait = if self.spread.0.is_some() { round_trip.min(self.spread.behind()) } else { round_trip };
        wait.clamp(low, high)
    }

    pub(super) fn on_expired(&mut self, now: Time, id: RequestId) {
        if let Some(request) = self.requests.get(id)
            && let Asked::FindNode { begun: true, .. } = request.asked
        {
            // The second packet was due and there was none: this was the whole answer.
            self.complete_find_node(now, id);
        } else {
            self.fail_request(now, id, CommandError::Timeout);
        }
    }

    /// Ends a request that will not be answered.
    pub(super) fn fail_request(&mut self, now: Time, id: RequestId, error: CommandError) {
        let Some(request) = self.take_request(id) else { return };
        self.counters.unanswered += 1;
        match request.asked {
            Asked::Ping { hint, .. } => self.on_ping_failed(now, request.node, hint, error),
            Asked::Record { errand } => self.retry_or_fail(now, errand, error),
            Asked::FindNode { errand, .. } if self.errands.get(errand).is_none() => {
                self.on_find_outlived(now, request.node, false);
            }
            Asked::FindNode { errand, .. } => {
                if error == CommandError::Timeout && self.errands.get(errand).is_some_and(|errand| errand.failed) {
                    self.on_find_failed(now, request.node);
                }
                // Those that wait for their turn share its fate, or each would have to find out for itself.
                for errand in iter::once(errand).chain(self.waiting_for_turn(request.node)) {
                    self.retry_or_fail(now, errand, error);
                }
            }
        }
    }

    /// The node has answered what it answers only to those whose proof it has.
    pub(super) fn on_served(&mut self, now: Time, node: NodeRef) {
        if !self.table.endorse(node, now, &self.contacts) && self.proofs.contains(node) {
            let known = Known { endorsed: now.secs(), ..self.proofs.get(node) };
            self.proofs.put(node, known, self.config.max_proofs);
        }
    }

    fn on_ping_failed(&mut self, now: Time, node: NodeRef, hint: bool, error: CommandError) {
        let age = self.table.get(node, &self.contacts).map(|entry| entry.age(now));
        let known = self.known(node);
        match self.table.fail(node, &self.contacts, &self.config.table) {
            Verdict::Unknown => self.on_bootnode_silent(now, node),
            // The next check says more.
            Verdict::Doubtful(_) => self.recheck_later(now, node),
            Verdict::Removed(promoted) => {
                self.on_bootnode_silent(now, node);
                self.forget_member(node, Removal::Dead);
                let known = Known { endorsed: Secs::NEVER, lost: true, ..known };
                self.proofs.put(node, known, self.config.max_proofs);
                self.remember_former(now, node, age.unwrap_or_default());
                self.on_place_free(now, promoted);
            }
        }
        self.follow_to_new_endpoint(now, node);
        for command in self.take_pings_wanted(node) {
            self.reply(command, Reply::Failed(error));
        }
        for errand in self.errands.at_stage(node, |stage| stage == Stage::Pinged) {
            self.fail_errand(now, errand, error);
        }
        if hint {
            self.on_hint_ended(now, node);
        }
    }

    /// Whether an address is that of a stranger which has just pinged us for the first time.
    pub(super) fn is_quiet(&self, now: Time, addr: SocketAddr) -> bool {
        self.quiet_until(now, addr).is_some()
    }

    /// How long it is to be left in peace, if it is one.
    pub(super) fn quiet_until(&self, now: Time, addr: SocketAddr) -> Option<Time> {
        self.quiet.iter().find(|(until, quiet)| *quiet == addr && *until > now).map(|(until, _)| *until)
    }
}
