//! The state of one iterative lookup (Maymounkov and Mazières 2002, section 2.3; discv4 specification, "Recursive
//! Lookup").
//!
//! A lookup asks alpha nodes at a time for the nodes nearest to its target, always the nearest that it has heard of, and
//! ends when the k nearest that have not failed have all answered. A request that is late no longer counts against
//! alpha, so one slow node does not hold up the others; its answer is still taken when it comes. A node that stays silent
//! is passed over, so that the dead do not hold up the end: its place goes to the next, unless it answers after all.

use crate::proto::config::LookupConfig;
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::{Distance, NodeId};

/// How far a candidate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Only heard of.
    Heard,
    /// Being asked.
    Asked,
    /// Being asked, and late.
    Late,
    /// Being asked, and silent for so long that nobody waits for it any more.
    Silent,
    /// Has begun to answer; more may follow.
    Answering,
    /// Has answered.
    Answered,
    /// Has not.
    Failed,
}

/// A node that the lookup has heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Distance to the target.
    pub distance: Distance,
    /// Which node.
    pub node: NodeRef,
    /// Length of the chain of referrals: 1 from our own table, 2 from a node of our table, and so on.
    pub depth: u8,
    /// How far it has come.
    pub state: State,
}

impl Candidate {
    fn is_alive(&self) -> bool {
        !matches!(self.state, State::Failed | State::Silent)
    }
}

/// One lookup.
#[derive(Clone, Debug)]
pub struct Lookup {
    target: NodeId,
    k: usize,
    /// Nearest first, no node ID twice.
    candidates: Vec<Candidate>,
    asked: usize,
    spent: bool,
}

impl Lookup {
    /// A lookup for the `k` nodes nearest to `target`.
    pub fn new(target: NodeId, k: usize) -> Self {
        Self { target, k, candidates: Vec::new(), asked: 0, spent: false }
    }

    /// What it looks for.
    pub fn target(&self) -> &NodeId {
        &self.target
    }

    /// All candidates, nearest first.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// How many requests it has made.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// Adds a node that was heard of at `depth`. Says whether it is new to the lookup and near enough to be kept.
    ///
    /// A node ID counts once: the first address that is heard of stays, unless it has failed.
    pub fn add(&mut self, node: NodeRef, depth: u8, contacts: &impl Contacts, config: &LookupConfig) -> bool {
        let distance = self.target.distance(contacts.id(node));
        let at = self.candidates.partition_point(|candidate| candidate.distance < distance);
        if let Some(same) = self.candidates.get_mut(at)
            && same.distance == distance
        {
            if same.state == State::Failed && same.node != node {
                *same = Candidate { distance, node, depth, state: State::Heard };
                return true;
            }
            return false;
        }
        if at >= config.max_candidates {
            return false;
        }
        if self.candidates.len() >= config.max_candidates {
            self.candidates.pop();
        }
        self.candidates.insert(at, Candidate { distance, node, depth, state: State::Heard });
        true
    }

    /// The next node to ask, if one may be asked now: while fewer than `alpha` are, of those that are not late.
    pub fn poll_next(&mut self, alpha: usize, config: &LookupConfig) -> Option<NodeRef> {
        if self.spent || self.asked >= config.max_queries {
            return None;
        }
        let under_way = self.candidates.iter().filter(|candidate| candidate.state == State::Asked).count();
        if under_way >= alpha {
            return None;
        }
        // Those that are late have others asked in their stead, so that the dead are given up all at once; but no more
        // than k, or a lookup would ask everybody when the network is slow.
        let alive = self.candidates.iter_mut().filter(|candidate| candidate.is_alive()).take(2 * self.k);
        let mut timely = alive.filter(|candidate| candidate.state != State::Late).take(self.k);
        let next = timely.find(|candidate| candidate.state == State::Heard)?;
        next.state = State::Asked;
        let node = next.node;
        self.asked += 1;
        Some(node)
    }

