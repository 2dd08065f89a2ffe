//! The tables of a network at one moment.

use super::population::number;
use super::random::mix;
use super::report::{BucketFill, Census, Summary};
use super::truth::Truth;
use super::world::World;

/// In a larger network the fill of the buckets and the stale entries are those of a uniform sample of about this many
/// nodes. The number of entries and the connectivity are always those of all.
const SAMPLE: usize = 10_000;

/// Starting points from which the largest connected set is searched.
const STARTS: u64 = 8;

impl Census {
    /// Counts the tables of the nodes that run now, whose buckets hold `k` members. Nothing is copied: it takes a few
    /// bytes a node.
    pub(super) fn take(world: &World, k: usize, seed: u64) -> Self {
        let population = world.population();
        let running: Vec<usize> = (0..population.len()).filter(|&node| world.engine(node).is_some()).collect();
        let truth = Truth::new(running.iter().map(|&node| (*population.id(node), node as u32)));
        let mut sampled = 0u64;
        let (mut members, mut possible) = ([0u64; 257], [0u64; 257]);
        let (mut entries, mut stale) = (0u64, 0u64);
        for &node in &running {
            if mix(mix(seed, 0x6365_6e73), node as u64) % running.len() as u64 >= SAMPLE as u64 {
                continue;
            }
            sampled += 1;
            for (log, entry) in world.engine(node).into_iter().flat_map(|engine| engine.table().entries()) {
                members[usize::from(log)] += 1;
                entries += 1;
                stale += u64::from(world.engine(number(entry.node)).is_none());
            }
            let mut left = running.len() - 1;
            for log in (1..=256u16).rev() {
                if left == 0 {
                    break;
                }
                let there = truth.bucket(population.id(node), log).len();
                left -= there.min(left);
                possible[usize::from(log)] += there.min(k) as u64;
            }
        }
        let mean = |sum: u64| sum as f64 / sampled.max(1) as f64;
        let buckets = (1..=256u16).rev().filter(|&log| members[usize::from(log)] > 0).map(|log| BucketFill {
            log_distance: log,
            members: mean(members[usize::from(log)]),
            possible: mean(possible[usize::from(log)]),
        });
        let sizes = running.iter().filter_map(|&node| world.engine(node)).map(|engine| engine.table().len() as f64);
        let neighbours = |node: usize| {
            let entries = world.engine(node).into_iter().flat_map(|engine| engine.table().entries());
            entries.map(|(_, entry)| number(entry.node))
        };
        Self {
            running: running.len(),
            entries: Summary::of(sizes.collect()),
            buckets: buckets.collect(),
            stale: stale as f64 / entries.max(1) as f64,
            connected: connected(population.len(), &running, seed, neighbours),
        }
    }
}

/// The share of `running` in the largest set of nodes in which everybody can be reached from everybody. It is exact when
/// the set has more than half of them; else it is the largest that was met from a few starting points.
fn connected<I: Iterator<Item = usize>>(
    population: usize,
    running: &[usize],
    seed: u64,
    neighbours: impl Fn(usize) -> I,
) -> f64 {
    if running.is_empty() {
        return 0.0;
    }
    let mut runs = vec![false; population];
    running.iter().for_each(|&node| runs[node] = true);
    let mut known = vec![false; population];
    let mut largest = 0;
    for start in 0..STARTS {
        let start = running[(mix(mix(seed, 0x7265_6163), start) % running.len() as u64) as usize];
        if known[start] {
            continue;
        }
        let (from, to) = (reached(start, &runs, &neighbours), reaching(start, running, &neighbours, population));
        let set = running.iter().filter(|&&node| from[node] && to[node]);
        largest = largest.max(set.inspect(|&&node| known[node] = true).count());
        if 2 * largest > running.len() {
            break;
        }
    }
    largest as f64 / running.len() as f64
}

/// Who can be reached from `start`.
fn reached<I: Iterator<Item = usize>>(start: usize, runs: &[bool], neighbours: impl Fn(usize) -> I) -> Vec<bool> {
    let mut seen = vec![false; runs.len()];
    seen[start] = true;
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        for next in neighbours(node) {
            if runs[next] && !seen[next] {
                seen[next] = true;
                open.push(next);
            }
        }
    }
    seen
}

/// From whom `end` can be reached. Nobody knows who points to him, so all are asked, again and again, until nobody is
/// added; in a network that is one, three or four times.
fn reaching<I: Iterator<Item = usize>>(
    end: usize,
    running: &[usize],
    neighbours: impl Fn(usize) -> I,
    population: usize,
) -> Vec<bool> {
    let mut seen = vec![false; population];
    seen[end] = true;
    let mut rest: Vec<usize> = running.iter().copied().filter(|&node| node != end).collect();
    loop {
        let before = rest.len();
        rest.retain(|&node| {
            seen[node] = neighbours(node).any(|next| seen[next]);
            !seen[node]
        });
        if rest.len() == before {
            return seen;
        }
        // A chain is followed whichever way its numbers run.
        rest.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(running: &[usize], edges: &[(usize, usize)]) -> f64 {
        connected(10, running, 1, |node| edges.iter().filter(move |(from, _)| *from == node).map(|(_, to)| *to))
    }

    #[test]
    fn the_largest_connected_set_is_found() {
        let all: Vec<usize> = (0..10).collect();
        let ring: Vec<(usize, usize)> = (0..10).map(|node| (node, (node + 1) % 10)).collect();
        assert_eq!(share(&all, &ring), 1.0);
        assert_eq!(share(&all, &ring[..9]), 0.1, "a chain leads nowhere back");
        assert_eq!(share(&all[..9], &ring), 1.0 / 9.0, "the tenth is dead");
        let two: Vec<(usize, usize)> = (0..10).map(|node| (node, (node + 1) % 5 + node / 5 * 5)).collect();
        assert_eq!(share(&all, &two), 0.5);
        let one_way = [&two[..], &[(0, 7)]].concat();
        assert_eq!(share(&all, &one_way), 0.5);
        assert_eq!(share(&all, &[&one_way[..], &[(8, 3)]].concat()), 1.0);
        assert_eq!(share(&[], &[]), 0.0);
    }
}
