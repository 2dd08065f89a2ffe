//! Alarms: signs that somebody tries to surround this node.
//!
//! IDs are hashes, so nodes lie at random, and of a network of n nodes about n d / 2^256 are within a distance d of any
//! point. Lookups for random targets tell n; when far more nodes than that are near to our own ID, they were made for the
//! place. And a network prefix that goes on bringing new identities after the table has all that it takes of it is
//! one machine, or one liar, with many keys.
//!
//! What counts has answered us, be it here or in a lookup. Alarms change nothing that the node does; limits do that.

use std::fmt;

use super::skew::SkewSentence;
use super::{Engine, Event, Origin};
use crate::proto::config::{AlarmConfig, K};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::{Distance, NodeId, Prefix, PublicKey};
use crate::proto::lookup::{Candidate, Lookup};
use crate::proto::time::{Secs, Time};

/// Something that the operator of a node should know of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alarm {
    /// The IDs of nodes near to this one are denser than chance allows.
    Crowded {
        /// How many nodes are as near as the farthest of them.
        nodes: usize,
        /// How many would be there by chance.
        expected: f64,
        /// How many nodes the network has, about.
        network: u64,
    },
    /// One network prefix supplies more identities than the table takes of it.
    OneNetwork {
        /// Which one.
        prefix: Prefix,
        /// How many different ones were refused within an hour.
        identities: usize,
    },
    /// The clock of this host differs from that of its peers.
    ClockSkew {
        /// By how many seconds it is ahead; less than zero when it is behind.
        ahead: i64,
    },
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Alarm::Crowded { nodes, expected, network } => {
                write!(f, "{nodes} nodes have IDs close to this node's own, where chance would put ")?;
                match expected {
                    ..0.01 => f.write_str("less than 0.01")?,
                    _ => write!(f, "about {expected:.2}")?,
                }
                write!(f, " of the network's {network} or so: somebody may be trying to surround this node")
            }
            Alarm::OneNetwork { prefix, identities } => {
                write!(f, "{identities} more nodes of {} ", Cidr(prefix))?;
                f.write_str("than the table takes have turned up within an hour: somebody runs many identities there")
            }
            Alarm::ClockSkew { ahead } => SkewSentence(ahead).fmt(f),
        }
    }
}

/// A prefix as people write it.
struct Cidr(Prefix);

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Prefix::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Prefix::V6(high) => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(&high);
                write!(f, "{}/64", std::net::Ipv6Addr::from(octets))
            }
        }
    }
}

/// Estimates of the size of the network that are kept, the newest: the error of one is some 27 %, that of the median of
/// sixteen below 10 %.
const MAX_SIZES: usize = 16;

/// With fewer estimates nothing is said of the neighbourhood: the median of three is within a factor of 2, but for one
/// case in some 100,000.
const MIN_SIZES: usize = 3;

/// Nor in networks of fewer nodes: a few of one operator are a crowd there.
const MIN_NETWORK: f64 = 64.0;

/// How many of the nearest nodes are looked at, at least and at most: three may be near by chance, and a lookup brings 16.
const NEAREST: std::ops::RangeInclusive<usize> = 4..=K;

/// The chance below which it was no chance: with a million nodes that look at their neighbourhood one is wrong.
const CHANCE: f64 = 1e-6;

/// The size of the network may be twice the estimate.
const ERROR_OF_SIZE: f64 = 2.0;

/// Where more nodes than this are expected, so much for the error included, sixteen are no alarm: their chance is 5e-6.
const NEAR: f64 = 4.0;

/// Identities of one prefix, refused within an hour, that are one too many: three times what the whole table takes of a /24.
const IDENTITIES: usize = 32;

/// Prefixes that are counted; at the bound the one with the fewest identities goes. At most some 20 kB in all.
const MAX_SUPPLIERS: usize = 64;

/// How long an identity counts, and the time between two alarms of one kind.
const HOUR: std::time::Duration = std::time::Duration::from_hours(1);

/// What has been noted; no memory while there is nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarms(Option<Box<Signs>>);

