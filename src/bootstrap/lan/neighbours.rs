//! The nodes that were seen in the LAN, and when to try which.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sighting::{Endpoints, Sighting};
use crate::proto::identity::{Endpoint, PublicKey};

/// Nodes that are kept, some 500 bytes each. In a larger LAN these are more than enough to find the others through. At
/// the bound the one that has waited longest and never answered is forgotten for the new one; where all have answered,
/// the new one is passed over.
const MAX_NEIGHBOURS: usize = 256;

/// After this time a node is tried again, whether it answered or not, and then after twice that, and so on up to
/// [`RARELY`]. A node that has moved is not moved in the table while its former place answered a short time ago.
const AGAIN: Duration = Duration::from_secs(15);

/// The longest time between two tries: one that was lost is found again though mDNS has nothing new to say.
const RARELY: Duration = Duration::from_mins(5);

/// A node is not tried more often than this, however often it changes what it says.
const GAP: Duration = Duration::from_secs(1);

/// The nodes that were seen. Times are counted from any one moment.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    nodes: BTreeMap<String, Neighbour>,
}

/// A node to try: its addresses one after another until one answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Try {
    /// The name of its service.
    pub(crate) name: String,
    /// Its key.
    pub(crate) key: PublicKey,
    /// Its addresses, that which answered last first.
    pub(crate) endpoints: Endpoints,
}

#[derive(Debug)]
struct Neighbour {
    key: PublicKey,
    endpoints: Endpoints,
    answered: bool,
    since: Duration,
    /// When it is to be tried; `None` while it is.
    due: Option<Duration>,
    /// When it was last tried.
    last: Option<Duration>,
    /// How long to wait after the next try.
    wait: Duration,
    /// It has changed while it was tried.
    changed: bool,
}

impl Neighbours {
    /// Takes in what was seen.
    pub(crate) fn saw(&mut self, now: Duration, sighting: Sighting) {
        let Sighting { name, key, endpoints } = sighting;
        if let Some(node) = self.nodes.get_mut(&name) {
            let same = node.key == key
                && node.endpoints.len() == endpoints.len()
                && endpoints.iter().all(|endpoint| node.endpoints.contains(endpoint));
            if !same {
                node.answered &= node.key == key;
                (node.key, node.endpoints, node.wait) = (key, endpoints, AGAIN);
                node.changed = node.due.is_none();
                let soonest = node.last.map_or(now, |last| now.max(last + GAP));
                node.due = node.due.map(|_| soonest);
            }
            return;
        }
        if self.nodes.len() >= MAX_NEIGHBOURS {
            let silent = self.nodes.iter().filter(|(_, node)| !node.answered);
            let Some(oldest) = silent.min_by_key(|(_, node)| node.since).map(|(name, _)| name.clone()) else { return };
            self.nodes.remove(&oldest);
        }
        let node = Neighbour {
            key,
            endpoints,
            answered: false,
            since: now,
            due: Some(now),
            last: None,
            wait: AGAIN,
            changed: false,
        };
        self.nodes.insert(name, node);
    }

    /// Forgets a node that has said goodbye, or whose announcement is out of date.
    pub(crate) fn gone(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// The next node that is to be tried now; [`Neighbours::tried`] ends that.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Try> {
        let waiting = self.nodes.iter_mut().filter(|(_, node)| node.due.is_some_and(|due| due <= now));
        let (name, node) = waiting.min_by_key(|(_, node)| node.due)?;
        (node.due, node.last) = (None, Some(now));
        Some(Try { name: name.clone(), key: node.key, endpoints: node.endpoints.clone() })
    }

