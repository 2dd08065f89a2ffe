//! Who has to yield to whom in a full bucket.

use super::*;

/// Sixteenth 13 has three members, the oldest and the youngest among them, and 0 to 12 have one each, all in between.
fn with_a_crowd(world: &mut World) -> [NodeRef; 3] {
    let oldest = world.member(256, 13);
    world.pass(64);
    let middle = world.member(256, 13);
    world.pass(64);
    for subrange in 0..13 {
        world.member(256, subrange);
    }
    world.pass(64);
    [oldest, middle, world.member(256, 13)]
}

#[test]
fn a_node_found_by_lookup_displaces_the_youngest_of_a_crowded_sixteenth() {
    let mut world = World::new();
    let [oldest, middle, youngest] = with_a_crowd(&mut world);
    let news = [world.node(256, 14), world.node(256, 15)];
    assert_eq!(world.opening(news[0]), Some(Opening::EmptySixteenth));
    assert_eq!(world.inbound(news[0]), Offer::Replacement, "a stranger that pinged us displaces nobody");
    assert_eq!(world.found(news[0]), Offer::Displaced(youngest), "it was a replacement itself");
    assert_eq!(world.waiting(256), [youngest]);
    let late = world.ranked(256, 14, false);
    assert_eq!(world.opening(late), None);
    assert_eq!(world.found(late), Offer::Replacement, "its sixteenth is no longer empty");
    assert_eq!(world.found(news[1]), Offer::Displaced(middle));
    assert_eq!(world.members(256)[0], oldest);
    assert_eq!(world.members(256)[14..], news);
    assert_eq!(world.waiting(256), [youngest, late, middle]);
    assert_eq!(world.opening(oldest), None, "it is a member");
    let [in_an_empty_bucket, itself] = [world.node(255, 0), world.contacts.put(LOCAL, ip("20.9.9.9"), 30303)];
    assert_eq!(world.opening(in_an_empty_bucket), Some(Opening::Room));
    assert_eq!(world.opening(itself), None);
}

#[test]
fn a_node_found_by_lookup_displaces_a_member_of_its_sixteenth_that_comes_after_it() {
    let mut world = World::new();
    let members = world.full_bucket(200);
    // Two in each even sixteenth.
    let [first, last] = if world.rank(members[4]) < world.rank(members[5]) { [4, 5] } else { [5, 4] };
    let [first, last] = [members[first], members[last]];
    let news = world.ranked(200, 4, true);
    assert_eq!(world.opening(news), Some(Opening::Rank));
    assert_eq!(world.inbound(news), Offer::Replacement, "a stranger that pinged us displaces nobody");
    assert_eq!(world.found(news), Offer::Displaced(last));
    let late = world.ranked(200, 4, false);
    assert_eq!(world.found(late), Offer::Replacement);
    world.pass(64);
    let younger = world.ranked(200, 4, true);
    assert_eq!(world.found(younger), Offer::Displaced(first));
    assert!(world.rank(younger) < world.rank(news));
    let youngest = world.ranked(200, 4, true);
    assert_eq!(
        world.found(youngest),
        Offer::Displaced(younger),
        "the younger one yields, though the other is the last"
    );
    // Those two are the first of all by now, so it ends here.
    assert_eq!(world.found(younger), Offer::Displaced(news));
    for node in [first, last, late, news] {
        assert_eq!(world.found(node), Offer::Replacement);
    }
}

#[test]
fn with_no_preference_nobody_is_displaced() {
    let mut world = World::with(TableConfig { diverse: false, ..TableConfig::default() });
    world.full_bucket(256);
    for news in [world.node(256, 1), world.ranked(256, 0, true)] {
        assert_eq!(world.opening(news), None);
        assert_eq!(world.found(news), Offer::Replacement);
    }
    assert_eq!(world.table.unsettled(world.now, &world.config).count(), 0);
}

#[test]
fn a_sixteenth_holds_a_uniform_sample_of_those_that_were_found_however_often_each_was() {
    // One of 20 is named 20 times as often as any other, and first.
    let mut chosen = [0; 20];
    for seed in 0..2000 {
        let mut world = World::new();
        world.table = Table::new(LOCAL, seed);
        for subrange in 1..16 {
            world.member(256, subrange);
        }
        let nodes: Vec<NodeRef> = (0..20).map(|_| world.node(256, 0)).collect();
        assert_eq!(world.found(nodes[0]), Offer::Added);
        for node in &nodes[1..] {
            world.found(*node);
            world.found(nodes[0]);
        }
        let of_the_sixteenth = world.members(256).into_iter().find(|member| nodes.contains(member)).unwrap();
        chosen[nodes.iter().position(|node| *node == of_the_sixteenth).unwrap()] += 1;
    }
    // 100 each are expected; five standard deviations are 49.
    assert!(chosen.iter().all(|count| (51..=149).contains(count)), "{chosen:?}");
}

