//! The routing table: 256 k-buckets with replacement lists (Maymounkov and Mazières 2002; discv4 specification,
//! "Kademlia Table").
//!
//! Every node in it, replacements too, has proved its endpoint. Members stand oldest first and are never displaced while
//! they live, but in one case: a node that our own lookup found may take the place of one that has been a member of a
//! full bucket for less than an hour. Where the newcomer fills an empty sixteenth of the bucket's range, one of a
//! sixteenth with several has to yield: a bucket spread over its range shortens lookups. Else it has to come before a
//! member of its own sixteenth in an order that is a secret of each table: whom others name most often, the oldest nodes
//! and whoever pushes himself forward, would else be in everybody's table. A stranger that merely pinged us never
//! displaces anybody.

mod bucket;
mod check;
mod entry;
mod subnets;

use arrayvec::ArrayVec;
use rand::Rng;
use rand::seq::IndexedRandom;

use self::bucket::Bucket;
pub use self::bucket::Opening;
pub use self::entry::{Entry, Proof};
pub use self::subnets::limited_prefix;
use self::subnets::{Subnets, limits};
use crate::proto::config::{BUCKETS, K, TableConfig};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::NodeId;
use crate::proto::time::{Secs, Time};

/// The nodes of the table nearest to a target, nearest first.
pub type Closest = ArrayVec<NodeRef, K>;

/// What became of a node that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is a new member.
    Added,
    /// It is a new member in the place of another, which became a replacement.
    Displaced(NodeRef),
    /// It was a member already; its proof is noted.
    Refreshed,
    /// The member with its ID was at another endpoint and is here now.
    Moved(NodeRef),
    /// It waits for a place.
    Replacement,
    /// It was turned away.
    Refused(Refusal),
}

/// Why a node was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is the local node.
    Itself,
    /// Its bucket holds enough nodes of its network.
    BucketSubnet,
    /// The table does.
    TableSubnet,
    /// It was asked on the way to others.
    Passing,
    /// Its ID is a member at another endpoint, where it has just answered.
    OtherEndpoint,
    /// It was a member, and lost its place since it answered no FINDNODE.
    Unhelpful,
}

/// What became of a member that failed a check or was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is no member.
    Unknown,
    /// It stays, doubted, with this many failures in a row.
    Doubtful(u8),
    /// It is out, and this replacement has its place.
    Removed(Option<NodeRef>),
}

/// Where an ID belongs.
struct Position {
    id: NodeId,
    /// Which bucket: 1 to 256, 0 for the local node's own ID.
    log: u16,
    /// What [`Entry`] keeps of an ID.
    below: u32,
}

impl Position {
    /// Whether an entry of its bucket has its ID.
    fn is_of(&self, entry: &Entry, contacts: &impl Contacts) -> bool {
        entry.below == self.below && *contacts.id(entry.node) == self.id
    }
}

/// The table of one node.
#[derive(Clone, Debug)]
pub struct Table {
    local: NodeId,
    /// What the order in a sixteenth follows from. Nobody else knows it.
    secret: u128,
    /// By falling log distance: 256 first. Nothing stands behind the deepest bucket that was ever used.
    buckets: Vec<Bucket>,
    subnets: Subnets,
    len: usize,
}

impl Table {
    /// An empty table for the node with this ID. `secret`, a random number, decides whom it prefers of nodes that are
    /// equally good.
    pub fn new(local: NodeId, secret: u128) -> Self {
        Self { local, secret, buckets: Vec::new(), subnets: Subnets::default(), len: 0 }
    }

    /// Decides anew whom it prefers of nodes that are equally good. Whoever is in stays.
    pub fn set_order(&mut self, secret: u128) {
        self.secret = secret;
    }

    /// Members, replacements not counted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Members in the bucket of a log distance, 1 to 256.
    pub fn bucket_len(&self, log_distance: u16) -> usize {
        self.bucket(log_distance).map_or(0, |bucket| bucket.entries.len())
    }

