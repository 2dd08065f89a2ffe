//! A random walk through a tree and the trees that it links to, without sockets and clocks: it says which name to ask for
//! next, and is given the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use thiserror::Error;

use super::tree::{Entry, EntryError, Hash, Root, RootError};
use super::{DnsError, TreeUrl};
use crate::proto::identity::{NodeId, Record};

/// Questions that may be asked at once: enough to have the first nodes of a large tree without delay.
pub const BURST: u32 = 16;

/// Questions a second after that: 3, as other clients have it, so as not to be a burden to DNS servers.
pub const PER_SECOND: u32 = 3;

/// How often the root is asked for again: every 30 minutes.
pub const RECHECK: Duration = Duration::from_secs(30 * 60);

/// Soonest that the root is asked for again when an entry is missing, which may be since the tree has changed: a minute.
pub const RECHECK_SOONEST: Duration = Duration::from_secs(60);

/// How long to wait when DNS has not answered: the first time, and at most. It doubles.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Most trees of a walk: 16. Links to further ones are not followed.
pub const MAX_TREES: usize = 16;

/// How many links may lie between the first tree and another: 4.
pub const MAX_DEPTH: u32 = 4;

/// Most entries that a walk keeps of all its trees: 16,384, several times those of the largest public tree. What is
/// beyond is not read. The trees that are linked to fill no more than half of them, so that they cannot keep the first one
/// from being read. A branch of 1,024 bytes names 37 others, so that is at most 12 MB.
pub const MAX_ENTRIES: usize = 16_384;

/// A walk. Times are durations since an instant that whoever walks chooses.
///
/// 1. [`Walk::poll`] tells what to do;
/// 2. when that is to ask, the answer goes to [`Walk::handle_answer`] before the next question.
#[derive(Debug)]
pub struct Walk<R> {
    rng: R,
    trees: Vec<Tree>,
    /// The branches that have been read. Their names are those of their content, so they stay good when the root changes.
    branches: BTreeMap<Hash, Vec<Hash>>,
    /// The records and links that have been read.
    done: BTreeSet<Hash>,
    /// The nodes that have been given.
    nodes: BTreeSet<NodeId>,
    /// When the bucket of questions is full again.
    full_at: Duration,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for the texts of a name.
    Ask(Query),
    /// Nothing before that time.
    Wait(Duration),
    /// All has been read; there is nothing to do before that time, when roots are asked for again.
    Rest(Duration),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name whose texts are asked for.
    pub name: String,
    tree: usize,
    /// The entry; the root when absent.
    entry: Option<(Hash, Subtree)>,
}

/// What an answer has brought.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum News {
    /// A node, for the first time.
    #[error("a node: {0}")]
    Node(Box<Record>),
    /// A root that is new, or newer than the last.
    #[error("the tree at {domain} has the sequence number {seq}")]
    Root {
        /// Where.
        domain: String,
        /// Its sequence number.
        seq: u64,
    },
    /// A root that is not taken.
    #[error("the tree at {domain} is not used: {error}; asking for it again in {} s", again.as_secs())]
    BadRoot {
        /// Where.
        domain: String,
        /// Why.
        error: RootError,
        /// When it is asked for again.
        again: Duration,
    },
    /// An entry that is left out.
    #[error("an entry of a tree is skipped, {name}: {error}")]
    Skipped {
        /// Its DNS name.
        name: String,
        /// Why.
        error: EntryError,
    },
    /// DNS has not answered.
    #[error("the tree entry {name} could not be asked for: {error}; trying again in {} s", again.as_secs())]
    Unanswered {
        /// The DNS name.
        name: String,
        /// Why.
        error: DnsError,
        /// When it is asked for again.
        again: Duration,
    },
    /// A link to another tree, which is followed.
    #[error("the tree at {from} links to {to}")]
    Link {
        /// Whose link.
        from: String,
        /// Where to.
        to: TreeUrl,
    },
    /// A link that is not followed.
    #[error("the tree at {from} links to {to}, which is one tree too many and not followed")]
    LinkTooMany {
        /// Whose link.
        from: String,
        /// Where to.
        to: TreeUrl,
    },
    /// There are [`MAX_ENTRIES`], or half as many when it is linked to.
    #[error(
        "the tree at {domain} has more entries than there is room for ({MAX_ENTRIES} in all); the others are not read"
    )]
    TooLarge {
        /// Where.
        domain: String,
    },
}

