//! What the engine does of its own accord: checking members, refreshing the table, and finding a network at all.

mod bootnodes;
mod refresh;
pub(super) mod renewal;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;

pub(super) use self::bootnodes::Bootnode;
use super::bond::Why;
use super::{Engine, Event, Origin, Removal, Timer};
use crate::proto::config::Config;
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::NodeId;
use crate::proto::table::Opening;
use crate::proto::time::Time;

/// The state of the engine's own tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Upkeep {
    bootnodes: Vec<Bootnode>,
    bootnodes_at: Option<Time>,
    /// Nodes from NEIGHBORS that would have a place in the table.
    hints: VecDeque<Hint>,
    /// Those of them that are being pinged.
    hinted: Vec<NodeRef>,
    refresh_at: Option<Time>,
    refresh_every: Duration,
    /// Members that came in since the last refresh.
    gained: u32,
    checks_at: Option<Time>,
    /// Members that are to be asked before any other is due.
    renewals: Vec<NodeRef>,
    /// Members that have proved themselves at another endpoint, and may have left the one that we have: old and new.
    moving: Vec<(NodeRef, NodeRef)>,
    rechecks: BTreeMap<NodeRef, Time>,
    connected: bool,
}

/// Checks started at a time; what else is due follows at once, but not in one burst.
const CHECKS_AT_ONCE: usize = 16;
const NEXT_CHECKS: Duration = Duration::from_millis(100);

/// A node, and what the table has to gain by it at least for a PING to be worth it.
type Hint = (NodeRef, Opening);

/// Where in the table an ID belongs: which bucket, and which sixteenth of it.
type Place = (u16, u8);

impl Upkeep {
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeRef> {
        self.bootnodes()
            .chain(self.hints.iter().map(|(node, _)| *node))
            .chain(self.hinted.iter().copied())
            .chain(self.renewals.iter().copied())
            .chain(self.moving.iter().flat_map(|&(old, new)| [old, new]))
    }

    /// There is one member more than before.
    pub(super) fn gain(&mut self) {
        self.gained += 1;
    }

    /// Whether refreshes are as rare as they become while there may be something to gain.
    pub(super) fn is_calm(&self, config: &Config) -> bool {
        self.refresh_every >= config.refresh.max_room
    }

    pub(super) fn bootnodes(&self) -> impl Iterator<Item = NodeRef> {
        self.bootnodes.iter().filter_map(|bootnode| bootnode.node)
    }

    /// How much there is of what has a bound: bootnodes, hints, their PINGs, members to be asked anew, and those that may
    /// have moved.
    pub(super) fn sizes(&self) -> [usize; 5] {
        [self.bootnodes.len(), self.hints.len(), self.hinted.len(), self.renewals.len(), self.moving.len()]
    }

    pub(super) fn assert_bounds(&self, config: &Config) {
        assert!(self.bootnodes.len() <= config.refresh.max_bootnodes);
        assert!(self.hints.len() <= config.lookup.max_hints);
        assert!(self.hinted.len() <= config.lookup.max_hint_pings);
    }
}

// Members.
impl<C: Contacts> Engine<C> {
    pub(super) fn on_member(&mut self, now: Time, node: NodeRef) {
        self.emit(Event::NodeAdded(self.contacts.contact(node)));
        self.look_around_for(now, node);
        if !self.upkeep.connected {
            self.upkeep.connected = true;
            self.emit(Event::Contacts { any: true });
            if self.config.refresh.enabled {
                self.set_refresh(None);
                self.upkeep.refresh_every = Duration::ZERO;
                let target = *self.local_key();
                if self.start_lookup(now, target, Origin::Itself).is_none() {
                    self.set_refresh(Some(now + self.config.refresh.min));
                }
            }
        }
    }

