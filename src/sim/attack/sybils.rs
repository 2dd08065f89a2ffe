//! Sybils: members of the network like all others, but that they name one another only.

use std::collections::BTreeSet;

use crate::proto::config::K;
use crate::proto::identity::NodeId;
use crate::proto::wire::{Message, Neighbors, NodeEntry};
use crate::sim::population::Population;
use crate::sim::random::mix;
use crate::sim::truth::Truth;

/// Which nodes of a network are Sybils. They are attackers with keys at random and addresses of their own: each runs an
/// engine, keeps to the protocol, and stands in the tables of others as anybody does. But when its engine answers a
/// FINDNODE, what is sent names those of them that are nearest to the target.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Sybils {
    nodes: BTreeSet<u32>,
    truth: Truth,
}

impl Sybils {
    /// This share of the nodes, at random; none of the first `honest` ones.
    pub(in crate::sim) fn choose(population: &Population, share: f64, honest: usize, seed: u64) -> Self {
        let mut nodes: Vec<u32> = (honest as u32..population.len() as u32).collect();
        nodes.sort_unstable_by_key(|node| mix(mix(seed, 0x7379_6269), u64::from(*node)));
        nodes.truncate((population.len() as f64 * share).round() as usize);
        let truth = Truth::new(nodes.iter().map(|&node| (*population.id(node as usize), node)));
        Self { nodes: nodes.into_iter().collect(), truth }
    }

    /// How many there are.
    pub(in crate::sim) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether a node is one.
    pub(in crate::sim) fn contains(&self, node: u32) -> bool {
        self.nodes.contains(&node)
    }

    /// What Sybil `node` says to a FINDNODE for a target: NEIGHBORS with the nearest of its kind.
    pub(in crate::sim) fn answer<'a>(
        &self,
        population: &'a Population,
        node: u32,
        target: &NodeId,
        expiration: u64,
    ) -> impl Iterator<Item = Message> + use<'a> {
        let nearest = self.truth.closest(target, K, Some(node));
        let chunks: Vec<Vec<u32>> = nearest.chunks(Neighbors::MAX_SENT).map(<[u32]>::to_vec).collect();
        chunks.into_iter().map(move |nodes| {
            let nodes = nodes.into_iter().map(|node| NodeEntry::from(population.contact(node as usize))).collect();
            Message::Neighbors(Neighbors { nodes, expiration })
        })
    }
}