/// Which subtree an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subtree {
    Links,
    Nodes,
}

#[derive(Debug)]
struct Tree {
    url: TreeUrl,
    depth: u32,
    root: Option<Root>,
    /// When the root was last asked for.
    checked: Option<Duration>,
    /// When it is to be asked for next.
    check_at: Duration,
    /// Roots in a row that were no good.
    failures: u32,
    /// Entries to be asked for.
    links: Vec<Hash>,
    nodes: Vec<Hash>,
    /// Where the children of the branch that was read last begin in `nodes`.
    fresh: usize,
    /// Entries that were not there, or that DNS gives no answer for though it does for others; they have another chance
    /// when the root has been asked for again.
    missing: Vec<(Hash, Subtree)>,
    /// Those that have had one.
    missed: BTreeSet<Hash>,
    /// Entries that are not worth another try, as this tree has them: another one may have what is missing here.
    refused: BTreeSet<Hash>,
    /// Whether it was told that there are too many entries.
    full: bool,
    /// Nothing is asked until then, since DNS did not answer.
    paused_until: Duration,
    /// The last wait for that.
    pause: Duration,
}

impl Walk<rand::rngs::StdRng> {
    /// A walk that nobody can foretell.
    pub fn random(url: TreeUrl) -> Self {
        let mut rng = super::rng();
        Self::new(url, rand::rngs::StdRng::from_rng(&mut rng))
    }
}

impl<R: Rng> Walk<R> {
    /// A walk that begins with the tree at `url`.
    pub fn new(url: TreeUrl, rng: R) -> Self {
        Self {
            rng,
            trees: vec![Tree::new(url, 0)],
            branches: BTreeMap::new(),
            done: BTreeSet::new(),
            nodes: BTreeSet::new(),
            full_at: Duration::ZERO,
        }
    }

    /// How many nodes have been given.
    pub fn given(&self) -> usize {
        self.nodes.len()
    }

    /// Whether all that is known of has been read.
    pub fn is_exhausted(&self) -> bool {
        self.trees[0].root.is_some() && self.trees.iter().all(|tree| !tree.has_entries())
    }

    /// Begins anew: every node is given once more.
    pub fn restart(&mut self) {
        self.done.clear();
        self.nodes.clear();
        for number in 0..self.trees.len() {
            self.begin(number);
        }
    }

    /// What to do next.
    pub fn poll(&mut self, now: Duration) -> Step {
        if !self.trees.iter().any(|tree| tree.has_work(now)) {
            let next = self.trees.iter().map(Tree::next).min().unwrap_or(now + RECHECK);
            return if self.is_exhausted() { Step::Rest(next) } else { Step::Wait(next) };
        }
        // The bucket as a time: each question moves it on, and it may be a burst ahead.
        let each = Duration::from_secs(1) / PER_SECOND;
        let moved = self.full_at.max(now) + each;
        if moved > now + each * BURST {
            return Step::Wait(moved - each * BURST);
        }
        match self.choose(now) {
            Some(query) => {
                self.full_at = moved;
                Step::Ask(query)
            }
            None => Step::Wait(moved),
        }
    }

    /// Takes the answer to a question of [`Walk::poll`].
    pub fn handle_answer(&mut self, now: Duration, query: &Query, answer: Result<Vec<String>, DnsError>) -> Vec<News> {
        let texts = match answer {
            Ok(texts) => texts,
            Err(error) if error.is_absence() => Vec::new(),
            Err(error) => {
                let tree = &mut self.trees[query.tree];
                let answers = tree.pause.is_zero();
                tree.pause = (tree.pause * 2).clamp(WAITS.0, WAITS.1);
                tree.paused_until = now + tree.pause;
                match query.entry {
                    // It is not DNS, for others are answered: this one has to wait, lest the tree is never read to its end.
                    Some(entry) if answers && !tree.missed.insert(entry.0) => tree.missing.push(entry),
                    Some(entry) => tree.queue(entry),
                    // The root is still due.
                    None => {}
                }
                return vec![News::Unanswered { name: query.name.clone(), error, again: tree.pause }];
            }
        };
        self.trees[query.tree].pause = Duration::ZERO;
        match query.entry {
            None => self.handle_root(now, query.tree, &texts),
            Some((hash, subtree)) => self.handle_entry(now, query, hash, subtree, &texts),
        }
    }