    /// The table was filled from outside: the tasks begin at the pace of a settled node.
    pub(super) fn set_connected(&mut self, now: Time) {
        if self.upkeep.connected {
            return;
        }
        self.upkeep.connected = true;
        let every = self.config.refresh.max_full;
        self.upkeep.refresh_every = every;
        if self.config.refresh.enabled {
            let at = now + every.mul_f64(self.rng.random_range(0.0..1.0)).max(Duration::from_millis(1));
            self.set_refresh(Some(at));
        }
        self.set_checks(Some(now + Duration::from_millis(1)));
    }

    pub(super) fn forget_member(&mut self, node: NodeRef, why: Removal) {
        self.records.remove(&node);
        self.cancel_recheck(node);
        self.emit(Event::NodeRemoved(self.contacts.contact(node), why));
    }

    /// A member is gone; `replaced` says whether its place is taken.
    pub(super) fn on_member_lost(&mut self, now: Time, replaced: bool) {
        if !self.upkeep.connected {
            return;
        }
        if !self.table.is_empty() {
            // A smaller table is checked at a quicker pace, and one that shrinks looks around sooner.
            self.set_checks(Some(now + Duration::from_millis(1)));
            if let Some(at) = self.upkeep.refresh_at.filter(|_| !replaced) {
                self.upkeep.refresh_every = (self.upkeep.refresh_every / 2).max(self.config.refresh.min);
                self.set_refresh(Some(at.min(now + self.upkeep.refresh_every)));
            }
            return;
        }
        self.upkeep.connected = false;
        self.emit(Event::Contacts { any: false });
        self.set_refresh(None);
        self.begin_anew(now);
        self.upkeep.refresh_every = self.config.refresh.retry_min;
        self.seek_former(now);
    }

    /// With an empty table there is nobody to look around with. Former members are tried as bootnodes are, with the same
    /// waits: who began a network has no bootnodes.
    fn seek_former(&mut self, now: Time) {
        if !self.config.refresh.enabled || self.former.len() == 0 {
            return;
        }
        self.ping_former(now);
        let every = self.upkeep.refresh_every.max(Duration::from_millis(1));
        self.upkeep.refresh_every = (every * 2).min(self.config.refresh.retry_max);
        self.set_refresh(Some(now + every));
    }

    /// Makes sure that a member is checked when its time comes.
    pub(super) fn arm_checks(&mut self, now: Time, node: NodeRef) {
        let Some(entry) = self.table.get(node, &self.contacts) else { return };
        if !entry.is_live() {
            // It had failed a check when it was displaced, and was promoted now.
            self.recheck_later(now, node);
            return;
        }
        let at = self.table.check_at(entry, &self.config.table).max(now + Duration::from_millis(1));
        self.cancel_recheck(node);
        if self.upkeep.checks_at.is_none_or(|next| at < next) {
            self.set_checks(Some(at));
        }
    }

    pub(super) fn on_checks_due(&mut self, now: Time) {
        self.upkeep.checks_at = None;
        let mut due = Vec::new();
        let mut next = self.table.due_checks(now, &self.config.table, |node| due.push(node));
        let mut started = self.ping_renewals(now);
        if !self.upkeep.renewals.is_empty() {
            next = next.min(now + NEXT_CHECKS);
        }
        for node in due {
            let addr = self.contacts.endpoint(node).udp_addr();
            if self.requests.ping_to(node, addr).is_some() {
                continue;
            }
            if started >= CHECKS_AT_ONCE {
                next = next.min(now + NEXT_CHECKS);
                break;
            }
            if self.ping(now, node, Why::OwnAccord) {
                started += 1;
            } else {
                // Too much is under way to its address, which must not hold up the checks of others.
                next = next.min(now + NEXT_CHECKS);
            }
        }
        if next != Time::NEVER {
            self.set_checks(Some(next));
        }
    }

    pub(super) fn recheck_later(&mut self, now: Time, node: NodeRef) {
        self.cancel_recheck(node);
        let at = now + self.config.table.retry_check.max(Duration::from_millis(1));
        self.upkeep.rechecks.insert(node, at);
        self.timers.set(at, Timer::Recheck(node));
    }

    pub(super) fn on_recheck(&mut self, now: Time, node: NodeRef) {
        self.upkeep.rechecks.remove(&node);
        if !self.ping(now, node, Why::OwnAccord) {
            self.recheck_later(now, node);
        }
    }

