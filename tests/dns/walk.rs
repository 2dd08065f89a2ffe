//! Walks through trees that are no more than a map of names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kadnode::bootstrap::dns::{
    BURST, DnsError, Entry, EntryError, Hash, MAX_ENTRIES, MAX_TREES, News, PER_SECOND, RECHECK, RootError, Step,
    TreeUrl, Walk,
};
use kadnode::proto::identity::{NodeId, Record};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::server::{Tree, record};

type Zone = BTreeMap<String, String>;

fn zone(trees: &[&Tree]) -> Zone {
    trees.iter().flat_map(|tree| tree.zone()).collect()
}

fn walk(tree: &Tree) -> Walk<StdRng> {
    Walk::new(tree.url.clone(), StdRng::seed_from_u64(1))
}

/// Walks from `now` on, without waiting longer than `until`; what came of it, and when the last question was asked.
struct Trip {
    news: Vec<News>,
    asked: Vec<(Duration, String)>,
    rest: Step,
}

fn go(walk: &mut Walk<StdRng>, zone: &Zone, mut now: Duration, until: Duration) -> Trip {
    let mut trip = Trip { news: Vec::new(), asked: Vec::new(), rest: Step::Wait(now) };
    loop {
        match walk.poll(now) {
            Step::Ask(query) => {
                let answer = zone.get(&query.name).map(|text| vec![text.clone()]).ok_or(DnsError::NoName);
                trip.asked.push((now, query.name.clone()));
                trip.news.extend(walk.handle_answer(now, &query, answer));
            }
            Step::Wait(at) if at <= until => {
                assert!(at > now, "it makes progress");
                now = at;
            }
            rest => {
                trip.rest = rest;
                return trip;
            }
        }
    }
}

impl Trip {
    fn nodes(&self) -> BTreeSet<NodeId> {
        let nodes: Vec<NodeId> = self
            .news
            .iter()
            .filter_map(|news| match news {
                News::Node(record) => Some(record.node_id()),
                _ => None,
            })
            .collect();
        let set: BTreeSet<NodeId> = nodes.iter().copied().collect();
        assert_eq!(set.len(), nodes.len(), "no node comes twice");
        set
    }

    fn others(&self) -> Vec<&News> {
        self.news.iter().filter(|news| !matches!(news, News::Node(_))).collect()
    }
}

fn ids(records: &[Record]) -> BTreeSet<NodeId> {
    records.iter().map(Record::node_id).collect()
}

const LONG: Duration = Duration::from_secs(1_000_000);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_thousand_nodes_and_two_trees_each_once() {
    let records: Vec<Record> = (0..1000).map(record).collect();
    // They link to one another, and share a hundred nodes.
    let other_url = Tree::sign(2, "b.example.org", 1, &[], &[]).url;
    let tree = Tree::sign(1, "a.example.org", 5, &records[..900], &[other_url]);
    let other = Tree::sign(2, "b.example.org", 7, &records[800..], std::slice::from_ref(&tree.url));
    let zone = zone(&[&tree, &other]);
    let mut walk = walk(&tree);
    let trip = go(&mut walk, &zone, Duration::ZERO, LONG);
    assert_eq!(trip.nodes(), ids(&records));
    assert_eq!(walk.given(), 1000);
    assert_eq!(
        trip.others(),
        [
            &News::Root { domain: "a.example.org".into(), seq: 5 },
            &News::Link { from: "a.example.org".into(), to: other.url.clone() },
            &News::Root { domain: "b.example.org".into(), seq: 7 },
        ]
    );
    // Each name once, though the hundred are the same text.
    let asked: BTreeSet<&String> = trip.asked.iter().map(|(_, name)| name).collect();
    assert_eq!(asked.len(), trip.asked.len());
    // A burst, then three a second.
    let at = |number: usize| trip.asked[number].0;
    assert_eq!(at(BURST as usize - 1), Duration::ZERO);
    let last = trip.asked.len() - 1;
    let rest = Duration::from_secs((last as u64 - u64::from(BURST) + 1) / u64::from(PER_SECOND));
    assert!(at(last) >= rest && at(last) <= rest + SECOND, "{:?}", at(last));
    // The first nodes are there in the burst.
    let firsts = {
        let mut again = Walk::new(tree.url.clone(), StdRng::seed_from_u64(9));
        go(&mut again, &zone, Duration::ZERO, Duration::ZERO).nodes().len()
    };
    assert!(firsts >= 1, "{firsts}");
    let recheck = trip.asked.iter().find(|(_, name)| name == "a.example.org").unwrap().0 + RECHECK;
    assert_eq!(trip.rest, Step::Rest(recheck));
    assert!(walk.is_exhausted());
}

