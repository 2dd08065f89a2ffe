//! The state of one iterative lookup (Maymounkov and Mazières 2002, section 2.3; discv4 specification, "Recursive
//! Lookup"; Baumgart and Mies 2007, "S/Kademlia", section 4.4).
//!
//! A lookup asks alpha nodes at a time for the nodes nearest to its target, always the nearest that it has heard of, and
//! ends when the k nearest that have not failed have all answered. A request that is late no longer counts against
//! alpha, so one slow node does not hold up the others; its answer is still taken when it comes. A node that stays silent
//! is passed over, so that the dead do not hold up the end: its place goes to the next, unless it answers after all.
//!
//! Whoever is asked may lie. A node that was named at a false address keeps up to two others that it was named at, and
//! they are tried when that one fails. No address is asked twice. And a lookup can go along several disjoint paths: the
//! nodes that it begins with are dealt out among them, what an answer names belongs to the path of who answers unless
//! another path holds it already, and each goes on until it is done, so that liars on one path cannot lead away the others.

use arrayvec::ArrayVec;

use crate::proto::config::{K, LookupConfig, MAX_PATHS};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::{Distance, NodeId, Prefix};

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

impl State {
    fn has_answered(self) -> bool {
        matches!(self, State::Answering | State::Answered)
    }
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
    /// The path that holds it.
    pub path: u8,
    /// The network that it counts for, where those are limited.
    network: Option<Prefix>,
    /// The same ID at other addresses.
    others: [Option<Elsewhere>; OTHERS],
}

/// Further addresses of one ID that are kept: whoever wants to hide a node has to be the first to name it, three times.
const OTHERS: usize = 2;

/// Another address that a candidate may be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Elsewhere {
    node: NodeRef,
    depth: u8,
    network: Option<Prefix>,
    /// It is being asked, and was silent for so long that the next address is tried.
    silent: bool,
}

impl Candidate {
    fn is_alive(&self) -> bool {
        !matches!(self.state, State::Failed | State::Silent)
    }

    /// Notes that it is said to be at another address too. Says whether it is heard of anew by that.
    fn hear_of(&mut self, node: NodeRef, depth: u8, network: Option<Prefix>) -> bool {
        let known = self.node == node || self.others.iter().flatten().any(|other| other.node == node);
        if known || self.state.has_answered() {
            return false;
        }
        if let Some(free) = self.others.iter_mut().find(|other| other.is_none()) {
            *free = Some(Elsewhere { node, depth, network, silent: false });
        }
        match self.state {
            State::Failed => self.try_elsewhere(None),
            State::Silent => self.try_elsewhere(Some(self.here())),
            _ => false,
        }
    }

    /// Goes on with the first address that has not been asked, if there is one; `left` takes its place.
    fn try_elsewhere(&mut self, left: Option<Elsewhere>) -> bool {
        let fresh = |other: &&mut Option<Elsewhere>| other.is_some_and(|other| !other.silent);
        let Some(other) = self.others.iter_mut().find(fresh) else { return false };
        let Some(next) = std::mem::replace(other, left) else { return false };
        self.go_to(next, State::Heard);
        true
    }

    /// The address in use, as one that is silent.
    fn here(&self) -> Elsewhere {
        Elsewhere { node: self.node, depth: self.depth, network: self.network, silent: true }
    }

    fn go_to(&mut self, there: Elsewhere, state: State) {
        (self.node, self.depth, self.network, self.state) = (there.node, there.depth, there.network, state);
    }

    /// The address in use has failed: the next is tried, or one that is silent is waited for.
    fn fail(&mut self) {
        if self.state == State::Answered || self.try_elsewhere(None) {
            return;
        }
        self.state = State::Failed;
        if let Some(other) = self.others.iter_mut().find_map(Option::take) {
            self.go_to(other, State::Silent);
        }
    }

    /// An address that was silent is the right one after all.
    fn go_back(&mut self, node: NodeRef, state: State) -> bool {
        let back = |other: &&mut Option<Elsewhere>| other.is_some_and(|other| other.node == node);
        let here = self.here();
        let Some(other) = self.others.iter_mut().find(back) else { return false };
        let Some(right) = *other else { return false };
        if !self.state.has_answered() {
            *other = match self.state {
                State::Failed => None,
                was => Some(Elsewhere { silent: was != State::Heard, ..here }),
            };
            self.go_to(right, state);
        }
        true
    }
}

