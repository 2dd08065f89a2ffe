//! Scripts with exact outcomes. Whole lookups in small networks, and random answers, are in `networks`.

mod networks;

use std::net::Ipv4Addr;

use super::*;
use crate::proto::contacts::testing::ChosenIds;

const TARGET: NodeId = NodeId([0x5a; 32]);

/// A lookup for the three nodes nearest to the target, with nodes named by their distance to it.
struct World {
    lookup: Lookup,
    contacts: ChosenIds,
    config: LookupConfig,
}

impl World {
    fn new() -> Self {
        let config = LookupConfig { alpha: 2, ..LookupConfig::default() };
        Self { lookup: Lookup::new(TARGET, 3, 1), contacts: ChosenIds::new(), config }
    }

    /// A new address of the node at this distance.
    fn node(&mut self, distance: u8) -> NodeRef {
        let mut id = TARGET;
        id.0[31] ^= distance;
        self.contacts.put(id, Ipv4Addr::LOCALHOST.into(), 30303)
    }

    fn add(&mut self, node: NodeRef, depth: u8) -> bool {
        self.lookup.add(node, depth, 0, &self.contacts, &self.config)
    }

    /// Adds nodes at these distances at depth 1.
    fn hear<const N: usize>(&mut self, distances: [u8; N]) -> [NodeRef; N] {
        distances.map(|distance| {
            let node = self.node(distance);
            assert!(self.add(node, 1), "{distance}");
            node
        })
    }

    /// Asks all that may be asked now.
    fn ask(&mut self) -> Vec<NodeRef> {
        std::iter::from_fn(|| self.lookup.poll_next(self.config.alpha, &self.config)).collect()
    }

    fn is_done(&self) -> bool {
        self.lookup.is_done(&self.config)
    }

    fn result(&self) -> Vec<NodeRef> {
        self.lookup.nearest_alive().map(|candidate| candidate.node).collect()
    }

    fn state(&self, node: NodeRef) -> State {
        self.lookup.get(node).unwrap().state
    }
}

#[test]
fn it_asks_the_nearest_alpha_at_a_time_and_ends_when_the_k_nearest_have_answered() {
    let mut world = World::new();
    let [d, b, a, c, e] = world.hear([40, 20, 10, 30, 50]);
    assert_eq!(world.lookup.target(), &TARGET);
    assert_eq!(world.ask(), [a, b]);
    assert!(world.lookup.on_response(b));
    assert_eq!(world.ask(), [c]);
    // A nearer one that the answer names comes before what is left, and pushes the third nearest out of the result.
    let [n] = world.hear([5]);
    assert_eq!(world.ask(), []);
    assert!(world.lookup.on_response(a));
    assert_eq!(world.ask(), [n]);
    assert!(!world.is_done());
    assert!(world.lookup.on_response(n));
    assert!(world.is_done(), "the third nearest was asked too, but nobody waits for it");
    assert_eq!(world.ask(), []);
    assert_eq!((world.result(), world.lookup.asked()), (vec![n, a, b], 4));
    let order: Vec<NodeRef> = world.lookup.candidates().iter().map(|candidate| candidate.node).collect();
    assert_eq!(order, [n, a, b, c, d, e]);
    assert_eq!([n, a, b, c, d].map(|node| world.state(node)), {
        use State::*;
        [Answered, Answered, Answered, Asked, Heard]
    });
}

#[test]
fn one_with_nobody_to_ask_is_done() {
    let mut world = World::new();
    assert!(world.is_done());
    let [a] = world.hear([1]);
    assert!(!world.is_done());
    assert_eq!(world.ask(), [a]);
    assert!(!world.is_done());
    world.lookup.on_failure(a);
    assert!(world.is_done());
    assert_eq!(world.result(), []);
}