    /// The entry of a member.
    pub fn get(&self, node: NodeRef, contacts: &impl Contacts) -> Option<&Entry> {
        self.bucket(self.log(node, contacts))?.entries.iter().find(|entry| entry.node == node)
    }

    /// The member with this ID, wherever it is.
    pub fn find(&self, id: &NodeId, contacts: &impl Contacts) -> Option<&Entry> {
        let place = self.place(id);
        self.bucket(place.log)?.entries.iter().find(|entry| place.is_of(entry, contacts))
    }

    /// The entry of a replacement.
    pub fn replacement(&self, node: NodeRef, contacts: &impl Contacts) -> Option<&Entry> {
        self.bucket(self.log(node, contacts))?.replacements.iter().find(|entry| entry.node == node)
    }

    /// All members with their log distance, far buckets first, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = (u16, &Entry)> {
        self.buckets.iter().enumerate().flat_map(|(at, b)| b.entries.iter().map(move |entry| (log_of(at), entry)))
    }

    /// All replacements with their log distance.
    pub fn replacements(&self) -> impl Iterator<Item = (u16, &Entry)> {
        self.buckets.iter().enumerate().flat_map(|(at, b)| b.replacements.iter().map(move |entry| (log_of(at), entry)))
    }

    /// Why a node of this ID could become a member at once, if it could. To those that our own lookups have not found only
    /// [`Opening::Room`] is open.
    pub fn opening(&self, id: &NodeId, now: Time, contacts: &impl Contacts, config: &TableConfig) -> Option<Opening> {
        let place = self.place(id);
        match (place.log, self.bucket(place.log)) {
            (0, _) => None,
            (_, None) => Some(Opening::Room),
            (_, Some(bucket)) if bucket.entries.iter().any(|entry| place.is_of(entry, contacts)) => None,
            (_, Some(bucket)) => bucket.opening(place.below, self.secret, now, config).map(|(why, _)| why),
        }
    }

    /// The place of a node in the order of its sixteenth; the first comes first. See [`Opening::Rank`].
    pub fn rank(&self, id: &NodeId) -> u64 {
        bucket::rank(self.place(id).below, self.secret)
    }

    /// The members of full buckets that may have to yield to others of their sixteenth.
    pub fn unsettled<'a>(&'a self, now: Time, config: &'a TableConfig) -> impl Iterator<Item = &'a Entry> {
        self.buckets.iter().flat_map(move |bucket| bucket.unsettled(now, config).map(|(_, entry)| entry))
    }

    /// The buckets that have room though the k nearest members are all nearer: each with a random one of its members.
    pub fn sparse_buckets(&self, config: &TableConfig, rng: &mut impl Rng) -> Vec<(u16, NodeRef)> {
        let mut nearer = 0;
        let mut sparse = Vec::new();
        for (at, bucket) in self.buckets.iter().enumerate().rev() {
            if nearer >= config.k
                && bucket.entries.len() < config.k
                && let Some(entry) = bucket.entries.choose(rng)
            {
                sparse.push((log_of(at), entry.node));
            }
            nearer += bucket.entries.len();
        }
        sparse
    }

    /// Whether the limits on nodes of one network would let this node in.
    pub fn admits_network(&self, node: NodeRef, contacts: &impl Contacts, config: &TableConfig) -> bool {
        self.over_limit(self.log(node, contacts), node, contacts, config).is_none()
    }

    /// Offers a node that has just proved itself.
    ///
    /// `by_lookup` says that we contacted it of our own accord, because a lookup or a configured contact led to it.
    pub fn offer(
        &mut self,
        node: NodeRef,
        proof: Proof,
        by_lookup: bool,
        now: Time,
        contacts: &impl Contacts,
        config: &TableConfig,
    ) -> Offer {
        let id = *contacts.id(node);
        let place = self.place(&id);
        let log = place.log;
        if log == 0 {
            return Offer::Refused(Refusal::Itself);
        }
        if let Some(entry) = self.bucket_mut(log).entries.iter_mut().find(|entry| entry.node == node) {
            entry.succeed(proof);
            return Offer::Refreshed;
        }
        let known = self.bucket_mut(log).entries.iter().position(|entry| place.is_of(entry, contacts));
        if let Some(at) = known {
            return self.relocate(log, at, node, proof, now, contacts, config);
        }
        let bucket = self.bucket_mut(log);
        let waiting = bucket.replacements.iter().position(|entry| place.is_of(entry, contacts));
        let old = waiting.map(|at| (at, bucket.replacements.remove(at)));
        // The limits must not count the place that it leaves.
        if let Some((_, old)) = old {
            self.count_out(old.node, contacts, config);
        }
        if let Some(refusal) = self.over_limit(log, node, contacts, config) {
            if let Some((at, old)) = old {
                self.bucket_mut(log).replacements.insert(at, old);
                self.count_in(old.node, contacts, config);
            }
            return Offer::Refused(refusal);
        }
        self.count_in(node, contacts, config);
        let mut entry = Entry::new(node, place.below, proof, now);
        if let Some((_, old)) = old {
            entry.endorsed = entry.endorsed.max(old.endorsed);
        }
        let secret = self.secret;
        let bucket = self.bucket_mut(log);
        match bucket.opening(place.below, secret, now, config) {
            Some((_, None)) => {
                bucket.entries.push(entry);
                self.len += 1;
                Offer::Added
            }
            Some((_, Some(at))) if by_lookup => {
                let displaced = bucket.entries.remove(at);
                bucket.entries.push(entry);
                self.keep_as_replacement(log, displaced, contacts, config);
                Offer::Displaced(displaced.node)
            }
            _ => {
                self.keep_as_replacement(log, entry, contacts, config);
                Offer::Replacement
            }
        }
    }

    /// Notes when we answered a PING of a member or replacement.
    pub fn endorse(&mut self, node: NodeRef, now: Time, contacts: &impl Contacts) -> bool {
        self.update(node, contacts, |entry| entry.endorsed = now.secs())
    }

    /// Forgets that the node has a proof of us: it did not answer as one that has.
    pub fn forget_endorsement(&mut self, node: NodeRef, contacts: &impl Contacts) -> bool {
        self.update(node, contacts, |entry| entry.endorsed = Secs::NEVER)
    }

    /// Forgets that anybody has a proof of us.
    pub fn forget_endorsements(&mut self) {
        for bucket in &mut self.buckets {
            for entry in bucket.entries.iter_mut().chain(&mut bucket.replacements) {
                entry.endorsed = Secs::NEVER;
            }
        }
    }

    /// Counts a member as one that has passed many checks.
    pub fn trust(&mut self, node: NodeRef, contacts: &impl Contacts) -> bool {
        self.update(node, contacts, Entry::trust)
    }

    /// Counts a failed check. A member that has failed too often goes, and a replacement takes its place.
    pub fn fail(&mut self, node: NodeRef, contacts: &impl Contacts, config: &TableConfig) -> Verdict {
        let log = self.log(node, contacts);
        if log == 0 {
            return Verdict::Unknown;
        }
        let Some(entry) = self.bucket_mut(log).entries.iter_mut().find(|entry| entry.node == node) else {
            return Verdict::Unknown;
        };
        match entry.fail() {
            fails if fails < config.max_fails => Verdict::Doubtful(fails),
            _ => self.remove(node, contacts, config),
        }
    }

    /// Takes a member out; a replacement takes its place.
    pub fn remove(&mut self, node: NodeRef, contacts: &impl Contacts, config: &TableConfig) -> Verdict {
        let log = self.log(node, contacts);
        if log == 0 {
            return Verdict::Unknown;
        }
        let bucket = self.bucket_mut(log);
        let Some(at) = bucket.entries.iter().position(|entry| entry.node == node) else {
            return Verdict::Unknown;
        };
        bucket.entries.remove(at);
        let promoted = bucket.choose_replacement(config).map(|at| bucket.replacements.remove(at));
        match promoted {
            Some(mut entry) => {
                entry.forgive();
                self.bucket_mut(log).entries.push(entry);
            }
            None => self.len -= 1,
        }
        self.count_out(node, contacts, config);
        Verdict::Removed(promoted.map(|entry| entry.node))
    }

    /// Collects into `out` the (at most k) members nearest to `target` that `wanted` lets through, nearest first.
    ///
    /// Buckets are visited in the order of their distance to the target, until there are enough. The highest bit in
    /// which a member differs from the local node names its bucket. Where the target differs in that bit too, the member
    /// is nearer to it than the local node is, and the higher the bit, the nearer; else it is farther, and the lower the
    /// bit, the nearer.
    pub fn closest(
        &self,
        target: &NodeId,
        contacts: &impl Contacts,
        limit: usize,
        mut wanted: impl FnMut(&Entry) -> bool,
        out: &mut Closest,
    ) {
        out.clear();
        let limit = limit.min(K);
        let distance = self.local.distance(target);
        let differs = |at: &usize| distance.0[at / 8] >> (7 - at % 8) & 1 == 1;
        let nearer = (0..self.buckets.len()).filter(differs);
        let farther = (0..self.buckets.len()).rev().filter(|at| !differs(at));
        for at in nearer.chain(farther) {
            if out.len() == limit {
                break;
            }
            let entries = &self.buckets[at].entries;
            if entries.is_empty() {
                continue;
            }
            // The members of a bucket are as near as the bits tell in which they differ.
            let below = distance.below(log_of(at));
            let mut nearest: ArrayVec<(u32, NodeRef), K> =
                entries.iter().filter(|entry| wanted(entry)).map(|entry| (entry.below ^ below, entry.node)).collect();
            let full = |node: NodeRef| target.distance(contacts.id(node));
            nearest.sort_unstable_by(|(a, one), (b, other)| a.cmp(b).then_with(|| full(*one).cmp(&full(*other))));
            out.extend(nearest.iter().map(|&(_, node)| node).take(limit - out.len()));
        }
    }

    /// Panics when an invariant does not hold; for tests and fuzzers.
    #[doc(hidden)]
    pub fn assert_invariants(&self, now: Time, contacts: &impl Contacts, config: &TableConfig) {
        let mut ids = std::collections::BTreeSet::new();
        let mut subnets = Subnets::default();
        let mut len = 0;
        assert!(self.buckets.len() <= BUCKETS);
        for (at, bucket) in self.buckets.iter().enumerate() {
            assert!(bucket.entries.len() <= config.k && bucket.replacements.len() <= config.replacements);
            assert!(
                bucket.replacements.is_empty() || bucket.entries.len() == config.k,
                "a place is free and not taken"
            );
            len += bucket.entries.len();
            let mut in_bucket = Subnets::default();
            for entry in bucket.entries.iter().chain(&bucket.replacements) {
                assert_eq!(self.log(entry.node, contacts), log_of(at), "in the wrong bucket");
                assert_eq!(entry.below, self.place(contacts.id(entry.node)).below);
                assert!(ids.insert(*contacts.id(entry.node)), "twice in the table");
                assert!(entry.proved.happened() && entry.proved <= now.secs(), "a member has proved itself");
                assert!(entry.fails() < config.max_fails);
                if let Some(prefix) = limited_prefix(contacts.endpoint(entry.node).ip, config) {
                    subnets.add(prefix);
                    in_bucket.add(prefix);
                    let (per_bucket, per_table) = limits(prefix, config);
                    assert!(in_bucket.count(prefix) <= per_bucket && subnets.count(prefix) <= per_table);
                }
            }
        }
        assert_eq!(len, self.len);
        assert_eq!(subnets, self.subnets, "the counts of networks have drifted from the entries");
    }

    fn update(&mut self, node: NodeRef, contacts: &impl Contacts, change: impl FnOnce(&mut Entry)) -> bool {
        let log = self.log(node, contacts);
        if self.bucket(log).is_none() {
            return false;
        }
        let bucket = self.bucket_mut(log);
        let entry = bucket.entries.iter_mut().chain(&mut bucket.replacements).find(|entry| entry.node == node);
        entry.map(change).is_some()
    }

    #[expect(clippy::too_many_arguments, reason = "one place calls it, with all that it has")]
    fn relocate(
        &mut self,
        log: u16,
        at: usize,
        node: NodeRef,
        proof: Proof,
        now: Time,
        contacts: &impl Contacts,
        config: &TableConfig,
    ) -> Offer {
        let entry = self.bucket_mut(log).entries[at];
        if entry.is_live() && entry.proved.age(now) < config.move_after {
            return Offer::Refused(Refusal::OtherEndpoint);
        }
        self.count_out(entry.node, contacts, config);
        // The limit of the bucket must not count the place that it leaves.
        let old = self.bucket_mut(log).entries.remove(at);
        if let Some(refusal) = self.over_limit(log, node, contacts, config) {
            self.bucket_mut(log).entries.insert(at, old);
            self.count_in(old.node, contacts, config);
            return Offer::Refused(refusal);
        }
        let mut moved = old;
        moved.node = node;
        moved.succeed(proof);
        self.bucket_mut(log).entries.insert(at, moved);
        self.count_in(node, contacts, config);
        Offer::Moved(old.node)
    }

    fn keep_as_replacement(&mut self, log: u16, entry: Entry, contacts: &impl Contacts, config: &TableConfig) {
        let bucket = self.bucket_mut(log);
        bucket.replacements.push(entry);
        if bucket.replacements.len() > config.replacements {
            let oldest = bucket.replacements.remove(0);
            self.count_out(oldest.node, contacts, config);
        }
    }

    fn over_limit(&self, log: u16, node: NodeRef, contacts: &impl Contacts, config: &TableConfig) -> Option<Refusal> {
        let prefix = limited_prefix(contacts.endpoint(node).ip, config)?;
        let (per_bucket, per_table) = limits(prefix, config);
        let same = |entry: &&Entry| limited_prefix(contacts.endpoint(entry.node).ip, config) == Some(prefix);
        let in_bucket = self.bucket(log).map_or(0, |b| b.entries.iter().chain(&b.replacements).filter(same).count());
        if in_bucket >= per_bucket {
            Some(Refusal::BucketSubnet)
        } else if self.subnets.count(prefix) >= per_table {
            Some(Refusal::TableSubnet)
        } else {
            None
        }
    }

    fn count_in(&mut self, node: NodeRef, contacts: &impl Contacts, config: &TableConfig) {
        if let Some(prefix) = limited_prefix(contacts.endpoint(node).ip, config) {
            self.subnets.add(prefix);
        }
    }

    fn count_out(&mut self, node: NodeRef, contacts: &impl Contacts, config: &TableConfig) {
        if let Some(prefix) = limited_prefix(contacts.endpoint(node).ip, config) {
            self.subnets.remove(prefix);
        }
    }

    fn place(&self, id: &NodeId) -> Position {
        let distance = self.local.distance(id);
        let log = distance.log();
        Position { id: *id, log, below: distance.below(log.max(1)) }
    }

    fn log(&self, node: NodeRef, contacts: &impl Contacts) -> u16 {
        self.local.log_distance(contacts.id(node))
    }

    fn bucket(&self, log: u16) -> Option<&Bucket> {
        if log == 0 { None } else { self.buckets.get(index(log)) }
    }

    /// The bucket of a log distance of at least 1, made when it is not there yet.
    fn bucket_mut(&mut self, log: u16) -> &mut Bucket {
        let at = index(log);
        if self.buckets.len() <= at {
            self.buckets.resize_with(at + 1, Bucket::default);
        }
        &mut self.buckets[at]
    }
}

fn index(log: u16) -> usize {
    BUCKETS - usize::from(log)
}

fn log_of(index: usize) -> u16 {
    (BUCKETS - index) as u16
}

#[cfg(test)]
mod tests;