/// How many nodes of one network may be among the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkLimits {
    /// Of a /24 of IPv4.
    pub v4: usize,
    /// Of a /64 of IPv6.
    pub v6: usize,
    /// Private networks are not limited; loopback never is.
    pub exempt_lan: bool,
}

/// Says of candidates, nearest first, whether they are of those few of their network that count.
fn few(limits: Option<NetworkLimits>) -> impl FnMut(&Candidate) -> bool {
    // Those that count are the k nearest, or twice as many; beyond that a network is as good as new.
    let mut seen: ArrayVec<(Prefix, usize), { 2 * K }> = ArrayVec::new();
    move |candidate| {
        let (Some(limits), Some(network)) = (limits, candidate.network) else { return true };
        let most = match network {
            Prefix::V4(_) => limits.v4,
            Prefix::V6(_) => limits.v6,
        };
        let count = match seen.iter_mut().find(|(other, _)| *other == network) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                let _ = seen.try_push((network, 1));
                1
            }
        };
        // The very node that is looked for always counts.
        count <= most || candidate.distance.log() == 0
    }
}

/// One lookup.
#[derive(Clone, Debug)]
pub struct Lookup {
    target: NodeId,
    k: usize,
    paths: u8,
    networks: Option<NetworkLimits>,
    /// Nearest first, no node ID twice.
    candidates: Vec<Candidate>,
    /// Whom it has asked: no address of a node is asked twice, whatever becomes of its place among the candidates.
    asked: Vec<NodeRef>,
    spent: bool,
}

impl Lookup {
    /// A lookup for the `k` nodes nearest to `target` along so many disjoint paths, from 1 to [`MAX_PATHS`].
    pub fn new(target: NodeId, k: usize, paths: usize) -> Self {
        // At most 8.
        let paths = paths.clamp(1, MAX_PATHS) as u8;
        Self { target, k, paths, networks: None, candidates: Vec::new(), asked: Vec::new(), spent: false }
    }

    /// The same, with so few nodes of one network among the k nearest: whoever has few networks cannot be all of them.
    pub fn spread(mut self, limits: NetworkLimits) -> Self {
        self.networks = Some(limits);
        self
    }

    /// What it looks for.
    pub fn target(&self) -> &NodeId {
        &self.target
    }

