//! Random actions, each compared with what a plain model says must come of it.
//!
//! The model counts and sorts everything anew, and shares no code with the table but `Entry`'s getters and the order in a sixteenth.

use std::collections::BTreeMap;

use super::*;

/// The nodes of one bucket with what the model needs of them, in order.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    members: Vec<NodeRef>,
    waiting: Vec<NodeRef>,
}

type Views = BTreeMap<u16, View>;

fn views(table: &Table) -> Views {
    let mut views = Views::new();
    for (log, entry) in table.entries() {
        views.entry(log).or_default().members.push(entry.node);
    }
    for (log, entry) in table.replacements() {
        views.entry(log).or_default().waiting.push(entry.node);
    }
    views
}

/// The network of a node if it is limited, as text, with the limits of a bucket and of the table.
fn network(world: &World, node: NodeRef) -> Option<(String, usize, usize)> {
    let config = &world.config;
    match world.contacts.endpoint(node).ip {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) if ip.is_private() && config.exempt_lan => None,
        IpAddr::V6(ip) if ip.is_unique_local() && config.exempt_lan => None,
        IpAddr::V4(ip) => {
            let text = ip.to_string();
            let network = text.rsplit_once('.').unwrap().0.to_owned();
            Some((network, config.bucket_per_v4_prefix, config.table_per_v4_prefix))
        }
        IpAddr::V6(ip) => {
            let network = format!("{:?}", &ip.segments()[..4]);
            Some((network, config.bucket_per_v6_prefix, config.table_per_v6_prefix))
        }
    }
}

/// Whether the limits forbid `node` when those of `others` are in its bucket and of `all` in the table.
fn crowded(world: &World, node: NodeRef, others: &[NodeRef], all: &[NodeRef]) -> Option<Refusal> {
    let (own, per_bucket, per_table) = network(world, node)?;
    let count = |nodes: &[NodeRef]| {
        nodes.iter().filter(|other| network(world, **other).is_some_and(|(other, ..)| other == own)).count()
    };
    if count(others) >= per_bucket {
        Some(Refusal::BucketSubnet)
    } else if count(all) >= per_table {
        Some(Refusal::TableSubnet)
    } else {
        None
    }
}

fn subrange(world: &World, node: NodeRef) -> u8 {
    LOCAL.distance(world.contacts.id(node)).subrange()
}

/// How many members lie in the same sixteenth as `node`.
fn in_sixteenth(world: &World, members: &[NodeRef], node: NodeRef) -> usize {
    members.iter().filter(|member| subrange(world, **member) == subrange(world, node)).count()
}

/// What must come of an offer, and how the bucket must look after it.
fn predict_offer(world: &World, views: &Views, node: NodeRef, by_lookup: bool) -> (Offer, View) {
    let id = *world.contacts.id(node);
    let log = LOCAL.log_distance(&id);
    let mut view = views.get(&log).cloned().unwrap_or_default();
    if id == LOCAL {
        return (Offer::Refused(Refusal::Itself), view);
    }
    if view.members.contains(&node) {
        return (Offer::Refreshed, view);
    }
    let same = |other: &NodeRef| *world.contacts.id(*other) == id;
    let strangers = |nodes: &mut dyn Iterator<Item = &NodeRef>| -> Vec<NodeRef> {
        nodes.filter(|node| !same(node)).copied().collect()
    };
    let in_bucket = strangers(&mut view.members.iter().chain(&view.waiting));
    let in_table = strangers(&mut views.values().flat_map(|view| view.members.iter().chain(&view.waiting)));
    let refusal = crowded(world, node, &in_bucket, &in_table);
    if let Some(at) = view.members.iter().position(same) {
        let old = view.members[at];
        let entry = world.table.get(old, &world.contacts).unwrap();
        if entry.fails() == 0 && entry.proved.age(world.now) < world.config.move_after {
            return (Offer::Refused(Refusal::OtherEndpoint), view);
        }
        if let Some(refusal) = refusal {
            return (Offer::Refused(refusal), view);
        }
        view.members[at] = node;
        return (Offer::Moved(old), view);
    }
    if let Some(refusal) = refusal {
        return (Offer::Refused(refusal), view);
    }
    view.waiting.retain(|other| !same(other));
    if view.members.len() < world.config.k {
        view.members.push(node);
        return (Offer::Added, view);
    }
    let age = |member: &NodeRef| world.table.get(*member, &world.contacts).unwrap().age(world.now);
    let alone = in_sixteenth(world, &view.members, node) == 0;
    let mut yielding = view.members.clone();
    yielding.retain(|member| {
        let other = match alone {
            true => in_sixteenth(world, &view.members, *member) > 1,
            false => subrange(world, *member) == subrange(world, node) && world.rank(*member) > world.rank(node),
        };
        world.config.diverse && other && age(member) < world.config.settled_age
    });
    yielding.sort_by_key(|member| (std::cmp::Reverse(age(member)), world.rank(*member)));
    let offer = match yielding.last() {
        Some(&old) if by_lookup => {
            view.members.retain(|member| *member != old);
            view.members.push(node);
            view.waiting.push(old);
            Offer::Displaced(old)
        }
        _ => {
            view.waiting.push(node);
            Offer::Replacement
        }
    };
    let surplus = view.waiting.len().saturating_sub(world.config.replacements);
    view.waiting.drain(..surplus);
    (offer, view)
}

