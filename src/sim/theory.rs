//! What theory says of lookups: an idealised network, to compare the simulated one with.
//!
//! The model is that of Roos, Salah and Strufe 2015, "Determining the Hop Count in Kademlia-type Systems": nodes stand
//! at random points of the ID space, each bucket is a uniform sample of k of the nodes of its range, or all of them if
//! there are no more, everybody is alive, and everybody answers with the k nodes of its table that are nearest to the
//! target. It is evaluated by drawing lookups at random, and shares no code with the engine, so that a mistake of the one
//! is not repeated by the other. Tables are drawn where a lookup comes by, and nowhere else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::network::Latency;
use super::random::mix;

/// Mean hops by nodes of the network, for k = 16 and alpha = 3, by the analysis of Roos, Salah and Strufe 2015.
///
/// They count the contact with the nearest node itself, and we do not, so these are their figures less one.
pub const PUBLISHED: [(usize, f64); 3] = [(1_000, 0.955), (10_000, 1.532), (100_000, 2.044)];

/// An idealised network and its lookups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ideal {
    /// Nodes of the network, at least 2.
    pub nodes: usize,
    /// Entries of a bucket, and nodes of an answer; at least 1.
    pub k: usize,
    /// Concurrent requests of a lookup; at least 1.
    pub alpha: usize,
    /// One-way latency: it decides whose answer comes first.
    pub latency: Latency,
    /// Whether a node that is not in the asker's table wants a PING and a PONG each way before it answers, as discv4 has
    /// it: its answer takes twice as long, so those of the asker's own table come first. The published analysis, in
    /// rounds of equal length, knows nothing of it.
    pub bonding: bool,
}

/// The hops of lookups in an idealised network.
#[derive(Clone, Debug, PartialEq)]
pub struct IdealHops {
    /// Share of the lookups at 0, 1, 2, … hops.
    pub shares: Vec<f64>,
    /// Mean hops.
    pub mean: f64,
    /// Standard error of the mean.
    pub se: f64,
}

/// Networks among which the lookups are dealt out, so that no single set of IDs decides the mean.
const NETWORKS: usize = 25;

/// IDs that all networks together may have, so that huge ones do not take long; the larger one is, the less it matters
/// which IDs it has.
const MAX_IDS: usize = 2_500_000;

impl Ideal {
    /// The hops of `lookups` lookups for random targets by random nodes, drawn from a generator with this seed.
    pub fn hops(&self, lookups: usize, seed: u64) -> IdealHops {
        let mut rng = StdRng::seed_from_u64(mix(seed, 0x7468_656f));
        let mut counts: Vec<usize> = Vec::new();
        let mut done = 0;
        let networks = (MAX_IDS / self.nodes.max(1)).clamp(1, NETWORKS);
        for network in 1..=networks {
            let until = lookups * network / networks;
            if until == done {
                continue;
            }
            let mut ids: Vec<u64> = (0..self.nodes.max(2)).map(|_| rng.random()).collect();
            ids.sort_unstable();
            for _ in done..until {
                let hops = Walk::new(self, &ids, rng.random(), &mut rng).run(&mut rng);
                if counts.len() <= hops {
                    counts.resize(hops + 1, 0);
                }
                counts[hops] += 1;
            }
            done = until;
        }
        summarise(&counts)
    }
}

fn summarise(counts: &[usize]) -> IdealHops {
    let total = counts.iter().sum::<usize>().max(1) as f64;
    let shares: Vec<f64> = counts.iter().map(|&count| count as f64 / total).collect();
    let moment = |power: i32| shares.iter().zip(0..).map(|(share, hops)| share * f64::from(hops).powi(power)).sum();
    let mean: f64 = moment(1);
    let square: f64 = moment(2);
    IdealHops { mean, se: ((square - mean * mean).max(0.0) / total).sqrt(), shares }
}

/// A node that the lookup has heard of. Nodes are named by their place among the sorted IDs.
#[derive(Clone, Copy)]
struct Known {
    distance: u64,
    node: usize,
    /// 1 from the asker's own table, 2 from the answer of one of those, and so on.
    depth: usize,
    asked: bool,
}

/// One lookup on its way.
struct Walk<'a> {
    ideal: &'a Ideal,
    ids: &'a [u64],
    target: u64,
    asker: usize,
    nearest: u64,
    /// The nodes that share 0, 1, 2, … leading bits with the target.
    sharing: Vec<Range<usize>>,
    /// The k nearest known nodes, nearest first.
    known: Vec<Known>,
    /// Answers under way: when they come, in the order in which they were asked for, from whom, at which depth.
    under_way: BinaryHeap<Reverse<(u64, usize, usize, usize)>>,
    asked: usize,
    /// Latencies are drawn as the simulated network draws its own.
    seed: u64,
}