    fn handle_root(&mut self, now: Duration, number: usize, texts: &[String]) -> Vec<News> {
        let tree = &mut self.trees[number];
        tree.checked = Some(now);
        let seen = tree.root.as_ref().map(|root| root.seq);
        let root = Root::find(texts, &tree.url.key).and_then(|root| match seen {
            Some(seen) if seen > root.seq => Err(RootError::Older { got: root.seq, seen }),
            _ => Ok(root),
        });
        let domain = tree.url.domain.clone();
        match root {
            Ok(root) => {
                tree.failures = 0;
                tree.check_at = now + RECHECK;
                if tree.root.as_ref() == Some(&root) {
                    tree.retry_missing();
                    return Vec::new();
                }
                let seq = root.seq;
                tree.root = Some(root);
                if self.branches.len() + self.done.len() > MAX_ENTRIES / 2 {
                    // Much of it may be of former versions.
                    self.branches.clear();
                    self.done.clear();
                }
                if self.nodes.len() >= MAX_ENTRIES {
                    self.nodes.clear();
                }
                let mut news = vec![News::Root { domain, seq }];
                news.extend(self.begin(number));
                news
            }
            Err(error) => {
                tree.failures += 1;
                let again = WAITS.0 * 2u32.saturating_pow(tree.failures.min(16) - 1);
                // The tree that there is serves until then.
                let again = if tree.root.is_some() { RECHECK } else { again.min(WAITS.1) };
                tree.check_at = now + again;
                vec![News::BadRoot { domain, error, again }]
            }
        }
    }

    fn handle_entry(
        &mut self,
        now: Duration,
        query: &Query,
        hash: Hash,
        subtree: Subtree,
        texts: &[String],
    ) -> Vec<News> {
        let tree = &mut self.trees[query.tree];
        let skipped = |error| vec![News::Skipped { name: query.name.clone(), error }];
        let domain = tree.url.domain.clone();
        tree.fresh = 0;
        match Entry::find(texts, &hash) {
            Ok(Entry::Branch(children)) => {
                // Two branches may name the same one; it has been read then.
                let known = self.branches.insert(hash, children.clone());
                if known.is_some() { Vec::new() } else { self.add_children(query.tree, subtree, &children) }
            }
            Ok(Entry::Node(record)) if subtree == Subtree::Nodes => {
                self.done.insert(hash);
                if self.nodes.insert(record.node_id()) { vec![News::Node(record)] } else { Vec::new() }
            }
            Ok(Entry::Link(url)) if subtree == Subtree::Links => {
                let depth = tree.depth + 1;
                self.done.insert(hash);
                if self.trees.iter().any(|tree| tree.url == url) {
                    return Vec::new();
                }
                if self.trees.len() >= MAX_TREES || depth > MAX_DEPTH {
                    return vec![News::LinkTooMany { from: domain, to: url }];
                }
                self.trees.push(Tree::new(url.clone(), depth));
                vec![News::Link { from: domain, to: url }]
            }
            Ok(Entry::Node(_) | Entry::Link(_)) => {
                tree.refused.insert(hash);
                skipped(EntryError::Place)
            }
            // The tree may have changed since its root was read.
            Err(EntryError::Missing) if tree.missed.insert(hash) => {
                let soonest = tree.checked.map_or(now, |checked| checked + RECHECK_SOONEST);
                tree.check_at = tree.check_at.min(soonest.max(now));
                tree.missing.push((hash, subtree));
                skipped(EntryError::Missing)
            }
            Err(error) => {
                tree.refused.insert(hash);
                skipped(error)
            }
        }
    }

    /// Queues all of a tree, as far as it has not been read.
    fn begin(&mut self, number: usize) -> Vec<News> {
        let tree = &mut self.trees[number];
        tree.links.clear();
        tree.nodes.clear();
        tree.missing.clear();
        tree.missed.clear();
        tree.refused.clear();
        tree.full = false;
        let Some(Root { nodes, links, .. }) = tree.root.clone() else { return Vec::new() };
        let mut news = self.add_children(number, Subtree::Links, &[links]);
        news.extend(self.add_children(number, Subtree::Nodes, &[nodes]));
        news
    }