#[test]
fn a_newer_tree_gives_what_is_new_and_an_older_one_is_refused() {
    let records: Vec<Record> = (0..40).map(record).collect();
    let old = Tree::sign(1, "example.org", 5, &records[..30], &[]);
    let new = Tree::sign(1, "example.org", 6, &records, &[]);
    let mut walk = walk(&old);
    let first = go(&mut walk, &zone(&[&old]), Duration::ZERO, LONG);
    assert_eq!(first.nodes(), ids(&records[..30]));
    let Step::Rest(due) = first.rest else { panic!("{:?}", first.rest) };

    let second = go(&mut walk, &zone(&[&old, &new]), due, due + LONG);
    assert_eq!(second.nodes(), ids(&records[30..]));
    let Step::Rest(due) = second.rest else { panic!("{:?}", second.rest) };
    // Two branches of 13, and that of the links, are as they were: the root, three branches and ten records are asked for.
    assert_eq!(second.asked.len(), 14);

    let third = go(&mut walk, &zone(&[&old]), due, due + LONG);
    let error = RootError::Older { got: 5, seen: 6 };
    assert_eq!(third.news, [News::BadRoot { domain: "example.org".into(), error, again: RECHECK }]);
    assert_eq!(
        third.news[0].to_string(),
        "the tree at example.org is not used: the root has the sequence number 5, and 6 has been seen: the newer tree is \
         kept; asking for it again in 1800 s"
    );
    assert_eq!((third.asked.len(), third.rest), (1, Step::Rest(due + RECHECK)));

    walk.restart();
    let fourth = go(&mut walk, &zone(&[&new]), due + SECOND, due + LONG);
    assert_eq!(fourth.nodes(), ids(&records), "each once more");
}

#[test]
fn a_bad_signature_gives_nothing_and_is_tried_again_at_growing_waits() {
    let tree = Tree::sign(1, "example.org", 1, &[record(1)], &[]);
    let forged = Tree::sign(2, "example.org", 9, &[record(2)], &[]);
    let mut walk = walk(&tree);
    let trip = go(&mut walk, &zone(&[&forged]), Duration::ZERO, 20 * SECOND);
    let times: Vec<u64> = trip.asked.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(times, [0, 1, 3, 7, 15]);
    assert_eq!(
        trip.news[0].to_string(),
        "the tree at example.org is not used: the signature of the root is not that of the key in the URL; asking for it \
         again in 1 s"
    );
    let trip = go(&mut walk, &zone(&[&tree]), 31 * SECOND, 40 * SECOND);
    assert_eq!(trip.nodes(), ids(&[record(1)]));
}