    /// When [`Neighbours::next`] has something.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.nodes.values().filter_map(|node| node.due).min()
    }

    /// A node was tried, and answered at this address or not at all. Says whether it is news that it answers.
    pub(crate) fn tried(&mut self, now: Duration, tried: &Try, answer: Option<Endpoint>) -> bool {
        let Some(node) = self.nodes.get_mut(&tried.name).filter(|node| node.due.is_none()) else { return false };
        let changed = std::mem::take(&mut node.changed);
        let answer = answer.filter(|_| node.key == tried.key);
        if changed {
            node.due = node.last.map(|last| now.max(last + GAP));
        } else {
            node.due = Some(now + node.wait);
            node.wait = (node.wait * 2).min(RARELY);
        }
        let Some(answer) = answer else { return false };
        if let Some(at) = node.endpoints.iter().position(|endpoint| *endpoint == answer) {
            node.endpoints[..=at].rotate_right(1);
        }
        !std::mem::replace(&mut node.answered, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Duration = Duration::from_secs(1);

    fn endpoint(last: u8) -> Endpoint {
        Endpoint::new([10, 0, 0, last].into(), 5000, 0)
    }

    fn seen(name: &str, key: u8, ends: &[u8]) -> Sighting {
        let endpoints = ends.iter().map(|end| endpoint(*end)).collect();
        Sighting { name: name.to_owned(), key: PublicKey([key; 64]), endpoints }
    }

    #[test]
    fn a_node_is_tried_at_once_and_again_after_a_while() {
        let mut nodes = Neighbours::default();
        nodes.saw(ONE, seen("a", 1, &[1, 2]));
        let tried = nodes.next(ONE).unwrap();
        assert_eq!((tried.name.as_str(), tried.key, tried.endpoints.len()), ("a", PublicKey([1; 64]), 2));
        assert_eq!((nodes.next(ONE), nodes.next_due()), (None, None), "it is under way");
        assert!(nodes.tried(ONE, &tried, Some(endpoint(2))), "news");
        assert_eq!(nodes.next_due(), Some(ONE + AGAIN));

        // Saying the same again changes nothing.
        nodes.saw(2 * ONE, seen("a", 1, &[2, 1]));
        assert_eq!(nodes.next_due(), Some(ONE + AGAIN));
        let again = nodes.next(ONE + AGAIN).unwrap();
        assert_eq!(again.endpoints[..], [endpoint(2), endpoint(1)], "first where it answered");
        assert!(!nodes.tried(ONE + AGAIN, &again, Some(endpoint(2))), "no news");
        nodes.gone("a");
        assert_eq!(nodes.next_due(), None);
    }

    #[test]
    fn nodes_are_tried_ever_more_rarely() {
        let mut nodes = Neighbours::default();
        nodes.saw(Duration::ZERO, seen("a", 1, &[1]));
        let mut now = Duration::ZERO;
        let waits: Vec<u64> = (0..7)
            .map(|_| {
                let tried = nodes.next(now).unwrap();
                assert!(!nodes.tried(now, &tried, None));
                let due = nodes.next_due().unwrap();
                let wait = due - now;
                now = due;
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [15, 30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn who_moves_is_tried_at_once_but_not_more_often_than_once_a_second() {
        let mut nodes = Neighbours::default();
        nodes.saw(Duration::ZERO, seen("a", 1, &[1]));
        let tried = nodes.next(Duration::ZERO).unwrap();
        assert!(nodes.tried(Duration::ZERO, &tried, Some(endpoint(1))));
        for millis in [100, 200, 300] {
            nodes.saw(Duration::from_millis(millis), seen("a", 1, &[millis as u8]));
        }
        assert_eq!(nodes.next_due(), Some(GAP));
        let moved = nodes.next(GAP).unwrap();
        // It moves once more while it is tried.
        nodes.saw(2 * GAP, seen("a", 1, &[9]));
        assert_eq!(nodes.next_due(), None);
        assert!(!nodes.tried(5 * GAP, &moved, None));
        let last = nodes.next(5 * GAP).unwrap();
        assert_eq!(last.endpoints[..], [endpoint(9)]);
        assert!(!nodes.tried(5 * GAP, &last, Some(endpoint(9))), "an old acquaintance");

        // Under the same name there is another node now.
        nodes.saw(9 * GAP, seen("a", 2, &[9]));
        let other = nodes.next(9 * GAP).unwrap();
        assert!(nodes.tried(9 * GAP, &other, Some(endpoint(9))), "news");
    }

    #[test]
    fn at_the_bound_the_silent_give_way_and_those_that_answered_stay() {
        let mut nodes = Neighbours::default();
        let name = |number: usize| format!("{number:04}");
        for number in 0..MAX_NEIGHBOURS {
            let now = Duration::from_secs(number as u64);
            nodes.saw(now, seen(&name(number), 1, &[1]));
            while let Some(tried) = nodes.next(now) {
                let answers = tried.name != name(7) && tried.name != name(9);
                nodes.tried(now, &tried, answers.then_some(endpoint(1)));
            }
        }
        for (number, forgotten) in [(1000, 7), (1001, 9), (1002, 1000)] {
            assert!(nodes.nodes.contains_key(&name(forgotten)));
            nodes.saw(Duration::from_secs(number), seen(&name(number as usize), 1, &[1]));
            assert!(!nodes.nodes.contains_key(&name(forgotten)));
            assert_eq!(nodes.nodes.len(), MAX_NEIGHBOURS);
        }
        for number in [1001, 1002] {
            nodes.nodes.get_mut(&name(number)).unwrap().answered = true;
        }
        nodes.saw(Duration::from_secs(2000), seen("new", 1, &[1]));
        assert!(!nodes.nodes.contains_key("new"));
        assert!(size_of::<Neighbour>() + size_of::<String>() <= 500, "{}", size_of::<Neighbour>());
    }
}