    /// Queues the children of a branch, reading at once the branches that are known.
    fn add_children(&mut self, number: usize, subtree: Subtree, children: &[Hash]) -> Vec<News> {
        let mut news = Vec::new();
        let mut queue: Vec<Hash> = children.to_vec();
        let room = if number == 0 { MAX_ENTRIES } else { MAX_ENTRIES / 2 };
        let mut known = self.branches.len() + self.done.len() + self.trees.iter().map(Tree::len).sum::<usize>();
        let tree = &mut self.trees[number];
        if subtree == Subtree::Nodes {
            tree.fresh = tree.nodes.len();
        }
        let mut read = BTreeSet::new();
        while let Some(hash) = queue.pop() {
            if self.done.contains(&hash) || tree.refused.contains(&hash) || !read.insert(hash) {
                continue;
            }
            if let Some(children) = self.branches.get(&hash) {
                queue.extend(children);
                continue;
            }
            if known >= room {
                if !std::mem::replace(&mut tree.full, true) {
                    news.push(News::TooLarge { domain: tree.url.domain.clone() });
                }
                break;
            }
            known += 1;
            tree.queue((hash, subtree));
        }
        news
    }

    /// The next question: a root that is due, then a link or a step of the random walk.
    fn choose(&mut self, now: Duration) -> Option<Query> {
        let awake = |tree: &Tree| tree.paused_until <= now;
        let mut due = self.trees.iter().position(|tree| tree.check_at <= now && awake(tree));
        // Roots that are no good must not keep the entries of the others waiting.
        if due.is_some_and(|number| self.trees[number].checked.is_some())
            && self.trees.iter().any(|tree| tree.has_entries() && awake(tree))
            && self.rng.random_ratio(1, 2)
        {
            due = None;
        }
        if let Some(number) = due {
            return Some(Query { name: self.trees[number].url.domain.clone(), tree: number, entry: None });
        }
        // A tree by lot, so that a large one does not keep the others waiting; in it a path down to a record, then any.
        let waiting: Vec<usize> = (0..self.trees.len())
            .filter(|number| !self.trees[*number].nodes.is_empty() && awake(&self.trees[*number]))
            .collect();
        // Nor must links that DNS gives no answer for.
        if let Some(number) = self.trees.iter().position(|tree| !tree.links.is_empty() && awake(tree))
            && (waiting.is_empty() || self.rng.random_ratio(1, 2))
        {
            let tree = &mut self.trees[number];
            let hash = tree.links.swap_remove(self.rng.random_range(0..tree.links.len()));
            return Some(tree.query(number, hash, Subtree::Links));
        }
        let number = *waiting.get(self.rng.random_range(0..waiting.len().max(1)))?;
        let tree = &mut self.trees[number];
        let from = if tree.fresh < tree.nodes.len() { tree.fresh } else { 0 };
        let hash = tree.nodes.swap_remove(self.rng.random_range(from..tree.nodes.len()));
        Some(tree.query(number, hash, Subtree::Nodes))
    }
}

impl Tree {
    fn new(url: TreeUrl, depth: u32) -> Self {
        Self {
            url,
            depth,
            root: None,
            checked: None,
            check_at: Duration::ZERO,
            failures: 0,
            links: Vec::new(),
            nodes: Vec::new(),
            fresh: 0,
            missing: Vec::new(),
            missed: BTreeSet::new(),
            refused: BTreeSet::new(),
            full: false,
            paused_until: Duration::ZERO,
            pause: Duration::ZERO,
        }
    }

    fn has_entries(&self) -> bool {
        !self.links.is_empty() || !self.nodes.is_empty()
    }

    fn has_work(&self, now: Duration) -> bool {
        self.next() <= now
    }

    /// When there is something to ask for.
    fn next(&self) -> Duration {
        if self.has_entries() { self.paused_until } else { self.check_at.max(self.paused_until) }
    }

    /// Entries that it holds.
    fn len(&self) -> usize {
        self.links.len() + self.nodes.len() + self.missing.len() + self.refused.len()
    }

    fn query(&self, tree: usize, hash: Hash, subtree: Subtree) -> Query {
        Query { name: format!("{hash}.{}", self.url.domain), tree, entry: Some((hash, subtree)) }
    }

    fn queue(&mut self, (hash, subtree): (Hash, Subtree)) {
        match subtree {
            Subtree::Links => self.links.push(hash),
            Subtree::Nodes => self.nodes.push(hash),
        }
    }

    fn retry_missing(&mut self) {
        for entry in std::mem::take(&mut self.missing) {
            self.queue(entry);
        }
    }
}
