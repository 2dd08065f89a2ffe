//! Refresh: looking for those whom the table lacks, and for a sample of all others.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::engine::bond::Why;
use crate::proto::engine::upkeep::{Bootnode, Place};
use crate::proto::engine::{Engine, Origin, Timer};
use crate::proto::identity::PublicKey;
use crate::proto::table::Opening;
use crate::proto::time::Time;

/// Random targets drawn for a refresh at most: enough for the places of the two farthest buckets, and most of the third.
const TARGETS_DRAWN: usize = 128;

/// Places that a refresh looks for somebody for, beside the own neighbourhood.
const TARGETS: usize = 8;

/// The next refresh follows soon when at least one member in this many has come in since the last one.
const GAIN: usize = 8;

/// The table counts as full when its farthest buckets are: this many, which is so in networks of some 100 nodes.
const FAR_BUCKETS: u16 = 3;

impl<C: Contacts> Engine<C> {
    pub(in crate::proto::engine) fn on_refresh_due(&mut self, now: Time) {
        self.upkeep.refresh_at = None;
        if self.table.is_empty() {
            self.seek_former(now);
            return;
        }
        // Our own neighbourhood, which only we look for so closely, and some other places.
        let own = *self.local_key();
        let mut started = self.start_lookup(now, own, Origin::Itself).is_some();
        let bootnode = self.upkeep.bootnodes.choose(&mut self.rng).cloned();
        let mut through =
            bootnode.as_ref().filter(|bootnode| bootnode.heard && self.is_young(now)).and_then(|b| b.node);
        for target in self.refresh_targets(now) {
            // Whoever came first may have filled the table with his own, who name one another. The bootnode was chosen.
            started |= match through.take() {
                Some(bootnode) => self.start_lookup_at(now, target, Origin::Refresh, bootnode).is_some(),
                None => self.start_lookup(now, target, Origin::Refresh).is_some(),
            };
        }
        started |= self.estimate_size(now);
        if !started {
            self.set_refresh(Some(now + self.config.refresh.min));
        }
        // The halves of a network that was split find each other again through bootnodes that all know.
        match bootnode {
            Some(Bootnode { node: Some(node), .. }) => {
                self.ping(now, node, Why::Told);
            }
            Some(Bootnode { address: Some((addr, _)), .. }) => {
                self.knock(now, addr);
            }
            _ => {}
        }
    }

    /// Looks around sooner than was planned.
    pub(in crate::proto::engine) fn refresh_soon(&mut self, now: Time) {
        let soon = now + self.config.refresh.min;
        if let Some(at) = self.upkeep.refresh_at.filter(|at| *at > soon && !self.table.is_empty()) {
            self.upkeep.refresh_every = self.config.refresh.min;
            self.set_refresh(Some(at.min(soon)));
        }
    }

    /// A lookup of the refresh task has ended. When it was the last, the next follow soon while the table gains by them,
    /// and ever later when it does not.
    pub(in crate::proto::engine) fn on_refresh_ended(&mut self, now: Time) {
        if self.table.is_empty() || self.lookups.values().any(|task| task.is_upkeep()) {
            return;
        }
        let config = &self.config.refresh;
        let far = 257 - FAR_BUCKETS..=256;
        let full = far.into_iter().all(|log| self.table.bucket_len(log) >= self.config.table.k);
        let longest = if full && !self.is_young(now) { config.max_full } else { config.max_room };
        let every = match (self.upkeep.refresh_every, self.upkeep.gained) {
            // The first look around is over, and has shown only the neighbourhood.
            (Duration::ZERO, _) => Duration::from_millis(1),
            (_, gained) if GAIN * gained as usize >= self.table.len() => config.min,
            (last, _) => (last * 2).clamp(config.min, longest.max(config.min)),
        };
        self.upkeep.refresh_every = every;
        self.upkeep.gained = 0;
        // Up to an eighth earlier, so that nodes that started together do not stay together.
        let early = self.upkeep.refresh_every.mul_f64(self.rng.random_range(0.0..0.125));
        let at = now + (self.upkeep.refresh_every - early).max(Duration::from_millis(1));
        self.set_refresh(Some(at));
    }