#[test]
fn what_is_wrong_in_a_tree_is_skipped_with_its_name() {
    let good = record(1);
    let damaged = good.to_string().replace("enr:-", "enr:A");
    let link = Tree::sign(2, "b.example.org", 1, &[], &[]).url.to_string();
    let texts = [good.to_string(), damaged.clone(), "hello".to_owned(), link.clone(), "x".repeat(1100)];
    let swapped = Hash::of("the text of this name has another hash");
    let missing = Hash::of("there is no such entry");
    let mut entries: Vec<(Hash, String)> = texts.iter().map(|text| (Hash::of(text), text.clone())).collect();
    let children = entries.iter().map(|(hash, _)| *hash).chain([swapped, missing]).collect();
    let branch = Entry::Branch(children).to_string();
    let nothing = Entry::Branch(Vec::new()).to_string();
    entries.push((swapped, record(2).to_string()));
    entries.extend([&branch, &nothing].map(|text| (Hash::of(text), text.clone())));
    let tree = Tree::of(1, "example.org", 1, Hash::of(&branch), Hash::of(&nothing), entries);
    let mut walk = walk(&tree);
    let trip = go(&mut walk, &zone(&[&tree]), Duration::ZERO, LONG);
    assert_eq!(trip.nodes(), ids(&[good]));
    let skipped: BTreeMap<String, EntryError> = trip
        .others()
        .into_iter()
        .filter_map(|news| match news {
            News::Skipped { name, error } => Some((name.clone(), error.clone())),
            _ => None,
        })
        .collect();
    let at = |hash: Hash| format!("{hash}.example.org");
    assert_eq!(skipped[&at(swapped)], EntryError::Hash);
    assert_eq!(skipped[&at(missing)], EntryError::Missing);
    assert_eq!(skipped[&at(Hash::of(&damaged))].to_string(), damaged.parse::<Record>().unwrap_err().to_string());
    assert_eq!(skipped[&at(Hash::of("hello"))], EntryError::Kind);
    assert_eq!(skipped[&at(Hash::of(&link))], EntryError::Place);
    assert_eq!(skipped[&at(Hash::of(&texts[4]))], EntryError::TooLong(1100));
    assert_eq!(skipped.len(), 6);
    // What is missing has one more chance, a minute after the root.
    let Step::Rest(due) = trip.rest else { panic!("{:?}", trip.rest) };
    assert_eq!(due, Duration::from_secs(60));
    let again = go(&mut walk, &zone(&[&tree]), due, due + LONG);
    assert_eq!(
        again.asked.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>(),
        ["example.org".to_owned(), at(missing)]
    );
    assert_eq!(again.rest, Step::Rest(due + RECHECK));
}

#[test]
fn links_are_followed_within_bounds() {
    let urls: Vec<TreeUrl> =
        (1..=40).map(|number| Tree::sign(number, &format!("t{number}.example.org"), 1, &[], &[]).url).collect();
    // One tree with 30 links.
    let star = Tree::sign(1, "t1.example.org", 1, &[record(1)], &urls[1..31]);
    let mut walk = walk(&star);
    let trip = go(&mut walk, &zone(&[&star]), Duration::ZERO, 30 * SECOND);
    let many = trip.news.iter().filter(|news| matches!(news, News::LinkTooMany { .. })).count();
    let followed = trip.news.iter().filter(|news| matches!(news, News::Link { .. })).count();
    assert_eq!((followed, many), (MAX_TREES - 1, 30 - (MAX_TREES - 1)));
    assert_eq!(trip.nodes().len(), 1, "trees that are not there hold up nothing");

    // A chain: 1 links to 2 links to 3 and so on.
    let chain: Vec<Tree> = (1..9u8)
        .map(|number| {
            let domain = format!("t{number}.example.org");
            Tree::sign(number, &domain, 1, &[record(number.into())], &[urls[usize::from(number)].clone()])
        })
        .collect();
    let mut walk = Walk::new(chain[0].url.clone(), StdRng::seed_from_u64(1));
    let trip = go(&mut walk, &zone(&chain.iter().collect::<Vec<_>>()), Duration::ZERO, LONG);
    assert_eq!(trip.nodes(), ids(&[1, 2, 3, 4, 5].map(record)), "four links deep");
}

#[test]
fn a_linked_tree_spoils_no_entry_of_another() {
    // Its branch names the records of the first tree. They are not there, or other texts are, or they are among the links.
    let records: Vec<Record> = (0..30).map(record).collect();
    let names: Vec<Hash> = records.iter().map(|record| Hash::of(&record.to_string())).collect();
    let branch = |children: &[Hash]| {
        let text = Entry::Branch(children.to_vec()).to_string();
        (Hash::of(&text), text)
    };
    let (nodes, links) = (branch(&names[..20]), branch(&names[20..]));
    let mut entries = vec![nodes.clone(), links.clone()];
    entries.extend(names[..10].iter().map(|name| (*name, "another text".to_owned())));
    entries.extend((20..30).map(|number| (names[number], records[number].to_string())));
    let spoiler = Tree::of(2, "b.example.org", 1, nodes.0, links.0, entries);
    let tree = Tree::sign(1, "a.example.org", 1, &records, std::slice::from_ref(&spoiler.url));
    let mut zone = zone(&[&spoiler]);
    let mut walk = walk(&tree);
    // The spoiler is read first.
    for (name, text) in tree.zone().into_iter().filter(|(_, text)| !text.starts_with("enr:")) {
        zone.insert(name, text);
    }
    let mut spoiled = 0;
    let mut now = Duration::ZERO;
    while spoiled < 30 {
        match walk.poll(now) {
            Step::Ask(query) if query.name.ends_with("a.example.org") && !zone.contains_key(&query.name) => {
                walk.handle_answer(now, &query, Err(DnsError::Timeout));
            }
            Step::Ask(query) => {
                let answer = zone.get(&query.name).map(|text| vec![text.clone()]).ok_or(DnsError::NoName);
                let news = walk.handle_answer(now, &query, answer);
                spoiled += news.iter().filter(|news| matches!(news, News::Skipped { .. })).count();
            }
            Step::Wait(at) => now = at,
            Step::Rest(_) => panic!("{spoiled} of 30"),
        }
    }
    zone.extend(tree.zone());
    assert_eq!(go(&mut walk, &zone, now, now + LONG).nodes(), ids(&records));
}

