//! Scripts with exact outcomes. Random actions against a plain model are in `random`.

mod checks;
mod displacement;
mod random;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::proto::contacts::testing::{ChosenIds, id_at};
use crate::proto::time::Secs;

const LOCAL: NodeId = NodeId([0xa5; 32]);

/// A table with all that its methods ask for.
struct World {
    table: Table,
    contacts: ChosenIds,
    config: TableConfig,
    now: Time,
}

impl World {
    fn new() -> Self {
        Self::with(TableConfig::default())
    }

    fn with(config: TableConfig) -> Self {
        Self { table: Table::new(LOCAL, 0x5a17), contacts: ChosenIds::new(), config, now: Time::from_secs(1000) }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// A node of an ID that no other has, in a /24 that no other is in.
    fn node(&mut self, log: u16, subrange: u8) -> NodeRef {
        let n = self.contacts.len() as u32;
        self.node_at(log, subrange, Ipv4Addr::from(0x1400_0001 + (n << 8)).into())
    }

    fn node_at(&mut self, log: u16, subrange: u8, ip: IpAddr) -> NodeRef {
        let tail = self.contacts.len() as u32;
        self.contacts.put(id_at(&LOCAL, log, subrange, tail), ip, 30303)
    }

    /// A node like [`World::node`] that comes before all members of its sixteenth in the order of the table, or after.
    fn ranked(&mut self, log: u16, subrange: u8, before: bool) -> NodeRef {
        loop {
            let node = self.node(log, subrange);
            let rank = self.rank(node);
            let rivals = self.table.entries().filter(|(l, entry)| *l == log && entry.subrange() == subrange);
            if rivals.map(|(_, entry)| self.rank(entry.node)).all(|rival| (rank < rival) == before) {
                return node;
            }
        }
    }

    fn rank(&self, node: NodeRef) -> u64 {
        self.table.rank(self.contacts.id(node))
    }

    fn opening(&self, node: NodeRef) -> Option<Opening> {
        self.table.opening(self.contacts.id(node), self.now, &self.contacts, &self.config)
    }

    /// A node of the same ID in a /24 of its own.
    fn elsewhere(&mut self, node: NodeRef) -> NodeRef {
        let n = self.contacts.len() as u32;
        self.contacts.put(*self.contacts.id(node), Ipv4Addr::from(0x1400_0001 + (n << 8)).into(), 30303)
    }

    fn proof(&self) -> Proof {
        Proof { proved: self.now.secs(), endorsed: Secs::NEVER, rtt: Duration::from_millis(20) }
    }

    /// The node has just proved itself: it had pinged us, or our lookup had found it.
    fn offer(&mut self, node: NodeRef, by_lookup: bool) -> Offer {
        let offer = self.table.offer(node, self.proof(), by_lookup, self.now, &self.contacts, &self.config);
        self.table.assert_invariants(self.now, &self.contacts, &self.config);
        offer
    }

    fn inbound(&mut self, node: NodeRef) -> Offer {
        self.offer(node, false)
    }

    fn found(&mut self, node: NodeRef) -> Offer {
        self.offer(node, true)
    }

    fn member(&mut self, log: u16, subrange: u8) -> NodeRef {
        let node = self.node(log, subrange);
        assert_eq!(self.inbound(node), Offer::Added);
        node
    }

    /// Fills a bucket with sixteen members, two in each even sixteenth.
    fn full_bucket(&mut self, log: u16) -> Vec<NodeRef> {
        (0..16).map(|i| self.member(log, i & !1)).collect()
    }

    fn fail(&mut self, node: NodeRef) -> Verdict {
        let verdict = self.table.fail(node, &self.contacts, &self.config);
        self.table.assert_invariants(self.now, &self.contacts, &self.config);
        verdict
    }

    fn members(&self, log: u16) -> Vec<NodeRef> {
        self.table.entries().filter(|(l, _)| *l == log).map(|(_, entry)| entry.node).collect()
    }

    fn waiting(&self, log: u16) -> Vec<NodeRef> {
        self.table.replacements().filter(|(l, _)| *l == log).map(|(_, entry)| entry.node).collect()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_bucket_takes_16_members_and_then_keeps_the_latest_10_as_replacements() {
    let mut world = World::new();
    let members = world.full_bucket(256);
    let late: Vec<NodeRef> = (0..12).map(|_| world.node(256, 0)).collect();
    for node in &late {
        assert_eq!(world.inbound(*node), Offer::Replacement);
    }
    assert_eq!(world.members(256), members);
    assert_eq!(world.waiting(256), late[2..]);
    assert_eq!((world.table.len(), world.table.bucket_len(256), world.table.bucket_len(255)), (16, 16, 0));
    assert_eq!(world.table.replacement(late[1], &world.contacts), None, "the oldest went first");
    // One that proves itself again is the latest; a member that does stays where it is.
    assert_eq!(world.inbound(late[2]), Offer::Replacement);
    assert_eq!(world.inbound(members[0]), Offer::Refreshed);
    assert_eq!(world.waiting(256), [&late[3..], &late[2..3]].concat());
    assert_eq!(world.members(256), members);
    assert_eq!(world.member(255, 0), *world.members(255).first().unwrap(), "another bucket has room");
}

#[test]
fn the_third_failure_in_a_row_promotes_the_latest_replacement_of_an_empty_sixteenth() {
    let mut world = World::new();
    let members = world.full_bucket(250);
    let waiting: Vec<NodeRef> = [0, 3, 2, 5, 4].into_iter().map(|subrange| world.node(250, subrange)).collect();
    for node in &waiting {
        assert_eq!(world.inbound(*node), Offer::Replacement);
    }
    // Sixteenths 3 and 5 are empty; 5 came later, though 4 is the latest of all.
    assert_eq!(world.fail(members[0]), Verdict::Doubtful(1));
    assert_eq!(world.fail(members[0]), Verdict::Doubtful(2));
    assert_eq!(world.fail(members[0]), Verdict::Removed(Some(waiting[3])));
    assert_eq!(world.fail(members[0]), Verdict::Unknown);
    assert_eq!(world.members(250), [&members[1..], &waiting[3..4]].concat());
    let mut remove = |node| world.table.remove(node, &world.contacts, &world.config);
    assert_eq!(remove(members[15]), Verdict::Removed(Some(waiting[1])), "now 3 alone fills a sixteenth");
    assert_eq!(remove(members[14]), Verdict::Removed(Some(waiting[4])), "now none does: the latest");
    // The first two left sixteenth 0 empty, which counts for more than that 2 came later.
    assert_eq!(remove(waiting[0]), Verdict::Unknown, "a replacement is no member");
    assert_eq!(remove(members[1]), Verdict::Removed(Some(waiting[0])));
    assert_eq!(remove(members[4]), Verdict::Removed(Some(waiting[2])));
    assert_eq!(remove(members[5]), Verdict::Removed(None));
    assert_eq!((world.table.len(), world.waiting(250)), (15, vec![]));
    world.table.assert_invariants(world.now, &world.contacts, &world.config);
}

#[test]
fn an_answer_clears_the_failures_before_it() {
    let mut world = World::new();
    let node = world.member(256, 0);
    for round in 0..5 {
        assert_eq!((round, world.fail(node)), (round, Verdict::Doubtful(1)));
        assert_eq!((round, world.fail(node)), (round, Verdict::Doubtful(2)));
        world.pass(1);
        assert_eq!((round, world.inbound(node)), (round, Offer::Refreshed));
    }
    assert_eq!(world.table.get(node, &world.contacts).unwrap().liveness(), 6);
}

#[test]
fn a_member_moves_when_it_has_not_just_answered_at_its_old_endpoint() {
    let mut world = World::new();
    let [a, old, b] = [world.member(256, 1), world.member(256, 2), world.member(256, 3)];
    let new = world.elsewhere(old);
    world.table.endorse(old, world.now, &world.contacts);
    let added = world.table.get(old, &world.contacts).unwrap().endorsed;
    world.pass(29);
    assert_eq!(world.found(new), Offer::Refused(Refusal::OtherEndpoint));
    world.pass(1);
    assert_eq!(world.found(new), Offer::Moved(old));
    assert_eq!(world.members(256), [a, new, b], "its place is its age");
    assert_eq!(world.table.get(old, &world.contacts), None);
    let entry = world.table.get(new, &world.contacts).unwrap();
    assert_eq!((entry.proved, entry.endorsed, entry.liveness()), (world.now.secs(), added, 2));
    assert_eq!(world.table.find(world.contacts.id(old), &world.contacts), Some(entry));
    // A doubtful one moves at once.
    assert_eq!(world.inbound(old), Offer::Refused(Refusal::OtherEndpoint));
    world.fail(new);
    assert_eq!(world.inbound(old), Offer::Moved(new));
    assert_eq!((world.members(256), world.table.len()), (vec![a, old, b], 3));
}

#[test]
fn a_replacement_is_where_it_last_proved_itself() {
    let mut world = World::new();
    let members = world.full_bucket(256);
    let [old, other] = [world.node(256, 1), world.node(256, 1)];
    assert_eq!((world.inbound(old), world.inbound(other)), (Offer::Replacement, Offer::Replacement));
    assert!(world.table.endorse(old, world.now, &world.contacts));
    let endorsed = world.now.secs();
    world.pass(1);
    let new = world.elsewhere(old);
    assert_eq!(world.inbound(new), Offer::Replacement);
    assert_eq!(world.waiting(256), [other, new]);
    assert_eq!(world.table.replacement(new, &world.contacts).unwrap().endorsed, endorsed);
    // An endpoint that the limits forbid does not cost it the one that it has.
    for log in 251..=255 {
        for host in ["20.9.9.1", "20.9.9.2"] {
            let node = world.node_at(log, 0, ip(host));
            assert_eq!(world.inbound(node), Offer::Added);
        }
    }
    let crowded = world.contacts.put(*world.contacts.id(new), ip("20.9.9.3"), 30303);
    assert_eq!(world.inbound(crowded), Offer::Refused(Refusal::TableSubnet));
    assert_eq!((world.members(256), world.waiting(256)), (members, vec![other, new]));
}

#[test]
fn a_member_does_not_move_into_a_full_network() {
    let mut world = World::new();
    let old = world.member(256, 0);
    for host in ["20.9.9.1", "20.9.9.2"] {
        let node = world.node_at(256, 1, ip(host));
        assert_eq!(world.inbound(node), Offer::Added);
    }
    world.pass(3600);
    let new = world.contacts.put(*world.contacts.id(old), ip("20.9.9.3"), 30303);
    assert_eq!(world.inbound(new), Offer::Refused(Refusal::BucketSubnet));
    assert_eq!(world.members(256)[0], old);
    // Within its own network it can move, though that is full: it leaves the place that it takes.
    let inside = world.members(256)[1];
    let to = world.contacts.put(*world.contacts.id(inside), ip("20.9.9.4"), 30303);
    assert_eq!(world.inbound(to), Offer::Moved(inside));
}

#[test]
fn a_network_has_2_places_in_a_bucket_and_10_in_the_table() {
    let mut world = World::new();
    let at = |host: u8| ip(&format!("20.9.9.{host}"));
    let mut offer = |log, host| {
        let node = world.node_at(log, 0, at(host));
        (node, world.inbound(node))
    };
    let refused = |refusal| Offer::Refused(refusal);
    let mut first = None;
    for log in 252..=256 {
        let (node, offered) = offer(log, 1);
        first = first.or(Some(node));
        assert_eq!((offered, offer(log, 2).1), (Offer::Added, Offer::Added));
        assert_eq!(offer(log, 3).1, refused(Refusal::BucketSubnet));
    }
    assert_eq!(offer(251, 4).1, refused(Refusal::TableSubnet));
    // Who leaves makes room, in its bucket and in the table, and only there.
    let removed = world.table.remove(first.unwrap(), &world.contacts, &world.config);
    assert_eq!(removed, Verdict::Removed(None));
    let [in_full_bucket, anywhere, next] = [(253, 5), (251, 6), (250, 7)].map(|(log, h)| world.node_at(log, 0, at(h)));
    assert_eq!(world.inbound(in_full_bucket), refused(Refusal::BucketSubnet));
    assert_eq!(world.inbound(anywhere), Offer::Added);
    assert_eq!(world.inbound(next), refused(Refusal::TableSubnet));
}

#[test]
fn replacements_count_against_the_limits_until_they_are_dropped() {
    let mut world = World::new();
    world.full_bucket(256);
    let crowd = [1, 2, 3].map(|host| world.node_at(256, 0, ip(&format!("20.9.9.{host}"))));
    assert_eq!(world.inbound(crowd[0]), Offer::Replacement);
    assert_eq!(world.inbound(crowd[1]), Offer::Replacement);
    assert_eq!(world.inbound(crowd[2]), Offer::Refused(Refusal::BucketSubnet));
    for _ in 0..9 {
        let node = world.node(256, 0);
        assert_eq!(world.inbound(node), Offer::Replacement);
    }
    assert_eq!(world.waiting(256)[0], crowd[1], "ten have come since the first");
    assert_eq!(world.inbound(crowd[2]), Offer::Replacement);
}

#[test]
fn a_64_of_ipv6_has_1_place_in_a_bucket_and_5_in_the_table() {
    let mut world = World::new();
    let mut offer = |log, host: &str| {
        let node = world.node_at(log, 0, ip(host));
        world.inbound(node)
    };
    for log in 252..=256 {
        assert_eq!(offer(log, "2a00:1:2:3::1"), Offer::Added);
        assert_eq!(offer(log, "2a00:1:2:3:ffff::2"), Offer::Refused(Refusal::BucketSubnet));
    }
    assert_eq!(offer(251, "2a00:1:2:3::9"), Offer::Refused(Refusal::TableSubnet));
    assert_eq!(offer(251, "2a00:1:2:4::9"), Offer::Added);
}

#[test]
fn loopback_is_never_limited_and_private_networks_when_so_set() {
    let mut config = TableConfig::default();
    for exempt_lan in [true, false] {
        config.exempt_lan = exempt_lan;
        for (host, limit) in [("127.0.0.1", 16), ("::1", 16), ("10.0.0.1", 2), ("192.168.1.1", 2), ("fd00::1", 1)] {
            let mut world = World::with(config.clone());
            let offers: Vec<Offer> = (0..16)
                .map(|_| {
                    let node = world.node_at(256, 0, ip(host));
                    world.inbound(node)
                })
                .collect();
            let added = if exempt_lan { 16 } else { limit };
            assert_eq!(offers[..added], vec![Offer::Added; added], "{host}");
            let refused = Offer::Refused(Refusal::BucketSubnet);
            assert_eq!(offers[added..], vec![refused; 16 - added], "{host}");
        }
    }
}

#[test]
fn the_local_node_is_refused_and_harmless_everywhere() {
    let mut world = World::new();
    let itself = world.contacts.put(LOCAL, ip("20.0.0.1"), 30303);
    assert_eq!(world.found(itself), Offer::Refused(Refusal::Itself));
    assert_eq!(world.fail(itself), Verdict::Unknown);
    assert_eq!(world.table.remove(itself, &world.contacts, &world.config), Verdict::Unknown);
    assert!(!world.table.endorse(itself, world.now, &world.contacts));
    assert!(!world.table.forget_endorsement(itself, &world.contacts));
    assert_eq!(world.table.get(itself, &world.contacts), None);
    assert!(world.table.is_empty());
}

#[test]
fn endorsements_are_noted_for_members_and_replacements_alike() {
    let mut world = World::new();
    let member = world.full_bucket(256)[3];
    let waiting = world.node(256, 0);
    let unknown = world.node(200, 0);
    world.inbound(waiting);
    world.pass(5);
    let at = |world: &World, node| {
        let entry = world.table.get(node, &world.contacts).or(world.table.replacement(node, &world.contacts));
        entry.map(|entry| entry.endorsed)
    };
    for (node, is_known) in [(member, true), (waiting, true), (unknown, false)] {
        assert_eq!(at(&world, node), is_known.then_some(Secs::NEVER));
        assert_eq!(world.table.endorse(node, world.now, &world.contacts), is_known);
        assert_eq!(at(&world, node), is_known.then_some(world.now.secs()));
        assert_eq!(world.table.forget_endorsement(node, &world.contacts), is_known);
        assert_eq!(at(&world, node), is_known.then_some(Secs::NEVER));
    }
}

/// What `closest` must find: all members sorted.
fn sorted(world: &World, target: &NodeId, limit: usize, wanted: impl Fn(&Entry) -> bool) -> Vec<NodeRef> {
    let mut all: Vec<NodeRef> = world.table.entries().map(|(_, e)| e).filter(|e| wanted(e)).map(|e| e.node).collect();
    all.sort_by_key(|node| target.distance(world.contacts.id(*node)));
    all.truncate(limit);
    all
}

#[test]
fn closest_finds_what_sorting_all_members_finds() {
    let mut rng = StdRng::seed_from_u64(1);
    // Tables of no member, few, and many; the last has members right beside the local node.
    for size in [0, 1, 10, 60, 400] {
        let mut world = World::new();
        for _ in 0..size {
            let log = if rng.random_bool(0.5) { rng.random_range(200..=256) } else { rng.random_range(250..=256) };
            let node = world.node(log, rng.random_range(0..16));
            world.inbound(node);
        }
        if size == 400 {
            for log in 1..=8 {
                world.member(log, 0);
            }
        }
        let mut targets: Vec<NodeId> = (0..100).map(|_| NodeId(rng.random())).collect();
        targets.extend((1..=256).map(|log| id_at(&LOCAL, log, rng.random_range(0..16), rng.random())));
        targets.extend(world.table.entries().map(|(_, entry)| *world.contacts.id(entry.node)));
        targets.push(LOCAL);
        let mut out = Closest::new();
        for target in &targets {
            for limit in [0, 1, 5, 16, 99] {
                let find = |out: &mut Closest, wanted: fn(&Entry) -> bool| {
                    world.table.closest(target, &world.contacts, limit, wanted, out);
                    assert_eq!(
                        out.as_slice(),
                        sorted(&world, target, limit.min(16), wanted),
                        "{size} {target} {limit}"
                    );
                };
                find(&mut out, |_| true);
                find(&mut out, |entry| entry.node.0 % 3 == 0);
                find(&mut out, |_| false);
            }
        }
    }
}