/// What must come of taking a member out.
fn predict_removal(world: &World, views: &Views, node: NodeRef) -> (Verdict, View) {
    let mut view = views.get(&LOCAL.log_distance(world.contacts.id(node))).cloned().unwrap_or_default();
    if !view.members.contains(&node) {
        return (Verdict::Unknown, view);
    }
    view.members.retain(|member| *member != node);
    let fills = |other: &&NodeRef| in_sixteenth(world, &view.members, **other) == 0;
    let promoted = view.waiting.iter().rev().find(fills).or(view.waiting.last()).copied();
    if let Some(promoted) = promoted {
        view.waiting.retain(|other| *other != promoted);
        view.members.push(promoted);
    }
    (Verdict::Removed(promoted), view)
}

/// What must come of a failed check.
fn predict_failure(world: &World, views: &Views, node: NodeRef) -> (Verdict, View) {
    match world.table.get(node, &world.contacts) {
        Some(entry) if entry.fails() + 1 < world.config.max_fails => {
            (Verdict::Doubtful(entry.fails() + 1), views[&LOCAL.log_distance(world.contacts.id(node))].clone())
        }
        _ => predict_removal(world, views, node),
    }
}

/// A world with contacts that get in each other's way: few buckets, several addresses for an ID, few networks.
fn crowded_world(config: TableConfig, rng: &mut StdRng) -> World {
    let mut world = World::with(config);
    let mut ids = vec![LOCAL];
    for (log, count) in [(256, 40), (255, 30), (254, 8), (100, 8), (3, 4), (1, 1)] {
        ids.extend((0..count).map(|n| id_at(&LOCAL, log, rng.random_range(0..16), n)));
    }
    for id in ids {
        for _ in 0..rng.random_range(1..=3) {
            let host = rng.random_range(1..=250);
            let address = match rng.random_range(0..10) {
                0 => ip("127.0.0.1"),
                1 => ip(&format!("10.0.0.{host}")),
                2 => ip(&format!("fd00::{host}")),
                3 => ip(&format!("2a00:0:0:{}::{host}", rng.random_range(1..=4))),
                4..=6 => ip(&format!("20.0.{}.{host}", rng.random_range(0..3))),
                _ => ip(&format!("30.0.{}.{host}", rng.random_range(0..60))),
            };
            world.contacts.put(id, address, rng.random_range(1025..=65535));
        }
    }
    world
}

/// How often each kind of outcome was seen.
#[derive(Default)]
struct Coverage(BTreeMap<String, usize>);

impl Coverage {
    fn note(&mut self, action: &str, outcome: impl std::fmt::Debug) {
        // The reasons of refusals matter here, the handles that an outcome names do not.
        let kind: String = format!("{action} {outcome:?}").chars().filter(|c| !c.is_ascii_digit()).collect();
        *self.0.entry(kind.replace("NodeRef()", "_")).or_default() += 1;
    }

    fn assert_at_least(&self, expected: &[(&str, usize)]) {
        for (kind, least) in expected {
            let found = self.0.get(*kind).copied().unwrap_or(0);
            assert!(found >= *least, "{kind}: {found} in {:#?}", self.0);
        }
        assert_eq!(self.0.len(), expected.len(), "a kind that nobody expects: {:#?}", self.0);
    }
}