#[derive(Clone, Debug, Default)]
struct Signs {
    /// Oldest first.
    sizes: Vec<Size>,
    crowded: Condition,
    suppliers: Vec<Supplier>,
    /// When an alarm of a supplier was last raised.
    supplied: Option<Time>,
}

/// How many nodes there are, by one lookup.
#[derive(Clone, Copy, Debug)]
struct Size {
    at: Time,
    /// The start of the target: who looks for one thing again and again has one estimate of it.
    target: u32,
    nodes: f64,
}

/// Something that raises one alarm as long as it lasts, and one an hour at most.
#[derive(Clone, Copy, Debug, Default)]
struct Condition {
    stands: bool,
    raised: Option<Time>,
}

impl Condition {
    /// Says whether to raise the alarm.
    fn note(&mut self, holds: bool, now: Time) -> bool {
        if !holds {
            self.stands = false;
        }
        if !holds || self.stands || is_recent(self.raised, now) {
            return false;
        }
        *self = Self { stands: true, raised: Some(now) };
        true
    }
}

#[derive(Clone, Debug)]
struct Supplier {
    prefix: Prefix,
    /// The ends of the IDs that were refused, and when last; oldest first.
    refused: Vec<(Secs, u32)>,
    stands: bool,
}

impl Alarms {
    /// Notes what a lookup says of the size of the network.
    fn note_size(&mut self, now: Time, target: &NodeId, nodes: f64) {
        let sizes = &mut self.0.get_or_insert_default().sizes;
        let target = start_of(target);
        sizes.retain(|size| size.target != target);
        if sizes.len() >= MAX_SIZES {
            sizes.remove(0);
        }
        sizes.push(Size { at: now, target, nodes });
    }

    /// How many nodes the network has: the median of the estimates, if that says enough.
    fn network(&self) -> Option<f64> {
        let sizes = &self.0.as_ref()?.sizes;
        let mut nodes: Vec<f64> = sizes.iter().map(|size| size.nodes).collect();
        nodes.sort_unstable_by(f64::total_cmp);
        let median = *nodes.get(nodes.len() / 2)?;
        (nodes.len() >= MIN_SIZES && median >= MIN_NETWORK).then_some(median)
    }

    /// Whether there is another estimate to be made.
    fn wants_size(&self, now: Time, config: &AlarmConfig) -> bool {
        let sizes = self.0.as_ref().map_or(&[][..], |signs| &signs.sizes[..]);
        sizes.len() < MIN_SIZES || sizes.last().is_none_or(|last| now.since(last.at) >= config.estimate_every)
    }

    /// Counts an identity that was refused for its prefix, and returns how many there are when that raises an alarm.
    fn note_refused(&mut self, now: Time, prefix: Prefix, id: &NodeId) -> Option<usize> {
        let signs = self.0.get_or_insert_default();
        let at = match signs.suppliers.iter().position(|supplier| supplier.prefix == prefix) {
            Some(at) => at,
            None => {
                signs.make_room(now);
                signs.suppliers.push(Supplier { prefix, refused: Vec::new(), stands: false });
                signs.suppliers.len() - 1
            }
        };
        let supplier = &mut signs.suppliers[at];
        let identity = end_of(id);
        supplier.refused.retain(|(last, other)| last.within(HOUR, now) && *other != identity);
        if supplier.refused.len() >= IDENTITIES {
            supplier.refused.remove(0);
        }
        supplier.refused.push((now.secs(), identity));
        let count = supplier.refused.len();
        if count < IDENTITIES {
            supplier.stands = false;
        }
        if count < IDENTITIES || supplier.stands || is_recent(signs.supplied, now) {
            return None;
        }
        supplier.stands = true;
        signs.supplied = Some(now);
        Some(count)
    }

    pub(super) fn assert_bounds(&self) {
        let Some(signs) = &self.0 else { return };
        assert!(signs.sizes.len() <= MAX_SIZES && signs.suppliers.len() <= MAX_SUPPLIERS);
        assert!(signs.suppliers.iter().all(|supplier| supplier.refused.len() <= IDENTITIES));
    }
}