#[test]
fn a_table_with_the_same_order_chooses_the_same_whoever_comes_first() {
    let mut world = World::new();
    let others: Vec<NodeRef> = (1..16).map(|subrange| world.node(256, subrange)).collect();
    let forwards: Vec<NodeRef> = (0..20).map(|_| world.node(256, 0)).collect();
    let backwards: Vec<NodeRef> = forwards.iter().rev().copied().collect();
    let mut chosen = |order, nodes: &[NodeRef]| {
        world.table = Table::new(LOCAL, 1);
        world.table.set_order(order);
        for node in others.iter().chain(nodes) {
            world.found(*node);
        }
        world.members(256).into_iter().find(|member| nodes.contains(member)).unwrap()
    };
    let by_order: Vec<NodeRef> = (0..10).map(|order| chosen(order, &forwards)).collect();
    assert_eq!((0..10).map(|order| chosen(order, &backwards)).collect::<Vec<_>>(), by_order);
    assert!(by_order.iter().any(|node| *node != by_order[0]), "{by_order:?}");
}

#[test]
fn nobody_is_displaced_after_an_hour_in_the_table() {
    let mut world = World::new();
    let [oldest, middle, youngest] = with_a_crowd(&mut world);
    // The oldest two of the crowd are older than an hour here, the third is not.
    world.pass(3600 - 64);
    let news = [world.node(256, 14), world.node(256, 15)];
    assert_eq!(world.found(news[0]), Offer::Displaced(youngest));
    assert_eq!(world.found(news[1]), Offer::Replacement);
    // Now the lone ones are, too.
    let [before, lone] = [world.ranked(256, 0, true), world.members(256)[2]];
    assert_eq!(world.opening(before), Some(Opening::Rank));
    world.pass(64);
    let unsettled: Vec<NodeRef> = world.table.unsettled(world.now, &world.config).map(|entry| entry.node).collect();
    assert_eq!(unsettled, news[..1]);
    assert_eq!(world.found(before), Offer::Replacement);
    assert_eq!(world.members(256)[2], lone);
    assert_eq!(world.members(256)[..2], [oldest, middle]);
}

#[test]
fn who_is_trusted_counts_as_one_that_has_been_there_for_an_hour() {
    let mut world = World::new();
    let crowd = with_a_crowd(&mut world);
    let news = world.node(256, 14);
    assert_eq!(world.opening(news), Some(Opening::EmptySixteenth));
    for member in crowd {
        assert!(world.table.trust(member, &world.contacts));
        assert_eq!(world.table.get(member, &world.contacts).unwrap().liveness(), 15);
    }
    assert_eq!(world.opening(news), None);
    assert_eq!(world.found(news), Offer::Replacement);
}

#[test]
fn an_empty_sixteenth_is_not_filled_when_only_lone_members_are_young() {
    let mut world = World::new();
    for _ in 0..3 {
        world.member(256, 13);
    }
    world.pass(3600 + 64);
    for subrange in 0..13 {
        world.member(256, subrange);
    }
    let news = world.node(256, 14);
    assert_eq!(world.found(news), Offer::Replacement);
}

#[test]
fn of_members_equally_young_the_last_in_order_is_displaced() {
    let mut world = World::new();
    let mut members = world.full_bucket(200);
    for subrange in [1, 3, 5] {
        let crowded = |member: &&NodeRef| {
            let same = |other: &&NodeRef| world.contacts.id(**other).log_distance(world.contacts.id(**member)) <= 195;
            members.iter().filter(same).count() > 1
        };
        let last = *members.iter().filter(crowded).max_by_key(|member| world.rank(**member)).unwrap();
        let news = world.node(200, subrange);
        assert_eq!(world.found(news), Offer::Displaced(last));
        members.retain(|member| *member != last);
        members.push(news);
    }
}

#[test]
fn a_displaced_doubtful_member_is_due_for_a_check_when_it_comes_back() {
    let mut world = World::new();
    let [oldest, _, youngest] = with_a_crowd(&mut world);
    assert_eq!(world.fail(youngest), Verdict::Doubtful(1));
    let news = world.node(256, 14);
    assert_eq!(world.found(news), Offer::Displaced(youngest));
    assert_eq!(world.fail(youngest), Verdict::Unknown, "the retry that was under way comes too late");
    world.pass(3600);
    let removed = world.table.remove(oldest, &world.contacts, &world.config);
    assert_eq!(removed, Verdict::Removed(Some(youngest)));
    let mut due = vec![];
    world.table.due_checks(world.now, &world.config, |node| due.push(node));
    assert!(due.contains(&youngest));
}