    pub(super) fn set_refresh(&mut self, at: Option<Time>) {
        if let Some(old) = std::mem::replace(&mut self.upkeep.refresh_at, at) {
            self.timers.cancel(old, Timer::Refresh);
        }
        if let Some(at) = at {
            self.timers.set(at, Timer::Refresh);
        }
    }

    /// Whether half of the table are members of full buckets that came in a short time ago: whom it met first is not whom
    /// it is to keep.
    pub(in crate::proto::engine) fn is_young(&self, now: Time) -> bool {
        let unsettled = self.table.unsettled(now, &self.config.table);
        2 * unsettled.filter(|entry| entry.age(now) < self.config.refresh.sample_for).count() >= self.table.len()
    }

    /// What those who are nearest to the target of a refresh have to offer at least. Under churn there are always some
    /// who have not yet settled, and are better than whoever has just come.
    pub(in crate::proto::engine) fn wanted_of_refresh(&self, now: Time) -> Opening {
        if self.is_young(now) { Opening::Rank } else { Opening::EmptySixteenth }
    }

    /// Targets for up to eight lookups, each for another place, as a rule a sixteenth of a far bucket.
    ///
    /// First come places that lack somebody. Where a node belongs that has proved itself to us, its key is the target; but
    /// whoever pings us with many keys decides on half of the targets at most. Else far buckets are hit by chance. One
    /// that is nearer, has room, and is no part of the neighbourhood is looked into with the key of one of its members:
    /// its neighbours are in that bucket as well.
    ///
    /// While the table is young, places whose member may have to yield come next, with a random target or its own key. If
    /// there is none of all these, one target anywhere is enough.
    fn refresh_targets(&mut self, now: Time) -> Vec<PublicKey> {
        let known = self.proofs.nodes().filter(|node| self.has_proved(now, *node) && !self.known(*node).lost);
        let known = known.filter(|node| self.opening(now, *node) >= Some(Opening::EmptySixteenth));
        let known = self.one_of_each_place(known);
        let known: Vec<(Place, PublicKey)> = known.sample(&mut self.rng, TARGETS / 2).copied().collect();
        let mut lacking: BTreeMap<Place, PublicKey> = known.iter().copied().collect();
        let mut others = BTreeMap::new();
        let mut target = PublicKey([0; 64]);
        for _ in 0..TARGETS_DRAWN {
            if lacking.len() >= TARGETS {
                break;
            }
            self.rng.fill(&mut target.0);
            let id = target.node_id();
            let opening = self.table.opening(&id, now, &self.contacts, &self.config.table);
            let places = if opening >= Some(Opening::EmptySixteenth) { &mut lacking } else { &mut others };
            places.entry(self.place(&id)).or_insert(target);
        }
        for (log, member) in self.table.sparse_buckets(&self.config.table, &mut self.rng) {
            lacking.entry((log, 0)).or_insert_with(|| *self.contacts.key(member));
        }
        let lacking: Vec<PublicKey> = lacking.into_values().collect();
        let mut targets: Vec<PublicKey> = lacking.sample(&mut self.rng, TARGETS).copied().collect();
        if self.is_young(now) {
            let unsettled = self.table.unsettled(now, &self.config.table).map(|entry| entry.node);
            let unsettled = self.one_of_each_place(unsettled);
            for (place, key) in unsettled.sample(&mut self.rng, TARGETS - targets.len()) {
                targets.push(*others.get(place).unwrap_or(key));
            }
        }
        // Where nothing else lacks, as much again goes anywhere.
        let named = targets.iter().filter(|target| known.iter().any(|(_, key)| key == *target)).count();
        while targets.is_empty() || targets.len() < 2 * named {
            self.rng.fill(&mut target.0);
            targets.push(target);
        }
        targets
    }

    /// The places of some nodes, each with the key of one of them.
    fn one_of_each_place(&self, nodes: impl Iterator<Item = NodeRef>) -> Vec<(Place, PublicKey)> {
        let by_place: BTreeMap<Place, NodeRef> = nodes.map(|node| (self.place_of(node), node)).collect();
        by_place.into_iter().map(|(place, node)| (place, *self.contacts.key(node))).collect()
    }
}
