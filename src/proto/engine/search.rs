//! Lookups: who is asked next, what answers bring, and the report at the end.

use std::net::IpAddr;

use super::errands::{ErrandId, Goal, LookupId};
use super::requests::Asked;
use super::{CommandError, CommandId, Engine, Event, Found, LookupReport, Origin, Reply, RequestId, Step, Timer};
use crate::proto::config::MAX_PATHS;
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::{Contact, Prefix, PublicKey, plausible, reaches};
use crate::proto::lookup::{Lookup, NetworkLimits};
use crate::proto::table::{Closest, Opening, limited_prefix};
use crate::proto::time::Time;
use crate::proto::wire::NodeEntry;

/// A lookup with what the engine needs to know about it.
#[derive(Clone, Debug)]
pub(super) struct Task {
    lookup: Lookup,
    /// What is asked for.
    pub(super) target: PublicKey,
    origin: Origin,
    /// End when this node has answered, be it a PING.
    until: Option<PublicKey>,
    begun: Time,
    deadline: Time,
    /// For each node that was asked: when, and how many nodes it has named so far.
    asked: Vec<(NodeRef, Time, u8)>,
    trace: Vec<Step>,
    /// Requests at a time.
    alpha: usize,
    /// Answers in a row that named nobody for whom the table has a place; for a refresh, all answers.
    barren: usize,
    /// It does not end before the nearest have answered, whatever the table has of it.
    to_the_end: bool,
}

impl Task {
    /// Whether the engine made it of its own accord.
    pub(super) fn is_upkeep(&self) -> bool {
        !matches!(self.origin, Origin::Command(_))
    }

    pub(super) fn is_refresh(&self) -> bool {
        self.origin == Origin::Refresh
    }

    /// Whether a node has been asked, or is one of those with whom the lookup begins and only `others` of its kind are.
    pub(super) fn asks(&self, node: NodeRef, others: impl Fn(NodeRef) -> bool) -> bool {
        let candidates = self.lookup.candidates();
        self.asked.iter().any(|(asked, ..)| *asked == node)
            || self.lookup.get(node).is_some() && candidates.iter().all(|candidate| others(candidate.node))
    }

    pub(super) fn on_sign_of_life(&mut self, node: NodeRef) {
        self.lookup.on_sign_of_life(node);
    }

    /// Nodes that the fullest of its paths has in mind.
    pub(super) fn candidates(&self) -> usize {
        let mut paths = [0; MAX_PATHS];
        self.lookup.candidates().iter().for_each(|candidate| paths[usize::from(candidate.path)] += 1);
        paths.into_iter().max().unwrap_or(0)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeRef> {
        self.lookup.nodes()
    }
}

impl<C: Contacts> Engine<C> {
    pub(super) fn command_lookup(
        &mut self,
        now: Time,
        id: CommandId,
        target: PublicKey,
        until_found: bool,
        paths: Option<usize>,
    ) {
        let until = until_found.then_some(target);
        let paths = paths.unwrap_or(self.config.lookup.paths);
        if self.start_lookup_along(now, target, Origin::Command(id), until, paths).is_none() {
            self.reply(id, Reply::Failed(CommandError::Busy));
        }
    }

    /// Starts a lookup along a single path.
    pub(super) fn start_lookup(&mut self, now: Time, target: PublicKey, origin: Origin) -> Option<LookupId> {
        self.start_lookup_along(now, target, origin, None, 1)
    }