#[test]
fn what_was_wrong_is_asked_for_again_with_a_newer_root_and_not_before() {
    let records: Vec<Record> = (0..5).map(record).collect();
    let [old, new] = [1, 2].map(|seq| Tree::sign(1, "example.org", seq, &records, &[]));
    let name = format!("{}.example.org", Hash::of(&records[0].to_string()));
    let mut zone = zone(&[&old]);
    let right = zone.insert(name.clone(), records[1].to_string()).unwrap();
    let mut walk = walk(&old);
    let first = go(&mut walk, &zone, Duration::ZERO, LONG);
    assert_eq!(first.nodes(), ids(&records[1..]));
    zone.insert(name.clone(), right);
    let Step::Rest(due) = first.rest else { panic!("{:?}", first.rest) };
    let second = go(&mut walk, &zone, due, due + LONG);
    assert_eq!(second.asked, [(due, "example.org".to_owned())]);
    zone.insert("example.org".into(), new.root);
    let third = go(&mut walk, &zone, due + RECHECK, due + LONG);
    assert_eq!(third.nodes(), ids(&records[..1]));
    assert_eq!(third.asked.into_iter().map(|(_, name)| name).collect::<Vec<_>>(), ["example.org".to_owned(), name]);
}

#[test]
fn links_that_dns_gives_no_answer_for_hold_up_no_node() {
    let records: Vec<Record> = (0..20).map(record).collect();
    let others: Vec<TreeUrl> = (2..5).map(|number| Tree::sign(number, "b.example.org", 1, &[], &[]).url).collect();
    let tree = Tree::sign(1, "example.org", 1, &records, &others);
    let zone = zone(&[&tree]);
    let mut walk = walk(&tree);
    let (mut now, mut nodes) = (Duration::ZERO, BTreeSet::new());
    let due = loop {
        match walk.poll(now) {
            Step::Ask(query) => {
                let text = &zone[&query.name];
                let answer =
                    if text.starts_with("enrtree://") { Err(DnsError::Timeout) } else { Ok(vec![text.clone()]) };
                let news = walk.handle_answer(now, &query, answer);
                nodes.extend(news.iter().filter_map(|news| match news {
                    News::Node(record) => Some(record.node_id()),
                    _ => None,
                }));
            }
            Step::Wait(at) => {
                assert!(at < RECHECK, "it is never at its end");
                now = at;
            }
            Step::Rest(due) => break due,
        }
    };
    assert_eq!(nodes, ids(&records));
    // They have been asked for more than once, and are once more after the root.
    let again = go(&mut walk, &zone, due, due + LONG);
    assert_eq!(again.news.iter().filter(|news| matches!(news, News::Link { .. })).count(), others.len());
}