impl Signs {
    /// Makes room for one more prefix.
    fn make_room(&mut self, now: Time) {
        if self.suppliers.len() < MAX_SUPPLIERS {
            return;
        }
        for supplier in &mut self.suppliers {
            supplier.refused.retain(|(last, _)| last.within(HOUR, now));
        }
        self.suppliers.retain(|supplier| !supplier.refused.is_empty());
        let fewest = |at: &usize| self.suppliers[*at].refused.len();
        if self.suppliers.len() >= MAX_SUPPLIERS
            && let Some(at) = (0..self.suppliers.len()).min_by_key(fewest)
        {
            self.suppliers.remove(at);
        }
    }
}

impl<C: Contacts> Engine<C> {
    /// Counts a node that has proved itself, and that the table refused for its network.
    pub(super) fn on_network_refused(&mut self, now: Time, node: NodeRef) {
        if !self.config.alarms.sybils {
            return;
        }
        let prefix = Prefix::of(self.contacts.endpoint(node).ip);
        if let Some(identities) = self.alarms.note_refused(now, prefix, self.contacts.id(node)) {
            self.emit(Event::Alarm(Alarm::OneNetwork { prefix, identities }));
        }
    }

    /// A lookup has ended: how near its result is to its target tells the size of the network, or how crowded our own
    /// place is.
    pub(super) fn learn_from_lookup(&mut self, now: Time, lookup: &Lookup) {
        if !self.config.alarms.sybils {
            return;
        }
        let own = self.id();
        if *lookup.target() == own {
            let answered: Vec<Distance> = lookup.answered().map(|candidate| candidate.distance).collect();
            self.look_around(now, answered);
        } else if lookup.ran_to_its_end()
            && let Some(nodes) = size_of_network(lookup.nearest_alive(), self.config.table.k)
        {
            self.alarms.note_size(now, lookup.target(), nodes);
        }
    }

    /// A node has become a member: it may be one too many near to us.
    pub(super) fn look_around_for(&mut self, now: Time, node: NodeRef) {
        let distance = self.id().distance(self.contacts.id(node));
        if self.alarms.network().is_some_and(|nodes| ERROR_OF_SIZE * nodes * part(&distance) <= NEAR) {
            self.look_around(now, Vec::new());
        }
    }

    /// Raises the alarm when members, replacements and whoever has answered a lookup for our own ID, which is told by
    /// their distances, are nearer than chance allows.
    fn look_around(&mut self, now: Time, mut near: Vec<Distance>) {
        let Some(network) = self.alarms.network() else { return };
        let own = self.id();
        let live = self.table.entries().filter(|(_, entry)| entry.is_live()).chain(self.table.replacements());
        near.extend(live.map(|(_, entry)| own.distance(self.contacts.id(entry.node))));
        near.sort_unstable();
        near.dedup();
        let expected = |nodes: usize| near.get(nodes - 1).map(|distance| network * part(distance));
        let chances = NEAREST.filter_map(|nodes| {
            let expected = expected(nodes)?;
            Some((chance_of(nodes, ERROR_OF_SIZE * expected), nodes, expected))
        });
        let least = chances.min_by(|(one, ..), (other, ..)| one.total_cmp(other));
        let found = least.filter(|(chance, ..)| *chance < CHANCE);
        let Some(signs) = &mut self.alarms.0 else { return };
        if signs.crowded.note(found.is_some(), now)
            && let Some((_, nodes, expected)) = found
        {
            self.emit(Event::Alarm(Alarm::Crowded { nodes, expected, network: network as u64 }));
        }
    }

    /// Has a refresh make a lookup that runs to its end, when it is time to estimate the size of the network again. Not
    /// before the table has settled and refreshes have become rare, nor where it is so small that the network is.
    pub(super) fn estimate_size(&mut self, now: Time) -> bool {
        let config = &self.config.alarms;
        if !config.sybils
            || self.table.len() < 2 * self.config.table.k
            || !self.upkeep.is_calm(&self.config)
            || self.is_young(now)
            || !self.alarms.wants_size(now, config)
        {
            return false;
        }
        let mut target = PublicKey([0; 64]);
        rand::RngExt::fill(&mut self.rng, &mut target.0);
        match self.start_lookup(now, target, Origin::Refresh) {
            Some(lookup) => {
                self.run_to_the_end(lookup);
                true
            }
            None => false,
        }
    }
}