#[test]
fn a_failed_candidate_is_replaced_by_a_farther_one() {
    let mut world = World::new();
    let [a, b, c, d, e] = world.hear([1, 2, 3, 4, 5]);
    assert_eq!(world.ask(), [a, b]);
    assert!(world.lookup.on_failure(a));
    assert_eq!(world.ask(), [c]);
    world.lookup.on_response(b);
    assert_eq!(world.ask(), [d], "the three nearest are now b, c and d");
    world.lookup.on_response(c);
    assert_eq!(world.ask(), []);
    assert!(!world.is_done());
    world.lookup.on_response(d);
    assert!(world.is_done());
    assert_eq!((world.result(), world.state(e)), (vec![b, c, d], State::Heard));
    // Who has answered does not fail any more, whatever a second request of the engine comes to.
    assert!(world.lookup.on_failure(b));
    assert_eq!(world.state(b), State::Answered);
}

#[test]
fn late_requests_leave_room_for_others_and_their_answers_count() {
    let mut world = World::new();
    let [a, b, c, d, e, f, g] = world.hear([1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(world.ask(), [a, b]);
    assert!(world.lookup.on_late(a));
    assert_eq!(world.ask(), [c], "b alone counts against alpha");
    assert!(!world.lookup.on_late(a), "it is late already");
    assert!(world.lookup.on_late(b) && world.lookup.on_late(c));
    assert_eq!(world.ask(), [d, e], "others are asked in the stead of the late");
    assert!(world.lookup.on_late(d) && world.lookup.on_late(e));
    assert_eq!(world.ask(), [f], "but no more than k");
    assert!(world.lookup.on_late(f));
    assert_eq!((world.ask(), world.state(g)), (vec![], State::Heard));
    assert!(!world.is_done());
    world.lookup.on_response(b);
    world.lookup.on_response(c);
    assert!(!world.is_done(), "a, the nearest, is late but not lost");
    world.lookup.on_response(a);
    assert!(world.is_done());
    assert_eq!(world.result(), [a, b, c]);
    assert!(!world.lookup.on_late(a), "it has answered");
    assert!(!world.lookup.on_late(g), "it was not asked");
    assert_eq!((world.state(a), world.state(g)), (State::Answered, State::Heard));
}

#[test]
fn a_late_one_can_still_fail_and_an_answer_after_that_counts() {
    let mut world = World::new();
    let [a, b, c, d] = world.hear([1, 2, 3, 4]);
    assert_eq!(world.ask(), [a, b]);
    world.lookup.on_late(a);
    world.lookup.on_failure(a);
    world.lookup.on_response(b);
    assert_eq!(world.ask(), [c, d]);
    world.lookup.on_response(c);
    world.lookup.on_response(d);
    assert!(world.is_done());
    assert_eq!(world.result(), [b, c, d]);
    assert!(!world.lookup.on_late(a));
    assert!(world.lookup.on_response(a));
    assert_eq!(world.result(), [a, b, c]);
}

#[test]
fn a_silent_one_is_passed_over_until_it_answers() {
    let mut world = World::new();
    let [a, b, c, d, e] = world.hear([1, 2, 3, 4, 5]);
    assert_eq!(world.ask(), [a, b]);
    assert!(world.lookup.on_late(a) && world.lookup.on_silent(a) && world.lookup.on_silent(b));
    assert_eq!((world.ask(), world.result()), (vec![c, d], vec![c, d, e]));
    world.lookup.on_response(c);
    world.lookup.on_response(d);
    assert_eq!(world.ask(), [e], "the three nearest are now c, d and e");
    assert!(!world.is_done());
    // A sign of life is no answer, but one is waited for again.
    assert!(world.lookup.on_sign_of_life(b) && !world.lookup.on_sign_of_life(c));
    assert_eq!((world.state(b), world.result()), (State::Late, vec![b, c, d]));
    assert!(!world.is_done());
    assert!(world.lookup.on_silent(b));
    world.lookup.on_response(a);
    assert_eq!((world.is_done(), world.result()), (true, vec![a, c, d]));
    assert_eq!(world.lookup.silent().collect::<Vec<_>>(), [b]);
    // Who has answered, or has failed, or was not asked, is not silent.
    world.lookup.on_failure(b);
    assert!([a, b].iter().all(|node| !world.lookup.on_silent(*node)));
    assert_eq!((world.state(a), world.state(b)), (State::Answered, State::Failed));
}

#[test]
fn nobody_is_passed_over_for_good_where_nobody_answers() {
    let mut world = World::new();
    let [a, b] = world.hear([1, 2]);
    assert_eq!(world.ask(), [a, b]);
    assert!(world.lookup.on_silent(a) && world.lookup.on_silent(b));
    assert!(!world.is_done(), "it may be the network");
    world.lookup.on_failure(a);
    assert!(!world.is_done());
    world.lookup.on_failure(b);
    assert!(world.is_done());
}

#[test]
fn strangers_to_the_lookup_change_nothing() {
    let mut world = World::new();
    let stranger = world.node(9);
    world.hear([1]);
    assert!(!world.lookup.on_response(stranger));
    assert!(!world.lookup.on_failure(stranger));
    assert!(!world.lookup.on_late(stranger));
    assert_eq!(world.lookup.get(stranger), None);
}

#[test]
fn a_node_counts_once_and_its_other_addresses_when_the_first_has_failed() {
    let mut world = World::new();
    let [first, other] = world.hear([1, 2]);
    let [second, third, fourth] = [0; 3].map(|_| world.node(1));
    // Whoever names the first address of a node need not tell the truth: two more are kept.
    assert!([first, second, second, third, fourth].iter().all(|node| !world.add(*node, 2)));
    assert_eq!(world.lookup.nodes().collect::<Vec<_>>(), [first, second, third, other]);
    assert_eq!(world.ask(), [first, other]);
    world.lookup.on_late(first);
    assert!(world.lookup.on_failure(first));
    assert_eq!(world.lookup.get(first), None);
    assert_eq!(world.lookup.get(second).map(|c| (c.depth, c.state)), Some((2, State::Heard)));
    assert_eq!(world.ask(), [second]);
    assert!(world.lookup.on_failure(second));
    // The two that have failed are never asked again, and leave room for another.
    assert!([first, second, fourth].iter().all(|node| !world.add(*node, 3)));
    assert_eq!(world.ask(), [third]);
    assert!(!world.lookup.on_response(first), "a late answer of the first address is nobody's");
    assert!(world.lookup.on_response(third) && world.lookup.on_response(other));
    assert!(!world.add(fourth, 1) && world.is_done(), "it has been found");
    assert_eq!((world.result(), world.lookup.asked()), (vec![third, other], 4));
    // All that is known has failed, and then it is named anew.
    let mut world = World::new();
    let [first] = world.hear([1]);
    let second = world.node(1);
    assert_eq!(world.ask(), [first]);
    world.lookup.on_failure(first);
    assert!(world.is_done());
    assert!(!world.add(first, 1) && world.add(second, 4) && !world.is_done());
    assert_eq!(world.ask(), [second]);
    world.lookup.on_failure(second);
    assert!(world.is_done() && !world.add(first, 1) && !world.add(second, 1));
}

/// A node at three addresses, the first of which was asked and is silent, and another one that has answered.
fn silent_at_the_first(world: &mut World) -> [NodeRef; 3] {
    let [first, answering] = world.hear([1, 2]);
    let [second, third] = [0; 2].map(|_| world.node(1));
    world.add(second, 2);
    assert_eq!(world.ask(), [first, answering]);
    world.lookup.on_response(answering);
    assert!(world.lookup.on_silent(first));
    assert_eq!((world.state(second), world.lookup.get(first)), (State::Heard, None));
    assert_eq!(world.lookup.silent().collect::<Vec<_>>(), [first]);
    assert_eq!(world.lookup.place_of(first), Some((1, 0)));
    [first, second, third]
}

#[test]
fn a_silent_address_gives_way_to_another_and_comes_back_when_it_answers() {
    // It answers while the other is asked.
    let mut world = World::new();
    let [first, second, third] = silent_at_the_first(&mut world);
    assert_eq!(world.ask(), [second]);
    assert!(world.lookup.on_begun(first));
    assert_eq!((world.state(first), world.lookup.get(second)), (State::Answering, None));
    assert!(!world.is_done() && world.lookup.on_response(first) && world.is_done());
    // The other may answer too: the node counts once.
    assert!(world.lookup.on_response(second));
    assert_eq!(world.state(first), State::Answered);
    assert!(!world.add(third, 1));

    // It gives a sign of life, and fails all the same.
    let mut world = World::new();
    let [first, second, third] = silent_at_the_first(&mut world);
    assert!(world.lookup.on_sign_of_life(first));
    assert_eq!(world.state(first), State::Late);
    assert!(world.lookup.on_failure(first));
    assert_eq!((world.state(second), world.ask()), (State::Heard, vec![second]));
    assert!(world.lookup.on_silent(second));
    assert_eq!((world.state(second), world.is_done()), (State::Silent, true), "there is no other address");
    assert!(world.add(third, 1), "there is one now");
    assert_eq!(world.ask(), [third]);
    // The last one fails, and that which is silent may still answer.
    assert!(world.lookup.on_failure(third));
    assert_eq!(world.state(second), State::Silent);
    assert!(world.lookup.on_failure(second));
    assert_eq!(world.state(second), State::Failed);

    // A silent address can fail while the other is asked.
    let mut world = World::new();
    let [first, second, _] = silent_at_the_first(&mut world);
    assert_eq!(world.ask(), [second]);
    assert!(world.lookup.on_failure(first) && !world.lookup.on_response(first));
    assert_eq!(world.lookup.silent().count(), 0);
    assert!(world.lookup.on_failure(second) && world.is_done());
    assert_eq!(world.lookup.asked(), 3);
}

#[test]
fn of_more_candidates_than_the_bound_the_nearest_are_kept() {
    let mut world = World::new();
    let added: Vec<bool> = (1..=200)
        .rev()
        .map(|distance| {
            let node = world.node(distance);
            world.add(node, 1)
        })
        .collect();
    assert_eq!(added, [true; 200], "each was nearer than all before it");
    let distances = |world: &World| -> Vec<u8> {
        world.lookup.candidates().iter().map(|candidate| candidate.distance.0[31]).collect()
    };
    assert_eq!(distances(&world), (1..=128).collect::<Vec<u8>>());
    let [farther, zero] = [world.node(129), world.node(0)];
    assert!(!world.add(farther, 1));
    assert!(world.add(zero, 1), "the target itself is the nearest of all");
    assert_eq!(distances(&world), (0..=127).collect::<Vec<u8>>());
    assert_eq!(world.lookup.candidates()[0].node, zero);
}

#[test]
fn those_that_have_failed_make_room_first_and_those_that_have_answered_last() {
    let mut world = World::new();
    world.config.max_candidates = 4;
    let [a, b, c, d] = world.hear([10, 20, 30, 40]);
    assert_eq!(world.ask(), [a, b]);
    world.lookup.on_failure(a);
    world.lookup.on_failure(b);
    let candidates = |world: &World| world.lookup.candidates().iter().map(|one| one.node).collect::<Vec<_>>();
    // The farther of the two that have failed makes room for one that is farther than all.
    let e = world.node(50);
    assert!(world.add(e, 1));
    assert_eq!(candidates(&world), [a, c, d, e]);
    assert_eq!(world.ask(), [c, d]);
    world.lookup.on_response(d);
    assert_eq!(world.ask(), [e]);
    world.lookup.on_response(e);
    let [f] = world.hear([35]);
    assert_eq!(candidates(&world), [c, f, d, e]);
    assert!(!world.add(a, 1) && !world.add(b, 1), "they are not asked again for having been evicted");
    // Those that have answered are farther than what a liar invents, and stay while it has not been asked for.
    let far = world.node(45);
    assert!(!world.add(far, 1));
    let [near] = world.hear([5]);
    assert_eq!(candidates(&world), [near, c, d, e]);
    let nearer = world.node(4);
    assert!(world.add(nearer, 1));
    assert_eq!(candidates(&world), [nearer, c, d, e]);
    // Where all have been asked, the nearest count.
    assert_eq!(world.ask(), [nearer]);
    world.lookup.on_response(c);
    world.lookup.on_response(nearer);
    assert!(world.add(far, 1));
    assert_eq!(candidates(&world), [nearer, c, d, far]);
}

#[test]
fn invented_nodes_keep_nobody_out_of_the_result() {
    let mut world = World::new();
    world.config.max_queries = 5;
    let [a, b, c, d] = world.hear([50, 60, 70, 80]);
    assert_eq!(world.ask(), [a, b]);
    world.lookup.on_response(a);
    let invented = world.hear([1, 2, 3, 4, 5]);
    world.lookup.on_response(b);
    assert_eq!(world.ask(), invented[..2]);
    invented[..2].iter().for_each(|node| assert!(world.lookup.on_failure(*node)));
    assert_eq!(world.ask(), [invented[2]], "five requests are all");
    let result = |world: &World| world.lookup.result().map(|(one, answered)| (one.node, answered)).collect::<Vec<_>>();
    assert_eq!(result(&world), [(invented[2], false), (a, true), (b, true)]);
    world.lookup.on_begun(invented[2]);
    assert_eq!(result(&world), [(invented[2], true), (a, true), (b, true)], "who has begun to answer has answered");
    world.lookup.on_failure(invented[2]);
    assert!(world.is_done());
    assert_eq!(world.result(), [invented[3], invented[4], a], "the nearest that have not failed");
    assert_eq!(result(&world), [(invented[3], false), (a, true), (b, true)]);
    assert_eq!([c, d].map(|node| world.state(node)), [State::Heard; 2]);
}

#[test]
fn after_max_queries_it_ends_with_what_it_has() {
    let mut world = World::new();
    world.config.max_queries = 3;
    let [a, b, c, d] = world.hear([1, 2, 3, 4]);
    assert_eq!(world.ask(), [a, b]);
    world.lookup.on_failure(a);
    assert_eq!(world.ask(), [c]);
    world.lookup.on_response(b);
    assert_eq!(world.ask(), [], "d is among the three nearest, but the requests are used up");
    assert!(!world.is_done(), "an answer is still to come");
    world.lookup.on_response(c);
    assert!(world.is_done());
    assert_eq!((world.result(), world.lookup.asked()), (vec![b, c, d], 3));
}

#[test]
fn a_stopped_one_is_done_and_asks_no_more() {
    let mut world = World::new();
    let [a, ..] = world.hear([1, 2, 3, 4]);
    assert_eq!(world.lookup.poll_next(world.config.alpha, &world.config), Some(a));
    world.lookup.stop();
    assert!(world.is_done());
    assert_eq!(world.ask(), []);
    world.lookup.on_response(a);
    assert_eq!(world.state(a), State::Answered);
}

#[test]
fn the_depth_of_a_candidate_is_that_at_which_it_was_first_heard_of() {
    let mut world = World::new();
    let [a, b] = [world.node(1), world.node(2)];
    assert!(world.add(a, 3) && world.add(b, 1));
    assert!(!world.add(a, 2) && !world.add(b, 4));
    assert_eq!([a, b].map(|node| world.lookup.get(node).unwrap().depth), [3, 1]);
}

/// A lookup for the two nearest along two paths.
fn two_paths() -> World {
    let mut world = World::new();
    world.lookup = Lookup::new(TARGET, 2, 2);
    world
}

impl World {
    fn own(&mut self, distance: u8) -> NodeRef {
        let node = self.node(distance);
        assert!(self.lookup.add_own(node, &self.contacts, &self.config));
        node
    }

    fn named(&mut self, node: NodeRef, teller: NodeRef) -> bool {
        self.lookup.add_named(node, teller, &self.contacts, &self.config)
    }

    fn path(&self, node: NodeRef) -> (u8, u8) {
        self.lookup.place_of(node).unwrap()
    }
}

#[test]
fn disjoint_paths_share_out_the_first_nodes_and_ask_nobody_twice() {
    let mut world = two_paths();
    let own = [10, 20, 30, 40].map(|distance| world.own(distance));
    assert_eq!(own.map(|node| world.path(node)), [(1, 0), (1, 1), (1, 0), (1, 1)]);
    assert_eq!(world.ask(), own[..2], "alpha is 2, and each path has one");
    // What the first names is its path's, but what the other holds.
    let [a, b, c] = [1, 2, 3].map(|distance| world.node(distance));
    assert!(world.named(a, own[0]) && world.named(b, own[0]) && !world.named(own[3], own[0]));
    assert!(!world.named(a, own[1]) && world.named(c, own[1]));
    assert_eq!([a, b, c, own[3]].map(|node| world.path(node)), [(2, 0), (2, 0), (2, 1), (1, 1)]);
    world.lookup.on_response(own[0]);
    world.lookup.on_response(own[1]);
    assert_eq!(world.ask(), [a, c]);
    world.lookup.on_response(a);
    assert_eq!(world.ask(), [b]);
    world.lookup.on_response(b);
    // The first path is done, and what is left of alpha is the other's. It goes on to its own two nearest.
    assert_eq!(world.ask(), []);
    assert!(!world.is_done());
    world.lookup.on_response(c);
    assert!(world.is_done());
    assert_eq!((world.result(), world.lookup.asked()), (vec![a, b], 5));
}

#[test]
fn a_liar_on_one_path_leads_away_only_that_one() {
    let mut world = two_paths();
    let [liar, honest] = [10, 20].map(|distance| world.own(distance));
    assert_eq!(world.ask(), [liar, honest]);
    // A lookup along one path would be done with these two.
    let friends = [11, 12].map(|distance| world.node(distance));
    friends.iter().for_each(|friend| assert!(world.named(*friend, liar)));
    let truth = world.node(30);
    assert!(world.named(truth, honest));
    world.lookup.on_response(liar);
    world.lookup.on_response(honest);
    assert_eq!(world.ask(), [friends[0], truth]);
    world.lookup.on_response(friends[0]);
    let nearest = world.node(1);
    assert!(world.named(nearest, truth));
    world.lookup.on_response(truth);
    assert_eq!(world.ask(), [nearest]);
    world.lookup.on_response(nearest);
    assert!(world.is_done());
    assert_eq!(world.result(), [nearest, liar]);
    // A false address that the liar was the first to name is no hiding place, whoever holds the path.
    let mut world = two_paths();
    let [liar, honest] = [10, 20].map(|distance| world.own(distance));
    let [wrong, right] = [0; 2].map(|_| world.node(1));
    assert_eq!(world.ask(), [liar, honest]);
    assert!(world.named(wrong, liar) && !world.named(right, honest));
    world.lookup.on_response(liar);
    world.lookup.on_response(honest);
    assert_eq!(world.ask(), [wrong]);
    world.lookup.on_failure(wrong);
    assert_eq!(world.ask(), [right]);
    world.lookup.on_response(right);
    assert_eq!((world.is_done(), world.result()), (true, vec![right, liar]));
}

#[test]
fn paths_without_anybody_begin_with_the_first_that_are_named_and_requests_are_bounded_over_all() {
    let mut world = World::new();
    world.lookup = Lookup::new(TARGET, 2, 3);
    world.config.max_queries = 4;
    let only = world.own(50);
    assert_eq!(world.ask(), [only]);
    let named = [40, 30, 20, 10].map(|distance| world.node(distance));
    named.iter().for_each(|node| assert!(world.named(*node, only)));
    assert_eq!(named.map(|node| world.path(node).1), [1, 2, 0, 0]);
    world.lookup.on_response(only);
    // Three paths, one request each, though alpha is 2.
    assert_eq!(world.ask(), [named[3], named[0], named[1]]);
    world.lookup.on_response(named[3]);
    assert_eq!((world.ask(), world.lookup.asked()), (vec![], 4));
    world.lookup.on_response(named[0]);
    world.lookup.on_failure(named[1]);
    assert!(world.is_done());
    // Each path keeps as many candidates as one alone would.
    let mut world = two_paths();
    world.config.max_candidates = 2;
    let own = [10, 20, 30, 40].map(|distance| world.own(distance));
    let near = world.node(1);
    assert!(world.named(near, own[1]));
    let left: Vec<NodeRef> = world.lookup.candidates().iter().map(|one| one.node).collect();
    assert_eq!(left, [near, own[0], own[1], own[2]]);
    // Fewer than one path and more than eight there are not.
    assert_eq!([0, 9].map(|paths| Lookup::new(TARGET, 2, paths).paths), [1, 8]);
}

#[test]
fn of_one_network_few_are_among_the_nearest() {
    let mut world = World::new();
    let limits = NetworkLimits { v4: 2, v6: 1, exempt_lan: true };
    world.lookup = Lookup::new(TARGET, 3, 1).spread(limits);
    let mut at = |distance: u8, ip: [u8; 4]| {
        let mut id = TARGET;
        id.0[31] ^= distance;
        let node = world.contacts.put(id, Ipv4Addr::from(ip).into(), 30303);
        assert!(world.lookup.add(node, 1, 0, &world.contacts, &world.config));
        node
    };
    let [a, b, c, d] = [1, 2, 3, 4].map(|n| at(10 * n, [60, 0, 0, n]));
    let [far, farther] = [(100, [60, 0, 1, 1]), (110, [60, 0, 2, 1])].map(|(distance, ip)| at(distance, ip));
    // The third and the fourth of the network are not asked before those of others.
    assert_eq!(world.ask(), [a, b]);
    assert!(world.lookup.on_response(a));
    assert_eq!((world.ask(), world.result()), (vec![far], vec![a, b, far]));
    // When one of the two fails the next one counts, and comes before those that are farther.
    assert!(world.lookup.on_failure(b));
    assert_eq!((world.ask(), world.result()), (vec![c], vec![a, c, far]));
    assert!(world.lookup.on_response(far) && !world.is_done());
    assert!(world.lookup.on_response(c) && world.is_done());
    let result: Vec<_> = world.lookup.result().map(|(candidate, answered)| (candidate.node, answered)).collect();
    assert_eq!(result, [(a, true), (c, true), (far, true)]);
    let _ = (d, farther);
}

#[test]
fn the_node_itself_counts_however_many_of_its_network_there_are() {
    let mut world = World::new();
    world.lookup = Lookup::new(TARGET, 3, 1).spread(NetworkLimits { v4: 1, v6: 1, exempt_lan: false });
    let near = world.contacts.put(TARGET, Ipv4Addr::new(60, 0, 0, 1).into(), 30303);
    let [one, two, three] = [1, 2, 3].map(|n| {
        let mut id = TARGET;
        id.0[0] ^= n;
        // Loopback is no network.
        let ip = if n == 1 { [60, 0, 0, 1] } else { [127, 0, 0, 1] };
        world.contacts.put(id, Ipv4Addr::from(ip).into(), 30303)
    });
    for node in [one, two, three, near] {
        assert!(world.add(node, 1));
    }
    assert_eq!(world.result(), [near, two, three]);
}
