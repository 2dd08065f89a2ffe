//! Tables filled from the list of all nodes, so that a simulation can begin with a settled network.

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::random::mix;
use super::truth::Truth;
use crate::proto::identity::NodeId;

/// Which nodes a bucket holds when there are more than it has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One of each sixteenth of its range, then any: what the engine's own rule comes to.
    Diverse,
    /// A uniform sample, of which the published theory speaks.
    Uniform,
    /// The nearest to the owner of the table.
    Closest,
}

/// The members of the table of node `own`, all buckets together.
pub(super) fn members(truth: &Truth, own: u32, id: &NodeId, k: usize, choice: Choice, seed: u64) -> Vec<u32> {
    let mut rng = StdRng::seed_from_u64(mix(mix(seed, 0x7761_726d), u64::from(own)));
    let mut members = Vec::new();
    let mut left = truth.len().saturating_sub(1);
    for log in (1..=256).rev() {
        if left == 0 {
            break;
        }
        let bucket = truth.bucket(id, log);
        left -= bucket.len().min(left);
        if bucket.len() <= k {
            members.extend(bucket.iter().map(|(_, node)| *node));
            continue;
        }
        let mut chosen = Vec::with_capacity(k);
        match choice {
            Choice::Closest => {
                let mut nearest: Vec<_> = bucket.to_vec();
                nearest.select_nth_unstable_by_key(k - 1, |(other, _)| id.distance(other));
                chosen.extend(nearest[..k].iter().map(|(_, node)| *node));
            }
            Choice::Diverse => {
                let mut rest = bucket;
                // The IDs of a sixteenth stand together; the order of the sixteenths does not matter.
                while let Some((first, _)) = rest.first() {
                    let subrange = id.distance(first).subrange();
                    let (run, others) = rest.split_at(
                        rest.partition_point(|(other, _)| common_prefix(first, other) >= 261 - usize::from(log)),
                    );
                    debug_assert!(run.iter().all(|(other, _)| id.distance(other).subrange() == subrange));
                    if chosen.len() < k {
                        chosen.push(run[rng.random_range(0..run.len())].1);
                    }
                    rest = others;
                }
            }
            Choice::Uniform => {}
        }
        while chosen.len() < k {
            let node = bucket[rng.random_range(0..bucket.len())].1;
            if !chosen.contains(&node) {
                chosen.push(node);
            }
        }
        members.extend(chosen);
    }
    members
}

/// How many leading bits two IDs share.
fn common_prefix(a: &NodeId, b: &NodeId) -> usize {
    256 - usize::from(a.log_distance(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::crypto::keccak256;

    fn world(count: u32) -> (Vec<NodeId>, Truth) {
        let ids: Vec<NodeId> = (0..count).map(|n| NodeId(keccak256(&n.to_be_bytes()))).collect();
        let truth = Truth::new(ids.iter().copied().zip(0..));
        (ids, truth)
    }

    #[test]
    fn buckets_are_full_or_complete_and_hold_what_the_choice_says() {
        let (ids, truth) = world(2000);
        for choice in [Choice::Diverse, Choice::Uniform, Choice::Closest] {
            let own = &ids[7];
            let members = members(&truth, 7, own, 16, choice, 1);
            let mut unique = members.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), members.len());
            assert!(!members.contains(&7));
            for log in 1..=256 {
                let here: Vec<u32> =
                    members.iter().copied().filter(|m| own.log_distance(&ids[*m as usize]) == log).collect();
                let all = truth.bucket(own, log);
                assert_eq!(here.len(), all.len().min(16), "{choice:?} {log}");
                let sixteenths = |nodes: &mut dyn Iterator<Item = NodeId>| {
                    nodes.map(|id| own.distance(&id).subrange()).collect::<std::collections::BTreeSet<_>>().len()
                };
                if choice == Choice::Diverse {
                    let possible = sixteenths(&mut all.iter().map(|(id, _)| *id));
                    assert_eq!(sixteenths(&mut here.iter().map(|m| ids[*m as usize])), possible);
                }
                if choice == Choice::Closest && all.len() > 16 {
                    let mut nearest: Vec<u32> = all.iter().map(|(_, node)| *node).collect();
                    nearest.sort_by_key(|node| own.distance(&ids[*node as usize]));
                    nearest.truncate(16);
                    nearest.sort_unstable();
                    let mut here = here;
                    here.sort_unstable();
                    assert_eq!(here, nearest);
                }
            }
        }
    }
}