fn run(seed: u64, config: TableConfig, steps: usize, coverage: &mut Coverage) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = crowded_world(config, &mut rng);
    for step in 0..steps {
        let context = (seed, step);
        let action = rng.random_range(0..100);
        let mut node = NodeRef(rng.random_range(0..world.contacts.len() as u32));
        // Most contacts are no members, and little comes of failing those.
        if (60..78).contains(&action) && !world.table.is_empty() {
            node = world.table.entries().nth(rng.random_range(0..world.table.len())).unwrap().1.node;
        }
        let log = LOCAL.log_distance(world.contacts.id(node));
        let before = views(&world.table);
        let was = entry(&world, node);
        let mut expected = before.clone();
        match action {
            0..55 => {
                let by_lookup = rng.random();
                let (offer, view) = predict_offer(&world, &before, node, by_lookup);
                let opening = world.opening(node);
                let has_place = opening == Some(Opening::Room) || by_lookup && opening.is_some();
                assert_eq!(world.offer(node, by_lookup), offer, "{context:?}");
                match offer {
                    Offer::Added | Offer::Displaced(_) => assert!(has_place, "{context:?}"),
                    Offer::Refused(Refusal::BucketSubnet | Refusal::TableSubnet) => {}
                    _ => assert!(!has_place, "{context:?}"),
                }
                if !matches!(offer, Offer::Refused(_))
                    && let Some(entry) = entry(&world, node)
                {
                    assert_eq!((entry.proved, entry.fails()), (world.now.secs(), 0), "{context:?}");
                    assert!(was.is_none_or(|was| was.endorsed == entry.endorsed), "{context:?}");
                }
                coverage.note("offer", offer);
                expected.insert(log, view);
            }
            55..75 => {
                let (verdict, view) = predict_failure(&world, &before, node);
                assert_eq!(world.fail(node), verdict, "{context:?}");
                coverage.note("fail", verdict);
                expected.insert(log, view);
            }
            75..80 => {
                let (verdict, view) = predict_removal(&world, &before, node);
                assert_eq!(world.table.remove(node, &world.contacts, &world.config), verdict, "{context:?}");
                coverage.note("remove", verdict);
                expected.insert(log, view);
            }
            80..85 => {
                let noted = world.table.endorse(node, world.now, &world.contacts);
                assert_eq!(noted, was.is_some(), "{context:?}");
                assert!(entry(&world, node).is_none_or(|entry| entry.endorsed == world.now.secs()), "{context:?}");
                coverage.note("endorse", noted);
            }
            85..90 => {
                let noted = world.table.forget_endorsement(node, &world.contacts);
                assert_eq!(noted, was.is_some(), "{context:?}");
                assert!(entry(&world, node).is_none_or(|entry| entry.endorsed == Secs::NEVER), "{context:?}");
                coverage.note("forget", noted);
            }
            90..99 => world.now = world.now + Duration::from_millis(rng.random_range(0..20_000)),
            _ => world.pass(rng.random_range(0..5_000)),
        }
        expected.retain(|_, view| *view != View::default());
        assert_eq!(views(&world.table), expected, "{context:?}");
        world.table.assert_invariants(world.now, &world.contacts, &world.config);
        let members: usize = expected.values().map(|view| view.members.len()).sum();
        assert_eq!((world.table.len(), world.table.is_empty()), (members, members == 0));
        check_what_is_due(&world);
        let target = NodeId(rng.random());
        let mut closest = Closest::new();
        world.table.closest(&target, &world.contacts, 16, Entry::is_live, &mut closest);
        assert_eq!(closest.as_slice(), sorted(&world, &target, 16, Entry::is_live), "{context:?}");
    }
}

fn entry(world: &World, node: NodeRef) -> Option<Entry> {
    world.table.get(node, &world.contacts).or(world.table.replacement(node, &world.contacts)).copied()
}

fn check_what_is_due(world: &World) {
    let (mut due, mut expected) = (vec![], vec![]);
    let mut next = Time::NEVER;
    let found = world.table.due_checks(world.now, &world.config, |node| due.push(node));
    for (_, entry) in world.table.entries().filter(|(_, entry)| entry.fails() == 0) {
        match world.table.check_at(entry, &world.config) {
            at if at <= world.now => expected.push(entry.node),
            at => next = next.min(at),
        }
    }
    assert_eq!((due, found), (expected, next));
}

#[test]
fn random_actions_do_what_the_model_says() {
    let default = TableConfig::default();
    let small = TableConfig { k: 4, replacements: 3, exempt_lan: false, table_per_v4_prefix: 4, ..default.clone() };
    let strict = TableConfig { k: 2, replacements: 1, max_fails: 1, exempt_lan: false, ..default.clone() };
    let loose = TableConfig { k: 1, max_fails: 2, move_after: Duration::ZERO, ..default.clone() };
    let narrow = TableConfig { table_per_v4_prefix: 3, table_per_v6_prefix: 2, ..default.clone() };
    let mut coverage = Coverage::default();
    for (at, config) in [default, small, strict, loose, narrow].into_iter().enumerate() {
        for seed in 0..3 {
            run(100 * at as u64 + seed, config.clone(), 4_000, &mut coverage);
        }
    }
    // What this generator reaches, rounded down: it must not quietly stop reaching an outcome.
    coverage.assert_at_least(&[
        ("offer Added", 2000),
        ("offer Displaced(_)", 150),
        ("offer Moved(_)", 3000),
        ("offer Refreshed", 4000),
        ("offer Replacement", 15000),
        ("offer Refused(Itself)", 300),
        ("offer Refused(BucketSubnet)", 2000),
        ("offer Refused(TableSubnet)", 1000),
        ("offer Refused(OtherEndpoint)", 800),
        ("fail Doubtful()", 5000),
        ("fail Removed(None)", 800),
        ("fail Removed(Some(_))", 1500),
        ("fail Unknown", 2000),
        ("remove Removed(None)", 500),
        ("remove Removed(Some(_))", 1000),
        ("remove Unknown", 500),
        ("endorse true", 500),
        ("endorse false", 1000),
        ("forget true", 500),
        ("forget false", 1000),
    ]);
}