    /// Starts a lookup with the nearest members of the table, and with configured contacts while those are few.
    fn start_lookup_along(
        &mut self,
        now: Time,
        target: PublicKey,
        origin: Origin,
        until: Option<PublicKey>,
        paths: usize,
    ) -> Option<LookupId> {
        if self.lookups.len() >= self.config.lookup.max_lookups {
            return None;
        }
        self.lookup_serial += 1;
        let id = LookupId(self.lookup_serial);
        let k = self.config.table.k;
        let mut lookup = self.new_lookup(&target, paths);
        let mut closest = Closest::new();
        self.table.closest(lookup.target(), &self.contacts, k, |_| true, &mut closest);
        for node in &closest {
            lookup.add_own(*node, &self.contacts, &self.config.lookup);
        }
        if closest.len() < k {
            for node in self.upkeep.bootnodes() {
                if self.contacts.endpoint(node).udp != 0 {
                    lookup.add_own(node, &self.contacts, &self.config.lookup);
                }
            }
        }
        let deadline = now + self.config.lookup.max_time;
        self.timers.set(deadline, Timer::Lookup(id));
        // Nobody waits for a refresh, and with one request at a time it needs the fewest.
        let alpha = if origin == Origin::Refresh { 1 } else { self.config.lookup.alpha };
        let task = Task {
            lookup,
            alpha,
            target,
            origin,
            until,
            begun: now,
            deadline,
            asked: Vec::new(),
            trace: Vec::new(),
            barren: 0,
            to_the_end: false,
        };
        self.lookups.insert(id, task);
        self.stirred.push(id);
        Some(id)
    }

    fn new_lookup(&self, target: &PublicKey, paths: usize) -> Lookup {
        let (limits, table) = (&self.config.lookup, &self.config.table);
        let networks =
            NetworkLimits { v4: limits.per_v4_prefix, v6: limits.per_v6_prefix, exempt_lan: table.exempt_lan };
        Lookup::new(target.node_id(), table.k, paths).spread(networks)
    }

    /// Starts a lookup of our own with one node alone.
    pub(super) fn start_lookup_at(
        &mut self,
        now: Time,
        target: PublicKey,
        origin: Origin,
        node: NodeRef,
    ) -> Option<LookupId> {
        let lookup = self.new_lookup(&target, 1);
        let id = self.start_lookup(now, target, origin)?;
        if let Some(task) = self.lookups.get_mut(&id) {
            task.lookup = lookup;
            task.lookup.add_own(node, &self.contacts, &self.config.lookup);
        }
        Some(id)
    }

    /// Has a lookup of our own go on until the nearest have answered.
    pub(super) fn run_to_the_end(&mut self, id: LookupId) {
        if let Some(task) = self.lookups.get_mut(&id) {
            task.to_the_end = true;
        }
    }

    /// Asks on behalf of all lookups that have changed, and ends those that are done.
    pub(super) fn drive_lookups(&mut self, now: Time) {
        while let Some(id) = self.stirred.pop() {
            while let Some(task) = self.lookups.get_mut(&id) {
                let limits = &self.config.lookup;
                let wanted = task.until.and_then(|_| task.lookup.poll_target(limits));
                let Some(node) = wanted.or_else(|| task.lookup.poll_next(task.alpha, limits)) else { break };
                task.asked.push((node, now, 0));
                if self.start_errand(now, node, Goal::Nodes(id)).is_none()
                    && let Some(task) = self.lookups.get_mut(&id)
                {
                    task.lookup.on_failure(node);
                }
            }
            if self.lookups.get(&id).is_some_and(|task| task.lookup.is_done(&self.config.lookup)) {
                self.finish_lookup(now, id);
            }
        }
    }

    /// A NEIGHBORS packet has come for an errand.
    pub(super) fn on_nodes(&mut self, now: Time, id: ErrandId, teller: IpAddr, nodes: &[NodeEntry]) {
        let Some((lookup, asked)) = self.errands.get(id).and_then(|errand| match errand.goal {
            Goal::Nodes(lookup) => Some((lookup, errand.node)),
            Goal::Record(_) => None,
        }) else {
            return;
        };
        let local = *self.local_key();
        let mut news = false;
        if let Some(task) = self.lookups.get_mut(&lookup) {
            // What it says is worth going on with; the rest need not hold up anybody.
            task.lookup.on_begun(asked);
        }
        for contact in nodes.iter().filter_map(NodeEntry::contact) {
            if contact.key == local || !self.is_plausible(&contact, teller) || !self.takes_up(id, &contact) {
                continue;
            }
            let Some(node) = self.intern_hearsay(&contact) else { continue };
            if let Some(errand) = self.errands.get_mut(id) {
                // There is room: no more than k are read of an answer.
                let _ = errand.taken.try_push(node);
            }
            let Some(task) = self.lookups.get_mut(&lookup) else { return };
            let added = task.lookup.add_named(node, asked, &self.contacts, &self.config.lookup);
            if !task.is_refresh() {
                news |= self.hint_node(now, node, Opening::EmptySixteenth);
            } else if added && self.contacts.id(node) == task.lookup.target() {
                // Nobody is nearer.
                task.lookup.stop();
            }
        }
        if let Some(task) = self.lookups.get_mut(&lookup) {
            task.barren = if news { 0 } else { task.barren };
            if let Some((.., named)) = task.asked.iter_mut().rev().find(|(node, ..)| *node == asked) {
                *named = named.saturating_add(nodes.len() as u8);
            }
            self.stir(lookup);
        }
    }

