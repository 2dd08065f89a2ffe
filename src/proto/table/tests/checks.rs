//! Which members are to be checked when.

use super::*;

impl World {
    fn due(&self) -> (Vec<NodeRef>, Time) {
        let mut due = vec![];
        let next = self.table.due_checks(self.now, &self.config, |node| due.push(node));
        assert!(next > self.now);
        (due, next)
    }
}

#[test]
fn an_empty_table_has_no_checks() {
    let mut world = World::new();
    assert_eq!(world.due(), (vec![], Time::NEVER));
    let node = world.member(256, 0);
    world.fail(node);
    assert_eq!(world.due(), (vec![], Time::NEVER), "those of a doubtful member are the engine's");
}

#[test]
fn new_members_are_due_after_a_twentieth_of_a_round_and_not_all_at_once() {
    let mut world = World::new();
    let start = world.now;
    let members: Vec<NodeRef> = (0..96).map(|i| world.member(251 + i / 16, 0)).collect();
    // A round of 96 takes 480 s; each interval is cut by up to an eighth.
    world.now = start + Duration::from_secs(21);
    assert_eq!(world.due().0, []);
    world.now = start;
    let (mut seen, mut instants) = (vec![], 0);
    while seen.len() < members.len() {
        let (due, next) = world.due();
        for node in due {
            if !seen.contains(&node) {
                assert!(world.now > start + Duration::from_secs(21));
                seen.push(node);
            }
        }
        world.now = next;
        instants += 1;
    }
    // The loop has stepped past the last of them.
    assert_eq!(world.now, Time::NEVER);
    world.now = start + Duration::from_secs(24);
    assert_eq!(world.due().0.len(), 96);
    assert!(instants > 60, "{instants} instants for 96 members");
}

/// Checks the intervals, in seconds, of a member that passes all its checks: each is the expected one, or less by up to
/// an eighth.
fn assert_intervals(members: u16, expected: &[u64]) {
    let mut world = World::new();
    // Loopback, so that no limit but those of the buckets counts.
    let nodes: Vec<NodeRef> = (0..members).map(|i| world.node_at(256 - i / 16, 0, ip("127.0.0.1"))).collect();
    for node in &nodes {
        assert_eq!(world.inbound(*node), Offer::Added);
    }
    for seconds in expected {
        let entry = *world.table.get(nodes[0], &world.contacts).unwrap();
        let at = world.table.check_at(&entry, &world.config);
        let (interval, full) = (at.since(entry.proved.start()), Duration::from_secs(*seconds));
        assert!(interval > full * 7 / 8 && interval <= full, "{interval:?} for {full:?} with {members} members");
        world.now = at;
        assert_eq!(world.inbound(nodes[0]), Offer::Refreshed);
    }
}

#[test]
fn intervals_double_up_to_a_pace_that_the_size_of_the_table_sets() {
    // At least 30 s, at most 30 min, between them 5 s for each member; a new one after a twentieth of that, or 10 s.
    assert_intervals(1, &[10, 20, 30, 30, 30]);
    assert_intervals(6, &[10, 20, 30, 30]);
    assert_intervals(16, &[10, 20, 40, 80, 80, 80]);
    assert_intervals(100, &[25, 50, 100, 200, 400, 500, 500]);
    assert_intervals(260, &[65, 130, 260, 520, 1040, 1300, 1300]);
    assert_intervals(400, &[100, 200, 400, 800, 1600, 1800, 1800]);
}

#[test]
fn settings_that_cross_do_no_harm() {
    let config = TableConfig {
        min_check: Duration::from_secs(60),
        max_check: Duration::from_secs(15),
        ..TableConfig::default()
    };
    let mut world = World::with(config);
    world.member(256, 0);
    world.pass(15);
    assert_eq!(world.due(), (vec![NodeRef(0)], Time::NEVER));
    // No checks at all.
    (world.config.first_check, world.config.min_check) = (Duration::MAX, Duration::MAX);
    world.config.max_check = Duration::MAX;
    let due = world.due();
    assert!(due.0.is_empty() && due.1 > Time::from_secs(1 << 40), "{due:?}");
}

#[test]
fn a_full_table_makes_one_check_in_five_seconds() {
    let mut world = World::new();
    for i in 0..256 {
        let node = world.node_at(256 - i / 16, 0, ip("127.0.0.1"));
        assert_eq!(world.inbound(node), Offer::Added);
    }
    // The engine's loop, with members that always answer at once.
    let (mut checks, warm, end) = (0, Time::from_secs(10_000), Time::from_secs(20_000));
    while world.now < end {
        let (due, next) = world.due();
        for node in due {
            checks += u32::from(world.now >= warm);
            assert_eq!(world.inbound(node), Offer::Refreshed);
        }
        world.now = next.min(world.due().1);
    }
    let pace = 10_000.0 / f64::from(checks);
    assert!((4.3..5.0).contains(&pace), "a check each {pace} s");
}