    fn cancel_recheck(&mut self, node: NodeRef) {
        if let Some(at) = self.upkeep.rechecks.remove(&node) {
            self.timers.cancel(at, Timer::Recheck(node));
        }
    }

    fn set_checks(&mut self, at: Option<Time>) {
        if let Some(old) = std::mem::replace(&mut self.upkeep.checks_at, at) {
            self.timers.cancel(old, Timer::Checks);
        }
        if let Some(at) = at {
            self.timers.set(at, Timer::Checks);
        }
    }
}

// Hints.
impl<C: Contacts> Engine<C> {
    /// Considers a node that a NEIGHBORS named: it is only a hint, and is pinged if the table would gain by it at least
    /// what `least` says. Says whether it would.
    pub(super) fn hint_node(&mut self, now: Time, node: NodeRef, least: Opening) -> bool {
        if !self.config.refresh.enabled || self.opening(now, node).is_none_or(|opening| opening < least) {
            return false;
        }
        if self.upkeep.hints.len() < self.config.lookup.max_hints
            && !self.upkeep.hints.iter().any(|(hint, _)| *hint == node)
            && self.would_try(now, node, least)
        {
            self.upkeep.hints.push_back((node, least));
            self.try_hints(now);
        }
        true
    }

    pub(super) fn on_hint_ended(&mut self, now: Time, node: NodeRef) {
        self.upkeep.hinted.retain(|hinted| *hinted != node);
        self.try_hints(now);
    }

    /// Pings hints, as many at a time as there are places for.
    fn try_hints(&mut self, now: Time) {
        let most = self.config.lookup.max_hint_pings;
        if self.upkeep.hints.is_empty() || self.upkeep.hinted.len() >= most {
            return;
        }
        let mut waiting = std::mem::take(&mut self.upkeep.hints);
        let mut taken: Vec<Place> = self.upkeep.hinted.iter().map(|hinted| self.place_of(*hinted)).collect();
        waiting.retain(|&(node, least)| {
            let place = self.place_of(node);
            if taken.len() >= most || self.is_spoken_for(place, &taken) {
                return true;
            }
            // Counted before, since a PING that is not sent may end others at once.
            if self.would_try(now, node, least) {
                self.upkeep.hinted.push(node);
                if self.ping(now, node, Why::Hint) {
                    taken.push(place);
                } else {
                    self.upkeep.hinted.pop();
                }
            }
            false
        });
        waiting.append(&mut self.upkeep.hints);
        self.upkeep.hints = waiting;
    }

    /// Whether hints that are being pinged will take the places for which one of this place would do.
    fn is_spoken_for(&self, place: Place, taken: &[Place]) -> bool {
        // A bucket is to have one of each sixteenth.
        if taken.contains(&place) {
            return true;
        }
        let rivals = taken.iter().filter(|(log, _)| *log == place.0).count();
        let room = self.config.table.k.saturating_sub(self.table.bucket_len(place.0));
        room > 0 && rivals >= room
    }

    fn place_of(&self, node: NodeRef) -> Place {
        self.place(self.contacts.id(node))
    }

    fn place(&self, id: &NodeId) -> Place {
        let distance = self.local.node.key.id().distance(id);
        (distance.log(), distance.subrange())
    }

    fn would_try(&self, now: Time, node: NodeRef, least: Opening) -> bool {
        let addr = self.contacts.endpoint(node).udp_addr();
        self.requests.ping_to(node, addr).is_none()
            && !self.is_quiet(now, addr)
            && self.opening(now, node) >= Some(least)
    }

    /// Why a node could become a member at once, if it could.
    pub(super) fn opening(&self, now: Time, node: NodeRef) -> Option<Opening> {
        if self.is_shut_out(node) {
            return None;
        }
        let opening = self.table.opening(self.contacts.id(node), now, &self.contacts, &self.config.table)?;
        self.table.admits_network(node, &self.contacts, &self.config.table).then_some(opening)
    }
}