    /// All candidates, nearest first.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// All nodes that it names.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef> {
        let others = |candidate: &Candidate| candidate.others.into_iter().flatten().map(|other| other.node);
        let named = self.candidates.iter().flat_map(move |one| std::iter::once(one.node).chain(others(one)));
        named.chain(self.asked.iter().copied())
    }

    /// How many requests it has made.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Adds a node of our own table. Those that are added first are dealt out among the paths. Says whether it is new.
    pub fn add_own(&mut self, node: NodeRef, contacts: &impl Contacts, config: &LookupConfig) -> bool {
        let held = |path: &u8| self.candidates.iter().filter(|candidate| candidate.path == *path).count();
        let path = (0..self.paths).min_by_key(held).unwrap_or(0);
        self.add(node, 1, path, contacts, config)
    }

    /// Adds a node that `teller` has named. Says whether it is new to the lookup and near enough to be kept.
    ///
    /// A node ID counts once, for the path that hears of it first. The first address stays in use until it fails or is
    /// silent; up to two others are kept until then.
    pub fn add_named(
        &mut self,
        node: NodeRef,
        teller: NodeRef,
        contacts: &impl Contacts,
        config: &LookupConfig,
    ) -> bool {
        let (depth, path) = self.place_of(teller).unwrap_or((1, 0));
        // Where fewer nodes than paths are known at the beginning, the others begin with the first that are named.
        let idle = |path: &u8| self.candidates.iter().all(|candidate| candidate.path != *path);
        let path = if self.paths > 1 { (0..self.paths).find(idle).unwrap_or(path) } else { path };
        self.add(node, depth.saturating_add(1), path, contacts, config)
    }

    fn add(&mut self, node: NodeRef, depth: u8, path: u8, contacts: &impl Contacts, config: &LookupConfig) -> bool {
        let distance = self.target.distance(contacts.id(node));
        let mut at = self.candidates.partition_point(|candidate| candidate.distance < distance);
        if self.asked.contains(&node) {
            return false;
        }
        let network = self.networks.and_then(|limits| Prefix::limited(contacts.endpoint(node).ip, limits.exempt_lan));
        if let Some(same) = self.candidates.get_mut(at)
            && same.distance == distance
        {
            return same.hear_of(node, depth, network);
        }
        let held = self.candidates.iter().filter(|candidate| candidate.path == path).count();
        if held >= config.max_candidates {
            let Some(leaving) = self.dispensable(path, at) else { return false };
            self.candidates.remove(leaving);
            at -= usize::from(leaving < at);
        }
        let others = [None; OTHERS];
        self.candidates.insert(at, Candidate { distance, node, depth, state: State::Heard, path, network, others });
        true
    }

    /// The candidate of a full path that makes room for one at a position: the farthest that has failed; else the farthest
    /// that is only heard of, or else of all, if it is farther than that one. Invented nodes near the target are thus
    /// given up when they have failed, and until then they do not push out those who have answered.
    fn dispensable(&self, path: u8, at: usize) -> Option<usize> {
        let farthest = |wanted: &dyn Fn(State) -> bool| {
            self.candidates.iter().rposition(|candidate| candidate.path == path && wanted(candidate.state))
        };
        let failed = farthest(&|state| state == State::Failed);
        let other = || farthest(&|state| state == State::Heard).or_else(|| farthest(&|_| true));
        failed.or_else(|| other().filter(|other| *other >= at))
    }

    /// The next node to ask, if one may be asked now: while fewer than `alpha` are, of those that are not late. With
    /// more paths than that each may have one, and the path of which the fewest are being asked comes first.
    pub fn poll_next(&mut self, alpha: usize, config: &LookupConfig) -> Option<NodeRef> {
        if self.spent || self.asked.len() >= config.max_queries {
            return None;
        }
        let mut under_way = [0; MAX_PATHS];
        for candidate in self.candidates.iter().filter(|candidate| candidate.state == State::Asked) {
            under_way[usize::from(candidate.path)] += 1;
        }
        if under_way.iter().sum::<usize>() >= alpha.max(self.paths.into()) {
            return None;
        }
        let mut paths: ArrayVec<u8, MAX_PATHS> = (0..self.paths).collect();
        paths.sort_by_key(|path| under_way[usize::from(*path)]);
        let node = paths.into_iter().find_map(|path| self.ask_on(path))?;
        self.asked.push(node);
        Some(node)
    }

    fn ask_on(&mut self, path: u8) -> Option<NodeRef> {
        // Those that are late have others asked in their stead, so that the dead are given up all at once; but no more
        // than k, or a lookup would ask everybody when the network is slow.
        let mut counts = few(self.networks);
        let own = self.candidates.iter_mut().filter(|candidate| candidate.path == path);
        let alive = own.filter(|candidate| candidate.is_alive() && counts(candidate)).take(2 * self.k);
        let mut timely = alive.filter(|candidate| candidate.state != State::Late).take(self.k);
        let next = timely.find(|candidate| candidate.state == State::Heard)?;
        next.state = State::Asked;
        Some(next.node)
    }

    /// The node whose ID is the target itself, when it has been heard of and not been asked: it need not wait for a turn.
    pub fn poll_target(&mut self, config: &LookupConfig) -> Option<NodeRef> {
        let nearest = self.candidates.first_mut()?;
        let wanted = nearest.state == State::Heard && nearest.distance.log() == 0;
        if self.spent || self.asked.len() >= config.max_queries || !wanted {
            return None;
        }
        nearest.state = State::Asked;
        self.asked.push(nearest.node);
        Some(nearest.node)
    }

    /// Notes that the answer of `node` is late. Says whether it was being asked.
    pub fn on_late(&mut self, node: NodeRef) -> bool {
        let asked = self.get(node).is_some_and(|candidate| candidate.state == State::Asked);
        asked && self.change(node, |candidate| candidate.state = State::Late)
    }

    /// Notes that `node` is silent: it is passed over, or tried at another address. Says whether it was being asked.
    pub fn on_silent(&mut self, node: NodeRef) -> bool {
        let asked = self.get(node).is_some_and(|candidate| matches!(candidate.state, State::Asked | State::Late));
        asked
            && self.change(node, |candidate| {
                let here = candidate.here();
                if !candidate.try_elsewhere(Some(here)) {
                    candidate.state = State::Silent;
                }
            })
    }

    /// Notes that `node` is there, as far as could be told by other means: its answer is waited for again.
    pub fn on_sign_of_life(&mut self, node: NodeRef) -> bool {
        match self.get(node).map(|candidate| candidate.state) {
            Some(State::Silent) => self.change(node, |candidate| candidate.state = State::Late),
            Some(_) => false,
            None => self.go_back(node, State::Late),
        }
    }

    /// Notes that `node` has begun to answer; it holds up nobody any more, and the lookup is not done without the rest.
    pub fn on_begun(&mut self, node: NodeRef) -> bool {
        let begin = |candidate: &mut Candidate| {
            if matches!(candidate.state, State::Asked | State::Late | State::Silent) {
                candidate.state = State::Answering;
            }
        };
        self.change(node, begin) || self.go_back(node, State::Answering)
    }

    /// Notes that `node` has answered. What it said is told by [`Lookup::add_named`].
    pub fn on_response(&mut self, node: NodeRef) -> bool {
        self.change(node, |candidate| candidate.state = State::Answered) || self.go_back(node, State::Answered)
    }

    /// Notes that `node` will not answer.
    pub fn on_failure(&mut self, node: NodeRef) -> bool {
        self.change(node, Candidate::fail)
            || self.candidates.iter_mut().flat_map(|candidate| &mut candidate.others).any(|other| {
                let failed = other.is_some_and(|other| other.node == node);
                if failed {
                    *other = None;
                }
                failed
            })
    }

    /// Asks no more: the lookup is done as it is.
    pub fn stop(&mut self) {
        self.spent = true;
    }

    /// Whether on each path the k nearest candidates that have not failed have all answered, or it was stopped, or its
    /// requests are used up and none is under way.
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
        let used_up = self.asked.len() >= config.max_queries;
        let alive = |path| {
            let mut counts = few(self.networks);
            let own = self.candidates.iter().filter(move |one| one.path == path && one.is_alive());
            own.filter(move |one| counts(one)).take(self.k)
        };
        (0..self.paths).flat_map(alive).all(|candidate| match candidate.state {
            State::Answered => true,
            State::Heard => used_up,
            State::Asked | State::Late | State::Silent | State::Answering | State::Failed => false,
        })
    }

    /// The (at most) k nearest candidates that are neither silent nor have failed. When the lookup has come to its own end
    /// they have all answered.
    pub fn nearest_alive(&self) -> impl Iterator<Item = &Candidate> {
        let mut counts = few(self.networks);
        self.candidates.iter().filter(move |candidate| candidate.is_alive() && counts(candidate)).take(self.k)
    }

    /// The result: the (at most) k nearest that have answered, and where those are fewer, the nearest of the others that
    /// are alive as far as is known; nearest first. Says of each whether it has answered. Invented nodes, which never
    /// answer, keep nobody out when the lookup had to end before it had tried them.
    pub fn result(&self) -> impl Iterator<Item = (&Candidate, bool)> {
        let mut counts = few(self.networks);
        let answered = self.candidates.iter().filter(|one| one.state.has_answered() && counts(one)).count();
        let (mut answers, mut hearsay) = (self.k, self.k.saturating_sub(answered));
        // Those who are only named keep nobody out who has answered.
        let (mut counts, mut also) = (few(self.networks), few(self.networks));
        self.candidates.iter().filter(|candidate| candidate.is_alive()).filter_map(move |candidate| {
            let answered = candidate.state.has_answered();
            let (left, counts): (_, &mut dyn FnMut(&Candidate) -> bool) =
                if answered { (&mut answers, &mut counts) } else { (&mut hearsay, &mut also) };
            if !counts(candidate) {
                return None;
            }
            *left = left.checked_sub(1)?;
            Some((candidate, answered))
        })
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
        self.candidates.iter().flat_map(|candidate| {
            let here = (candidate.state == State::Silent).then_some(candidate.node);
            let others = candidate.others.into_iter().flatten().filter(|other| other.silent);
            here.into_iter().chain(others.map(|other| other.node))
        })
    }

    /// What the lookup knows of `node`.
    pub fn get(&self, node: NodeRef) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.node == node)
    }

    /// The depth of a node and the path that holds it, be it at an address that was given up for another.
    pub fn place_of(&self, node: NodeRef) -> Option<(u8, u8)> {
        self.candidates.iter().find_map(|candidate| {
            let other = candidate.others.iter().flatten().find(|other| other.node == node);
            let depth = if candidate.node == node { Some(candidate.depth) } else { other.map(|other| other.depth) };
            depth.map(|depth| (depth, candidate.path))
        })
    }

    fn change(&mut self, node: NodeRef, change: impl FnOnce(&mut Candidate)) -> bool {
        self.candidates.iter_mut().find(|candidate| candidate.node == node).map(change).is_some()
    }

    fn go_back(&mut self, node: NodeRef, state: State) -> bool {
        self.candidates.iter_mut().any(|candidate| candidate.go_back(node, state))
    }
}

#[cfg(test)]
mod tests;