    /// Whether one more contact of an answer is taken up: each ID at one address, and few of one network, unless it is the
    /// very node that is looked for.
    fn takes_up(&self, id: ErrandId, contact: &Contact) -> bool {
        let Some(errand) = self.errands.get(id) else { return false };
        if errand.taken.iter().any(|node| *self.contacts.key(*node) == contact.key) {
            return false;
        }
        let prefix_of = |ip: IpAddr| limited_prefix(ip, &self.config.table);
        let Some(prefix) = prefix_of(contact.endpoint.ip) else { return true };
        let limits = &self.config.lookup;
        let most = match prefix {
            Prefix::V4(_) => limits.per_v4_prefix,
            Prefix::V6(_) => limits.per_v6_prefix,
        };
        let taken = errand.taken.iter().filter(|node| prefix_of(self.contacts.endpoint(**node).ip) == Some(prefix));
        taken.count() < most
            || matches!(errand.goal, Goal::Nodes(lookup)
                if self.lookups.get(&lookup).is_some_and(|task| task.target == contact.key))
    }

    /// An answer to FINDNODE is complete.
    pub(super) fn complete_find_node(&mut self, now: Time, id: RequestId) {
        let Some(request) = self.take_request(id) else { return };
        self.counters.answered += 1;
        let Asked::FindNode { errand, .. } = request.asked else { return };
        self.cancel_errand_timer(errand);
        let Some(errand) = self.errands.remove(errand) else { return };
        let Goal::Nodes(lookup) = errand.goal else { return };
        if let Some(task) = self.lookups.get_mut(&lookup) {
            task.lookup.on_response(errand.node);
            let found = task.until.is_some_and(|key| *self.contacts.key(errand.node) == key);
            task.barren += 1;
            // Upkeep is after members. Where the nearest name none, there is no need to ask the others; and the second
            // answer of a refresh names some that are near enough to its target.
            let barren = task.is_upkeep() && !task.to_the_end && task.barren > task.alpha;
            if found || barren {
                self.stop_lookup(lookup);
            }
        }
        self.trace(now, lookup, errand.node, true);
        self.stir(lookup);
        self.on_served(now, errand.node);
        self.on_find_answered(errand.node);
        self.next_turn(now, errand.node);
    }

    /// Whether the lookup is for this very node, and ends when it has answered.
    pub(super) fn is_wanted(&self, lookup: LookupId, node: NodeRef) -> bool {
        self.lookups.get(&lookup).is_some_and(|task| task.until == Some(*self.contacts.key(node)))
    }

    /// The node that the lookup is for is there: that is all that was asked for.
    pub(super) fn on_query_needless(&mut self, now: Time, lookup: LookupId, node: NodeRef) {
        if let Some(task) = self.lookups.get_mut(&lookup) {
            task.lookup.on_response(node);
            task.lookup.stop();
        }
        self.trace(now, lookup, node, true);
        self.stir(lookup);
    }

    pub(super) fn on_query_late(&mut self, lookup: LookupId, node: NodeRef) {
        if let Some(task) = self.lookups.get_mut(&lookup) {
            task.lookup.on_late(node);
            self.stir(lookup);
        }
    }

    pub(super) fn on_query_silent(&mut self, lookup: LookupId, node: NodeRef) {
        if let Some(task) = self.lookups.get_mut(&lookup) {
            task.lookup.on_silent(node);
            self.stir(lookup);
        }
    }

    pub(super) fn on_query_failed(&mut self, now: Time, lookup: LookupId, node: NodeRef) {
        if let Some(task) = self.lookups.get_mut(&lookup) {
            task.lookup.on_failure(node);
        }
        self.trace(now, lookup, node, false);
        self.stir(lookup);
    }

