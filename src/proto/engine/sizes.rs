//! How much the engine holds, and how much it may.

use std::mem::size_of;

use super::errands::Errand;
use super::knocks::MAX_KNOCKS;
use super::output::Step;
use super::requests::Request;
use super::search::Task;
use super::upkeep::Bootnode;
use super::upkeep::renewal::MAX_MOVING;
use super::{Engine, MAX_QUIET, MAX_SPARE};
use crate::proto::config::{BUCKETS, MAX_PATHS};
use crate::proto::contacts::Contacts;
use crate::proto::identity::{MAX_RECORD_LEN, Record};
use crate::proto::lookup::Candidate;
use crate::proto::table::Entry;
use crate::proto::wire::{Neighbors, NodeEntry};

/// The size of one map, list or queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Its name in `docs/limits.md`.
    pub what: &'static str,
    /// What it holds now.
    pub holds: usize,
    /// The most that it ever holds.
    pub bound: usize,
    /// Bytes that one takes in memory, about: its own, what it points to, and what finds it.
    pub bytes: usize,
}

impl<C: Contacts> Engine<C> {
    /// The sizes of all that grows with what others send.
    pub fn sizes(&self) -> Vec<Size> {
        let config = &self.config;
        let pending = config.requests.max_pending;
        let entry = size_of::<Entry>();
        let candidates = self.lookups.values().map(Task::candidates).max().unwrap_or(0);
        let lookup = MAX_PATHS * config.lookup.max_candidates * size_of::<Candidate>()
            + config.lookup.max_queries * size_of::<Step>();
        // The nearest buckets have room for all the IDs that there are in them.
        let ids = |log: usize| 1_usize.checked_shl(log as u32 - 1).unwrap_or(usize::MAX);
        let members = (1..=BUCKETS).map(|log| ids(log).min(config.table.k)).sum();
        let replacements =
            (1..=BUCKETS).map(|log| (ids(log).saturating_sub(config.table.k)).min(config.table.replacements)).sum();
        let mut sizes = vec![
            size("members", self.table.len(), members, entry),
            size("replacements", self.table.replacements().count(), replacements, entry),
            size("proofs", self.proofs.len(), 2 * config.max_proofs - 1, 16),
            size("requests", self.requests.len(), pending, size_of::<Request>() + 96),
            size("errands", self.errands.len(), pending, size_of::<Errand>() + 64),
            size("commands that wait for a PONG", self.pings_wanted.len(), pending, 16),
            size("addresses knocked at", self.knocks.len(), MAX_KNOCKS, 128),
            size("commands that wait for an address", self.knocks.wanted(), pending, 80),
            size("lookups", self.lookups.len(), config.lookup.max_lookups, size_of::<Task>() + lookup),
            size("candidates of a path", candidates, config.lookup.max_candidates, size_of::<Candidate>()),
            size("strangers left in peace", self.quiet.len(), MAX_QUIET, 40),
            size("records", self.records.len(), members, size_of::<Record>() + MAX_RECORD_LEN),
            size("votes", self.votes.len(), config.votes.max_votes, 64),
            size("former members", self.former.len(), config.refresh.max_former, 4),
            size("spare lists of nodes", self.spare.len(), MAX_SPARE, Neighbors::MAX_SENT * size_of::<NodeEntry>()),
        ];
        let [bootnodes, hints, hint_pings, renewals, moving] = self.upkeep.sizes();
        sizes.extend([
            size("configured contacts", bootnodes, config.refresh.max_bootnodes, size_of::<Bootnode>()),
            size("hints", hints, config.lookup.max_hints, 8),
            size("hints under way", hint_pings, config.lookup.max_hint_pings, 4),
            size("members to be asked anew", renewals, members, 4),
            size("members that may have moved", moving, MAX_MOVING, 8),
        ]);
        sizes.extend(self.contacts.size().map(|(holds, bound)| size("contacts", holds, bound, 350)));
        let (sources, bound) = self.admission.sources(&config.limits);
        sizes.push(size("sources with a bucket", sources, bound, 16));
        sizes
    }
}

fn size(what: &'static str, holds: usize, bound: usize, bytes: usize) -> Size {
    Size { what, holds, bound, bytes }
}
