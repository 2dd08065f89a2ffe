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
fn a_node_counts_once_and_its_second_address_only_when_the_first_has_failed() {
    let mut world = World::new();
    let [first, other] = world.hear([1, 2]);
    let second = world.node(1);
    assert!(!world.add(first, 1) && !world.add(second, 2));
    assert_eq!(world.ask(), [first, other]);
    assert!(!world.add(second, 2));
    world.lookup.on_late(first);
    assert!(!world.add(second, 2), "the first may yet answer");
    world.lookup.on_failure(first);
    assert!(!world.add(first, 1), "this address has failed");
    assert!(world.add(second, 4));
    assert_eq!(world.lookup.get(first), None);
    assert_eq!(world.lookup.get(second).map(|c| (c.depth, c.state)), Some((4, State::Heard)));
    assert_eq!(world.ask(), [second]);
    assert!(!world.lookup.on_response(first), "a late answer of the first address is nobody's");
    world.lookup.on_response(second);
    world.lookup.on_response(other);
    assert!(!world.add(first, 1) && world.is_done());
    assert_eq!(world.result(), [second, other]);
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