/// How many nodes the network has, if these are the `k` nearest to a point of it, nearest first.
///
/// Of m nodes at random within d of a point the farthest is there by construction: (m - 1) / d is without bias. So is a
/// node whose ID is the point itself, which does not count.
fn size_of_network<'a>(nearest: impl Iterator<Item = &'a Candidate>, k: usize) -> Option<f64> {
    let nearest: Vec<f64> = nearest.map(|candidate| part(&candidate.distance)).collect();
    let others = nearest.iter().filter(|part| **part > 0.0).count();
    let farthest = *nearest.last()?;
    // When there are no more, that is all of them.
    if nearest.len() < k || others < 2 { Some(nearest.len() as f64) } else { Some((others - 1) as f64 / farthest) }
}

/// The chance of `nodes` or more where `expected` are expected (Poisson), 1 where that is more than `nodes`.
fn chance_of(nodes: usize, expected: f64) -> f64 {
    if expected >= nodes as f64 {
        return 1.0;
    }
    let mut term = (1..=nodes).fold((-expected).exp(), |term, n| term * expected / n as f64);
    let mut sum = 0.0;
    // Each term is less than the one before by a factor below one, and soon far below.
    for n in nodes + 1..nodes + 100 {
        sum += term;
        term *= expected / n as f64;
    }
    sum
}

/// A distance as a part of the ID space, 0 to 1.
fn part(distance: &Distance) -> f64 {
    const WORD: f64 = 18_446_744_073_709_551_616.0;
    let (words, _) = distance.0.as_chunks();
    words.iter().rev().fold(0.0, |below, word| (below + u64::from_be_bytes(*word) as f64) / WORD)
}

fn start_of(id: &NodeId) -> u32 {
    let [a, b, c, d, ..] = id.0;
    u32::from_be_bytes([a, b, c, d])
}

/// The end of an ID: its start is what IDs that were made for a place have in common.
fn end_of(id: &NodeId) -> u32 {
    let [.., a, b, c, d] = id.0;
    u32::from_be_bytes([a, b, c, d])
}