#[test]
fn a_dns_that_does_not_answer_is_asked_at_growing_waits_and_nothing_is_lost() {
    let records: Vec<Record> = (0..20).map(record).collect();
    let tree = Tree::sign(1, "example.org", 1, &records, &[]);
    let zone = zone(&[&tree]);
    let mut walk = walk(&tree);
    let mut now = Duration::ZERO;
    let (mut waits, mut nodes) = (Vec::new(), BTreeSet::new());
    for number in 0.. {
        match walk.poll(now) {
            Step::Ask(query) if (10..20).contains(&number) => {
                let news = walk.handle_answer(now, &query, Err(DnsError::Timeout));
                let [News::Unanswered { again, .. }] = &news[..] else { panic!("{news:?}") };
                waits.push(again.as_secs());
                assert_eq!(walk.poll(now), Step::Wait(now + *again));
                now += *again;
            }
            Step::Ask(query) => {
                for news in walk.handle_answer(now, &query, Ok(vec![zone[&query.name].clone()])) {
                    if let News::Node(record) = news {
                        assert!(nodes.insert(record.node_id()));
                    }
                }
            }
            Step::Wait(at) => now = at,
            Step::Rest(_) => break,
        }
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    assert_eq!(nodes, ids(&records));
}

/// How many entries an endless tree names that are not there.
const ENDLESS: usize = 37 * 37 * 13;

/// A tree whose branches name more entries than are kept, none of which is there.
fn endless(signer: u8, domain: &str, links: &[TreeUrl]) -> Tree {
    let mut entries = Vec::new();
    let mut branch = |text: String| {
        let hash = Hash::of(&text);
        entries.push((hash, text));
        hash
    };
    let links: Vec<Hash> = links.iter().map(|url| branch(url.to_string())).collect();
    let links = branch(Entry::Branch(links).to_string());
    // Texts cannot be made to fit hashes that are named before; so the branches are made bottom-up, in three levels.
    let mut level: Vec<Hash> = (0..ENDLESS).map(|number| Hash::of(&format!("{domain} {number}"))).collect();
    while level.len() > 1 {
        level = level.chunks(37).map(|children| branch(Entry::Branch(children.to_vec()).to_string())).collect();
    }
    assert!(entries.len() > 400);
    Tree::of(signer, domain, 1, level[0], links, entries)
}

/// How many entries of a domain have been asked for.
fn entries(trip: &Trip, domain: &str) -> usize {
    trip.asked.iter().filter(|(_, name)| name.ends_with(&format!(".{domain}"))).count()
}

/// The texts of endless trees, with nonsense where an entry is named that is not there.
fn endless_zone(trees: &[&Tree]) -> Zone {
    let mut zone = zone(trees);
    for tree in trees {
        let domain = &tree.url.domain;
        let name = |number| format!("{}.{domain}", Hash::of(&format!("{domain} {number}")));
        zone.extend((0..ENDLESS).map(|number| (name(number), "nonsense".to_owned())));
    }
    zone
}

#[test]
fn a_tree_without_end_is_read_to_a_bound() {
    let tree = endless(1, "a.test", &[]);
    let mut walk = walk(&tree);
    let trip = go(&mut walk, &endless_zone(&[&tree]), Duration::ZERO, LONG);
    let large = News::TooLarge { domain: "a.test".into() };
    assert_eq!(trip.news.iter().filter(|news| **news == large).count(), 1);
    assert_eq!(
        large.to_string(),
        "the tree at a.test has more entries than there is room for (16384 in all); the others are not read"
    );
    assert_eq!(entries(&trip, "a.test"), MAX_ENTRIES);
    assert!(walk.is_exhausted());
}

#[test]
fn trees_that_are_linked_to_fill_half_of_the_bound() {
    let others = [endless(2, "b.test", &[]), endless(3, "c.test", &[])];
    let [b, c] = others.each_ref();
    let urls = others.each_ref().map(|tree| tree.url.clone());
    let mut zone = endless_zone(&[b, c]);
    let old = Tree::sign(1, "a.test", 1, &[], &urls);
    zone.extend(old.zone());
    let mut walk = walk(&old);
    let trip = go(&mut walk, &zone, Duration::ZERO, LONG);
    let read = entries(&trip, "b.test") + entries(&trip, "c.test");
    assert!((MAX_ENTRIES / 2 - 100..=MAX_ENTRIES / 2).contains(&read), "{read}");

    // There is room for what the first tree names later.
    let Step::Rest(due) = trip.rest else { panic!("{:?}", trip.rest) };
    let records: Vec<Record> = (0..200).map(record).collect();
    zone.extend(Tree::sign(1, "a.test", 2, &records, &urls).zone());
    assert_eq!(go(&mut walk, &zone, due, due + LONG).nodes(), ids(&records));
}