    pub(super) fn on_lookup_deadline(&mut self, id: LookupId) {
        self.stop_lookup(id);
        self.stir(id);
    }

    fn stop_lookup(&mut self, id: LookupId) {
        if let Some(task) = self.lookups.get_mut(&id) {
            task.lookup.stop();
        }
    }

    fn stir(&mut self, id: LookupId) {
        if !self.stirred.contains(&id) {
            self.stirred.push(id);
        }
    }

    fn trace(&mut self, now: Time, lookup: LookupId, node: NodeRef, answered: bool) {
        let Some(task) = self.lookups.get_mut(&lookup) else { return };
        // Only those who asked for the lookup read its trace.
        if !matches!(task.origin, Origin::Command(_)) {
            return;
        }
        let Some(&(_, asked, named)) = task.asked.iter().rev().find(|(asked, ..)| *asked == node) else { return };
        let depth = task.lookup.place_of(node).map_or(1, |(depth, _)| depth);
        task.trace.push(Step {
            contact: self.contacts.contact(node),
            log_distance: task.lookup.target().log_distance(self.contacts.id(node)),
            depth,
            asked_at: asked.since(task.begun),
            ended_at: now.since(task.begun),
            named: answered.then_some(named),
        });
    }

    fn finish_lookup(&mut self, now: Time, id: LookupId) {
        let silent = self.lookups.get(&id).map(|task| task.lookup.silent().collect::<Vec<_>>());
        for node in silent.unwrap_or_default() {
            self.trace(now, id, node, false);
        }
        let Some(task) = self.lookups.remove(&id) else { return };
        self.timers.cancel(task.deadline, Timer::Lookup(id));
        for errand in self.errands.of_lookup(id) {
            self.drop_errand(now, errand);
        }
        self.counters.lookups += 1;
        self.learn_from_lookup(now, &task.lookup);
        let took = now.since(task.begun);
        let queries = task.asked.len() as u32;
        let closest: Vec<Found> = task
            .lookup
            .result()
            .map(|(candidate, answered)| Found {
                contact: self.contacts.contact(candidate.node),
                id: *self.contacts.id(candidate.node),
                answered,
                depth: candidate.depth,
            })
            .collect();
        self.emit(Event::LookupFinished {
            origin: task.origin,
            target: *task.lookup.target(),
            found: closest.len(),
            queries,
            took,
        });
        if let Origin::Command(command) = task.origin {
            let report = LookupReport { target: task.target, closest, queries, took, trace: task.trace };
            self.reply(command, Reply::Lookup(report));
        } else {
            // Not those who were named on the way: everybody knows them, and tables would all hold the same few. Who is
            // nearest to a random target is anybody.
            if task.is_refresh() {
                let mut nearest: Vec<NodeRef> = task.lookup.nearest_alive().map(|candidate| candidate.node).collect();
                // They belong in one place for the most part, and who comes first is pinged first.
                nearest.sort_by_cached_key(|node| self.table.rank(self.contacts.id(*node)));
                let least = self.wanted_of_refresh(now);
                for node in nearest {
                    self.hint_node(now, node, least);
                }
            }
            self.on_refresh_ended(now);
        }
    }

    /// Considers a contact that we were told of.
    pub(super) fn hint(&mut self, now: Time, contact: &Contact, teller: IpAddr) {
        if contact.key == *self.local_key() || !self.is_plausible(contact, teller) {
            return;
        }
        if let Some(node) = self.intern_hearsay(contact) {
            self.hint_node(now, node, Opening::EmptySixteenth);
        }
    }

    /// Whether a contact that we were told of can be worth a packet, and our socket could send it.
    fn is_plausible(&self, contact: &Contact, teller: IpAddr) -> bool {
        plausible(&contact.endpoint, teller, self.config.allow_privileged_ports).is_ok()
            && reaches(self.local.node.bound.ip(), contact.endpoint.ip)
    }

    /// The handle of a contact that somebody else told of: what the node said of itself stays.
    fn intern_hearsay(&mut self, contact: &Contact) -> Option<NodeRef> {
        let known = self.contacts.find(&contact.key, contact.endpoint.udp_addr());
        known.or_else(|| self.contacts.intern(contact))
    }
}