fn is_recent(last: Option<Time>, now: Time) -> bool {
    last.is_some_and(|last| now.since(last) < HOUR)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::proto::config::Config;
    use crate::proto::contacts::testing::ChosenIds;
    use crate::proto::engine::{Clock, LocalKey, LocalNode, Output};
    use crate::proto::identity::RecordContent;

    fn id(n: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[28..].copy_from_slice(&n.to_be_bytes());
        NodeId(bytes)
    }

    fn prefix(n: u8) -> Prefix {
        Prefix::V4([20, 0, n])
    }

    #[test]
    fn alarms_are_sentences() {
        let crowded = |expected| Alarm::Crowded { nodes: 16, expected, network: 10_123 };
        assert_eq!(
            crowded(0.25).to_string(),
            "16 nodes have IDs close to this node's own, where chance would put about 0.25 of the network's 10123 or so: \
             somebody may be trying to surround this node"
        );
        assert!(crowded(0.0099).to_string().contains("would put less than 0.01 of the network's"));
        let sentence = |prefix| Alarm::OneNetwork { prefix, identities: 32 }.to_string();
        assert_eq!(
            sentence(Prefix::V4([20, 1, 2])),
            "32 more nodes of 20.1.2.0/24 than the table takes have turned up within an hour: somebody runs many \
             identities there"
        );
        assert!(sentence(Prefix::V6([0x2a, 0, 0, 0, 0, 0, 0, 1])).starts_with("32 more nodes of 2a00:0:0:1::/64 than"));
    }

    #[test]
    fn what_stands_is_told_once_and_again_when_it_was_over_for_a_while() {
        let mut condition = Condition::default();
        let mut note = |minute: u64, holds| condition.note(holds, Time::from_secs(60 * minute));
        assert_eq!([note(0, false), note(1, true), note(2, true), note(200, true)], [false, true, false, false]);
        assert_eq!([note(201, false), note(202, true), note(300, true)], [false, true, false]);
        assert_eq!([note(301, false), note(302, true)], [false, true]);
        // Over and back within the hour is no news.
        assert_eq!([note(303, false), note(304, true), note(350, true), note(363, true)], [false, false, false, true]);
    }

    #[test]
    fn distances_are_parts_of_the_id_space_down_to_the_last_bit() {
        let distance = |log: u16| {
            let mut bytes = [0; 32];
            bytes[usize::from(256 - log) / 8] = 0x80 >> ((256 - log) % 8);
            Distance(bytes)
        };
        for log in 1..=256 {
            assert_eq!(part(&distance(log)), 2f64.powi(i32::from(log) - 257));
        }
        assert_eq!(part(&Distance([0; 32])), 0.0);
    }

    #[test]
    fn the_chance_is_that_of_poisson() {
        // Computed with 50 digits.
        for (nodes, expected, chance) in [
            (4, 0.05, 2.502_139_472_997_3e-7),
            (4, 0.07, 9.459_951_611_985_9e-7),
            (8, 1.0, 1.024_919_667_464_2e-5),
            (16, 3.3, 4.313_549_340_000_6e-7),
            (16, 4.0, 4.892_610_719_877_9e-6),
            (16, 0.03, 2.000_131_966_884_7e-38),
        ] {
            let computed = chance_of(nodes, expected);
            assert!((computed / chance - 1.0).abs() < 1e-9, "{nodes} of {expected}: {computed:e}");
        }
        assert_eq!(chance_of(4, 4.0), 1.0);
        assert_eq!(chance_of(4, 0.0), 0.0);
        // Beyond this nothing can be an alarm.
        assert!(chance_of(*NEAREST.end(), NEAR) > CHANCE);
    }

    #[test]
    fn the_size_is_the_median_of_the_last_sixteen_targets() {
        let mut alarms = Alarms::default();
        let target = |n: u8| NodeId([n; 32]);
        for _ in 0..5 {
            alarms.note_size(Time::ZERO, &target(1), 5000.0);
        }
        assert_eq!(alarms.network(), None, "one target is one estimate");
        alarms.note_size(Time::ZERO, &target(2), 1000.0);
        alarms.note_size(Time::from_secs(1), &target(3), 900.0);
        assert_eq!(alarms.network(), Some(1000.0));
        for n in 10..26 {
            alarms.note_size(Time::from_secs(2), &target(n), 100.0 + f64::from(n));
            alarms.assert_bounds();
        }
        assert_eq!(alarms.network(), Some(118.0));
        for n in 30..46 {
            alarms.note_size(Time::from_secs(2), &target(n), 63.0);
        }
        assert_eq!(alarms.network(), None, "too small a network");
        let config = AlarmConfig::default();
        assert!(!alarms.wants_size(Time::from_secs(2 + 1799), &config));
        assert!(
            alarms.wants_size(Time::from_secs(2 + 1800), &config) && Alarms::default().wants_size(Time::ZERO, &config)
        );
    }

    #[test]
    fn thirty_two_identities_of_a_prefix_within_an_hour_raise_one_alarm() {
        let mut alarms = Alarms::default();
        let at = Time::from_secs;
        for n in 0..31 {
            assert_eq!(alarms.note_refused(at(0), prefix(1), &id(n)), None);
            assert_eq!(alarms.note_refused(at(1), prefix(1), &id(n)), None, "the same one again");
        }
        assert_eq!(alarms.note_refused(at(3600), prefix(1), &id(31)), Some(32), "all within the last hour");
        for n in 32..200 {
            assert_eq!(alarms.note_refused(at(3600), prefix(1), &id(n)), None, "while it lasts it is said once");
        }
        // It has ended, and begins again; and another one begins. There is one alarm an hour at most.
        for n in 0..40 {
            assert_eq!(alarms.note_refused(at(7199), prefix(2), &id(n)), None);
        }
        assert_eq!(alarms.note_refused(at(7200), prefix(2), &id(0)), Some(32));
        for n in 0..31 {
            assert_eq!(alarms.note_refused(at(10_900), prefix(1), &id(n)), None);
        }
        assert_eq!(alarms.note_refused(at(10_900), prefix(1), &id(31)), Some(32));
    }

    #[test]
    fn of_too_many_prefixes_the_one_with_the_fewest_identities_is_forgotten() {
        let mut alarms = Alarms::default();
        for n in 0..31 {
            alarms.note_refused(Time::ZERO, prefix(0), &id(n));
        }
        for n in 1..=200 {
            alarms.note_refused(Time::ZERO, prefix(n), &id(0));
            alarms.assert_bounds();
        }
        assert_eq!(alarms.0.as_ref().unwrap().suppliers.len(), MAX_SUPPLIERS);
        assert_eq!(alarms.note_refused(Time::from_secs(1), prefix(0), &id(31)), Some(32));
        // What is an hour old makes room first.
        alarms.note_refused(Time::from_secs(3600), prefix(201), &id(0));
        assert_eq!(alarms.0.as_ref().unwrap().suppliers.len(), 2);
    }

    /// An engine whose ID is zero and that knows some nodes near to it, all in one bucket.
    fn engine(count: u8) -> (Engine<ChosenIds>, Vec<NodeRef>) {
        let local = LocalNode {
            key: LocalKey::Public(PublicKey([1; 64]), NodeId([0; 32])),
            content: RecordContent::default(),
            seq: 1,
            bound: ([0, 0, 0, 0], 30303).into(),
            host: (None, None),
            tcp: 0,
        };
        let mut contacts = ChosenIds::new();
        let near = |n: u8| NodeId(std::array::from_fn(|at| if at == 6 { 1 } else { u8::from(at == 31) * n }));
        let nodes = (0..count).map(|n| contacts.put(near(n), [127, 0, 0, 1].into(), 30303)).collect();
        let clock = Clock { now: Time::from_secs(9), unix_micros: 0 };
        (Engine::new(local, Arc::new(Config::default()), contacts, [1; 32], clock).unwrap(), nodes)
    }

    #[test]
    fn only_a_lookup_that_ran_to_its_end_says_how_large_the_network_is() {
        let (mut engine, nodes) = engine(20);
        let now = Time::from_secs(9);
        let config = engine.config.lookup.clone();
        let estimates = |engine: &Engine<ChosenIds>| engine.alarms.0.as_ref().map_or(0, |signs| signs.sizes.len());
        // All have answered; the same, and it was stopped; nobody has answered.
        for (target, answers, stopped, expected) in [(1, true, false, 1), (2, true, true, 1), (3, false, false, 1)] {
            let mut lookup = Lookup::new(NodeId([target; 32]), K, 1);
            for node in &nodes {
                assert!(lookup.add_own(*node, &engine.contacts, &config));
            }
            while let Some(node) = lookup.poll_next(3, &config) {
                if answers {
                    lookup.on_response(node);
                }
            }
            if stopped {
                lookup.stop();
            }
            engine.learn_from_lookup(now, &lookup);
            assert_eq!(estimates(&engine), expected, "{target}");
        }
    }

    #[test]
    fn replacements_are_a_part_of_a_crowd() {
        let (mut engine, nodes) = engine(26);
        let now = Time::from_secs(9);
        for n in 1..=3 {
            engine.alarms.note_size(now, &NodeId([n; 32]), 6000.0);
        }
        for node in &nodes {
            engine.grant(now, *node, true, HOUR);
        }
        assert_eq!((engine.table.len(), engine.table.replacements().count()), (16, 10));
        // Members that do not answer any more are no crowd.
        for node in &nodes[..16] {
            engine.table.fail(*node, &engine.contacts, &engine.config.table);
        }
        engine.look_around(now, Vec::new());
        let crowds = std::iter::from_fn(|| match engine.poll_output() {
            Output::Event(Event::Alarm(Alarm::Crowded { nodes, .. })) => Some(nodes),
            _ => None,
        });
        assert_eq!(crowds.collect::<Vec<_>>(), [10]);
    }
}