    /// The node whose ID is the target itself, when it has been heard of and not been asked: it need not wait for a turn.
    pub fn poll_target(&mut self, config: &LookupConfig) -> Option<NodeRef> {
        let nearest = self.candidates.first_mut()?;
        let wanted = nearest.state == State::Heard && nearest.distance.log() == 0;
        if self.spent || self.asked >= config.max_queries || !wanted {
            return None;
        }
        nearest.state = State::Asked;
        self.asked += 1;
        Some(nearest.node)
    }

    /// Notes that the answer of `node` is late. Says whether it was being asked.
    pub fn on_late(&mut self, node: NodeRef) -> bool {
        let asked = self.get(node).is_some_and(|candidate| candidate.state == State::Asked);
        asked && self.change(node, |_| State::Late)
    }

    /// Notes that `node` is silent: it is passed over. Says whether it was being asked.
    pub fn on_silent(&mut self, node: NodeRef) -> bool {
        let asked = self.get(node).is_some_and(|candidate| matches!(candidate.state, State::Asked | State::Late));
        asked && self.change(node, |_| State::Silent)
    }

    /// Notes that `node` is there, as far as could be told by other means: its answer is waited for again.
    pub fn on_sign_of_life(&mut self, node: NodeRef) -> bool {
        let silent = self.get(node).is_some_and(|candidate| candidate.state == State::Silent);
        silent && self.change(node, |_| State::Late)
    }

    /// Notes that `node` has begun to answer: it holds up nobody any more, and the lookup is not done without the rest.
    pub fn on_begun(&mut self, node: NodeRef) -> bool {
        self.change(node, |state| match state {
            State::Asked | State::Late | State::Silent => State::Answering,
            other => other,
        })
    }

    /// Notes that `node` has answered. What it said is told by [`Lookup::add`].
    pub fn on_response(&mut self, node: NodeRef) -> bool {
        self.change(node, |_| State::Answered)
    }

    /// Notes that `node` will not answer.
    pub fn on_failure(&mut self, node: NodeRef) -> bool {
        self.change(node, |state| if state == State::Answered { state } else { State::Failed })
    }

    /// Asks no more: the lookup is done as it is.
    pub fn stop(&mut self) {
        self.spent = true;
    }

    /// Whether the k nearest candidates that have not failed have all answered, or it was stopped, or its requests are
    /// used up and none is under way.
    pub fn is_done(&self, config: &LookupConfig) -> bool {
        if self.spent {
            return true;
        }
        // Where nobody has answered, it may be the network that is silent for a moment, and all are waited for.
        if !self.candidates.iter().any(|candidate| candidate.state == State::Answered)
            && self.candidates.iter().any(|candidate| candidate.state == State::Silent)
        {
            return false;
        }
        let used_up = self.asked >= config.max_queries;
        self.nearest_alive().all(|candidate| match candidate.state {
            State::Answered => true,
            State::Heard => used_up,
            State::Asked | State::Late | State::Silent | State::Answering | State::Failed => false,
        })
    }

    /// The (at most) k nearest candidates that are neither silent nor have failed: the result, once it is done.
    pub fn nearest_alive(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.is_alive()).take(self.k)
    }

    /// Whether it is done and was not stopped: all of its result have answered.
    pub fn ran_to_its_end(&self) -> bool {
        !self.spent && self.nearest_alive().all(|candidate| candidate.state == State::Answered)
    }

    /// Those that have answered, nearest first.
    pub fn answered(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.state == State::Answered)
    }

    /// Those that are passed over.
    pub fn silent(&self) -> impl Iterator<Item = NodeRef> {
        self.candidates.iter().filter(|candidate| candidate.state == State::Silent).map(|candidate| candidate.node)
    }

    /// What the lookup knows of `node`.
    pub fn get(&self, node: NodeRef) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.node == node)
    }

    fn change(&mut self, node: NodeRef, change: impl FnOnce(State) -> State) -> bool {
        match self.candidates.iter_mut().find(|candidate| candidate.node == node) {
            Some(candidate) => {
                candidate.state = change(candidate.state);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