impl<'a> Walk<'a> {
    fn new(ideal: &'a Ideal, ids: &'a [u64], target: u64, rng: &mut StdRng) -> Self {
        let asker = rng.random_range(0..ids.len());
        let everybody = 0..ids.len();
        let mut sharing = Vec::from([everybody]);
        while let Some(last) = sharing.last().filter(|range| range.len() > 1 && sharing.len() <= 64) {
            let bits = sharing.len() as u32;
            sharing.push(subrange(ids, last.clone(), target, bits));
        }
        // Whoever shares the most bits with the target is nearest to it; the asker is not to find itself.
        let others = |range: &&Range<usize>| range.len() > usize::from(range.contains(&asker));
        let most = sharing.iter().rev().find(others).cloned().unwrap_or(0..0);
        let nearest = most.filter(|&node| node != asker).map(|node| ids[node] ^ target).min().unwrap_or(0);
        let seed = rng.random();
        Self {
            ideal,
            ids,
            target,
            asker,
            nearest,
            sharing,
            known: vec![],
            under_way: BinaryHeap::new(),
            asked: 0,
            seed,
        }
    }

    /// The hops after which the nearest node was named, or the nearest that was found.
    fn run(&mut self, rng: &mut StdRng) -> usize {
        let mut now = 0;
        self.hear(self.asker, 0, rng);
        loop {
            if let Some(first) = self.known.first().filter(|first| first.distance == self.nearest) {
                return first.depth - 1;
            }
            while self.under_way.len() < self.ideal.alpha.max(1)
                && let Some(next) = self.known.iter_mut().find(|known| !known.asked)
            {
                next.asked = true;
                let (node, depth) = (next.node, next.depth);
                self.ask(node, depth, now, rng);
            }
            match self.under_way.pop() {
                Some(Reverse((at, _, node, depth))) => {
                    now = at;
                    self.hear(node, depth, rng);
                }
                // Nobody is left to ask.
                None => return self.known.first().map_or(0, |first| first.depth - 1),
            }
        }
    }

    fn ask(&mut self, node: usize, depth: usize, now: u64, rng: &mut StdRng) {
        self.asked += 1;
        // The answer takes as long as the request.
        let ways = if self.ideal.bonding && depth > 1 { 4 } else { 2 };
        let latency = ways * self.ideal.latency.draw(self.seed, self.asker as u32, node as u32, rng.random());
        self.under_way.push(Reverse((now + latency, self.asked, node, depth)));
    }

    /// Takes in what a node at `depth` answers.
    fn hear(&mut self, responder: usize, depth: usize, rng: &mut StdRng) {
        for node in self.answer(responder, rng) {
            let distance = self.ids[node] ^ self.target;
            let at = self.known.partition_point(|known| known.distance < distance);
            let is_known = self.known.get(at).is_some_and(|known| known.distance == distance);
            if node != self.asker && !is_known && at < self.ideal.k {
                self.known.truncate(self.ideal.k - 1);
                self.known.insert(at, Known { distance, node, depth: depth + 1, asked: false });
            }
        }
    }

    /// The k members of a node's table that are nearest to the target.
    ///
    /// The bucket of members that share the first b bits with the node and differ in the next one is nearer to the target
    /// than the node is if the target differs in that bit too; of those the ones of small b are the nearest. The others
    /// are farther away, and those of large b the nearest.
    fn answer(&self, node: usize, rng: &mut StdRng) -> Vec<usize> {
        let id = self.ids[node];
        let differs = |bits: &u32| (id ^ self.target) << bits >> 63 == 1;
        // Nobody shares more bits with it than its neighbours in the order.
        let shared = |other: usize| self.ids.get(other).map_or(0, |other| (id ^ other).leading_zeros());
        let deepest = shared(node.wrapping_sub(1)).max(shared(node + 1)).min(63);
        let nearer = (0..=deepest).filter(differs);
        let farther = (0..=deepest).rev().filter(|bits| !differs(bits));
        let mut answer = Vec::with_capacity(self.ideal.k);
        for bits in nearer.chain(farther) {
            let room = self.ideal.k - answer.len();
            if room == 0 {
                break;
            }
            let mut members = sample(self.bucket(id, bits), self.ideal.k, rng);
            if members.len() > room {
                members.sort_unstable_by_key(|&member| self.ids[member] ^ self.target);
                members.truncate(room);
            }
            answer.append(&mut members);
        }
        answer
    }

    /// The nodes that share the first `bits` bits with `id` and differ in the next.
    fn bucket(&self, id: u64, bits: u32) -> Range<usize> {
        let prefix = id ^ 1 << (63 - bits);
        let shared = (prefix ^ self.target).leading_zeros();
        match self.sharing.get(bits as usize + 1) {
            // All of the prefix is the target's.
            Some(range) if shared > bits => range.clone(),
            _ => {
                let around = self.sharing[(shared.min(bits) as usize).min(self.sharing.len() - 1)].clone();
                subrange(self.ids, around, prefix, bits + 1)
            }
        }
    }
}

/// Those of `within` whose first `bits` bits (at least 1) are those of `prefix`.
fn subrange(ids: &[u64], within: Range<usize>, prefix: u64, bits: u32) -> Range<usize> {
    let low = prefix & !(u64::MAX.checked_shr(bits).unwrap_or(0));
    let high = low | u64::MAX.checked_shr(bits).unwrap_or(0);
    let part = &ids[within.clone()];
    within.start + part.partition_point(|id| *id < low)..within.start + part.partition_point(|id| *id <= high)
}

/// `count` of the range, each as likely as any other, or all if there are no more.
fn sample(range: Range<usize>, count: usize, rng: &mut StdRng) -> Vec<usize> {
    if range.len() <= count {
        return range.collect();
    }
    let mut chosen = Vec::with_capacity(count);
    // Floyd's way (Bentley and Floyd 1987): one draw for each that is chosen.
    for last in range.end - count..range.end {
        let one = rng.random_range(range.start..=last);
        chosen.push(if chosen.contains(&one) { last } else { one });
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(nodes: usize, alpha: usize, latency: &str, lookups: usize) -> IdealHops {
        Ideal { nodes, k: 16, alpha, latency: latency.parse().unwrap(), bonding: false }.hops(lookups, 1)
    }

    #[test]
    fn means_are_the_published_ones() {
        for (nodes, published) in &PUBLISHED[..2] {
            let hops = mean(*nodes, 3, "constant:50", 20_000);
            assert!(hops.se < 0.006);
            assert!((hops.mean - published).abs() < 0.005 + 3.0 * hops.se, "{nodes} nodes: {hops:?}");
            assert!((hops.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_order_of_answers_matters() {
        // Means of a second, independent implementation of the same model.
        let expected = [("uniform:25-75", 0.960, 1.549), ("lognormal:50,0.6", 1.004, 1.623)];
        for (latency, thousand, ten_thousand) in expected {
            for (nodes, expected) in [(1_000, thousand), (10_000, ten_thousand)] {
                let hops = mean(nodes, 3, latency, 20_000);
                assert!((hops.mean - expected).abs() < 0.005 + 3.0 * hops.se, "{nodes} nodes, {latency}: {hops:?}");
            }
        }
    }

    #[test]
    fn bonding_makes_the_order_of_answers_matter_less() {
        for (latency, expected) in [("constant:50", 0.952), ("uniform:25-75", 0.950), ("lognormal:50,0.6", 0.971)] {
            let latency = latency.parse().unwrap();
            let hops = Ideal { nodes: 1_000, k: 16, alpha: 3, latency, bonding: true }.hops(20_000, 1);
            assert!((hops.mean - expected).abs() < 0.005 + 3.0 * hops.se, "{latency:?}: {hops:?}");
        }
    }

    #[test]
    fn small_networks_know_everybody() {
        for nodes in 2..=17 {
            assert_eq!(mean(nodes, 3, "constant:50", 50).shares, [1.0], "{nodes} nodes");
        }
        // With one entry a bucket the way is long, and it ends.
        let thin =
            Ideal { nodes: 300, k: 1, alpha: 1, latency: Latency::Constant { ms: 50.0 }, bonding: false }.hops(200, 1);
        assert!(thin.mean > 2.0 && thin.shares.len() > 4, "{thin:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_hops() {
        assert_eq!(mean(500, 3, "uniform:25-75", 300), mean(500, 3, "uniform:25-75", 300));
        let ideal = Ideal { nodes: 500, k: 16, alpha: 3, latency: Latency::Plane, bonding: false };
        assert_ne!(ideal.hops(300, 1), ideal.hops(300, 2));
    }

    #[test]
    fn answers_are_those_of_a_plain_search_where_buckets_are_complete() {
        // With room for everybody in every bucket nothing is left to chance.
        let ideal = Ideal { nodes: 200, k: 200, alpha: 3, latency: Latency::Plane, bonding: false };
        let mut rng = StdRng::seed_from_u64(1);
        let mut ids: Vec<u64> = (0..200).map(|_| rng.random()).collect();
        ids.sort_unstable();
        for node in 0..200 {
            let walk = Walk::new(&ideal, &ids, rng.random(), &mut rng);
            let mut plain: Vec<usize> = (0..200).filter(|other| *other != node).collect();
            plain.sort_by_key(|other| ids[*other] ^ walk.target);
            let mut answer = walk.answer(node, &mut rng);
            answer.sort_by_key(|other| ids[*other] ^ walk.target);
            assert_eq!(answer, plain);
        }
    }

    #[test]
    fn a_sample_has_no_node_twice_and_leaves_nobody_out() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut times = [0; 40];
        for _ in 0..4_000 {
            let mut chosen = sample(10..40, 6, &mut rng);
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len(), 6);
            chosen.into_iter().for_each(|one| times[one] += 1);
        }
        assert_eq!(times[..10], [0; 10]);
        // 800 each, and the standard deviation is 25.
        assert!(times[10..].iter().all(|times| (700..900).contains(times)), "{times:?}");
    }
}
