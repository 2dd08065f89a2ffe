//! Lookups among those who lie: they end, in bounded time and with a bounded number of requests, they find the honest nodes
//! nearest to their target, and who is of no use to anybody loses its place.

use std::time::Duration;

use super::lookups::{far_peers, nearest};
use super::net::*;
use crate::proto::config::Config;
use crate::proto::contacts::{Contacts, OwnContacts};
use crate::proto::engine::{Command, Engine, Event, LookupReport, Removal, Reply};
use crate::proto::identity::{Contact, Endpoint, PublicKey};
use crate::proto::time::Time;
use crate::proto::wire::{Message, MessageKind};

/// What a liar does when it is asked for nodes near a target.
type Lie<'a> = &'a mut dyn FnMut(&mut Net, usize);

/// An asker that does nothing of its own accord, honest engines of which it knows some, and liars that it has bonded with.
struct Scene {
    net: Net,
    liars: Vec<usize>,
    /// It belongs in the farthest bucket of the asker, and the liars are near it.
    target: PublicKey,
}

impl Scene {
    fn new(honest: u64, known: usize, liars: usize) -> Self {
        let mut net = Net::unsealed(5);
        net.add(1, addr("20.0.0.1:30303"), passive());
        for n in 1..=honest {
            let at = net.add(n + 1, addr(&format!("20.0.{n}.1:30303")), Config::default());
            if n > 1 {
                let bootnode = net.contact(1);
                net.bootnode(at, bootnode);
            }
            net.run(ms(100));
        }
        net.run(secs(300));
        let target = (1..).map(target).find(|target| key(1).id().log_distance(&target.node_id()) == 256).unwrap();
        let mut keys: Vec<u64> = (1000..1100).collect();
        keys.sort_by_key(|n| target.node_id().distance(&key(*n).id()));
        let liars = keys[..liars].iter().zip(1..);
        let liars = liars.map(|(n, at)| net.peer(*n, addr(&format!("30.0.{at}.1:30303")))).collect();
        for n in 1..=known {
            let contact = net.contact(n);
            net.ping(0, contact);
        }
        let mut scene = Self { net, liars, target };
        for liar in scene.liars.clone() {
            scene.net.bond(liar);
        }
        // Nobody is left in peace any more.
        scene.live(secs(2), &mut |_, _| ());
        scene
    }

    /// Lets time pass; liars answer PINGs, and lie.
    fn live(&mut self, duration: Duration, lie: Lie<'_>) {
        let end = self.net.now + duration;
        self.live_until(end, |_| false, lie);
    }

    fn live_until(&mut self, end: Time, done: impl Fn(&Net) -> bool, lie: Lie<'_>) {
        loop {
            for liar in self.liars.clone() {
                for got in self.net.claim_all(liar) {
                    match got.message {
                        Message::Ping(_) => drop(self.net.send_pong(liar, got.hash)),
                        Message::FindNode(_) => lie(&mut self.net, liar),
                        _ => {}
                    }
                }
            }
            if done(&self.net) || !self.net.step(end) {
                return;
            }
        }
    }

    /// A lookup, which ends in time.
    fn run_lookup(&mut self, target: PublicKey, until_found: bool, paths: Option<usize>, lie: Lie<'_>) -> LookupReport {
        let id = self.net.command(0, Command::Lookup { target, until_found, paths });
        let end = self.net.now + secs(31);
        self.live_until(end, |net| net.nodes[0].replies.iter().any(|(_, reply, _)| *reply == id), lie);
        let Reply::Lookup(report) = self.net.reply(0, id) else { panic!() };
        assert!(report.took <= secs(30) && report.queries <= 256);
        report
    }

    fn look_up(&mut self, lie: Lie<'_>) -> LookupReport {
        self.run_lookup(self.target, false, None, lie)
    }

    /// Whoever of the honest is in a result has answered, is among the nearest, and none is left out. How many liars are
    /// there beside them.
    fn assert_honest(&self, report: &LookupReport) -> usize {
        assert!(report.closest.iter().all(|found| found.answered));
        let found: Vec<Contact> = report.closest.iter().map(|found| found.contact).collect();
        let (honest, liars): (Vec<Contact>, Vec<Contact>) =
            found.into_iter().partition(|contact| contact.endpoint.ip.to_string().starts_with("20."));
        assert_eq!(honest, nearest(&self.net, &self.target.node_id(), 0, 16 - liars.len()));
        liars.len()
    }

    fn asker(&self) -> &Engine<OwnContacts> {
        self.net.engine(0)
    }

    /// FINDNODEs in a row that a member has not answered; `None` when it is no member.
    fn find_fails(&self, peer: usize) -> Option<u8> {
        let contact = self.net.peer_contact(peer);
        let contacts = self.asker().contacts();
        let mut entries = self.asker().table().entries().map(|(_, entry)| entry);
        entries.find(|entry| contacts.contact(entry.node) == contact).map(|entry| entry.find_fails())
    }

    fn removals(&self) -> Vec<(Contact, Removal)> {
        let events = self.net.nodes[0].events.iter();
        events
            .filter_map(|(_, event)| if let Event::NodeRemoved(who, why) = event { Some((*who, *why)) } else { None })
            .collect()
    }

    /// How often the asker has sent anything to addresses that begin like this.
    fn sent_to(&self, prefix: &str) -> usize {
        self.net.nodes[0].sent.iter().filter(|(_, to, _)| to.to_string().starts_with(prefix)).count()
    }
}

/// Requests made, milliseconds that it took, and liars in the result.
fn figures(scene: &Scene, report: &LookupReport) -> (u32, u128, usize) {
    (report.queries, report.took.as_millis(), scene.assert_honest(report))
}

/// Answers in packets of up to 12.
fn say(net: &mut Net, liar: usize, nodes: &[Contact]) {
    for nodes in nodes.chunks(12) {
        net.send_neighbors(liar, nodes);
    }
}

/// Node `n` of those that a liar invents: a key that is nearer to the target than any honest node, at an address of a
/// network of its own where nobody is.
fn invented(target: &PublicKey, n: u64) -> Contact {
    let mut bytes = [9; 64];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    let near = (0u64..).find_map(|salt| {
        bytes[8..16].copy_from_slice(&salt.to_be_bytes());
        let key = PublicKey(bytes);
        (key.node_id().log_distance(&target.node_id()) <= 246).then_some(key)
    });
    let ip = std::net::Ipv4Addr::from(0x3200_0001 + ((n as u32 % 0xffff) << 8));
    Contact { key: near.unwrap(), endpoint: Endpoint::new(ip.into(), 30303, 0) }
}

#[test]
fn one_that_answers_pings_and_no_findnode_loses_its_place() {
    let mut scene = Scene::new(24, 24, 3);
    let mut seen = vec![];
    for _ in 0..5 {
        assert_eq!(scene.removals(), []);
        let report = scene.look_up(&mut |_, _| ());
        seen.push((figures(&scene, &report), scene.find_fails(scene.liars[0])));
    }
    // Two timeouts with a bond anew between them; from the second time on it is bonded with before the first as well.
    let round = |took, fails| ((19, took, 0), fails);
    let last = [Some(2), Some(3), Some(4), None].map(|fails| round(2120, fails));
    assert_eq!((seen[0], &seen[1..]), (round(2060, Some(1)), &last[..]));
    let contacts: Vec<Contact> = scene.liars.iter().map(|liar| scene.net.peer_contact(*liar)).collect();
    let mut removals = scene.removals();
    removals.sort_by_key(|(contact, _)| contact.endpoint);
    assert_eq!(removals, contacts.iter().map(|contact| (*contact, Removal::Unhelpful)).collect::<Vec<_>>());
    // PINGs and PONGs alone win it back no more, and lookups begin with others.
    for liar in scene.liars.clone() {
        scene.net.send_ping(liar);
    }
    scene.live(secs(2), &mut |_, _| ());
    assert!(contacts.iter().all(|contact| !scene.net.is_member(0, contact)));
    let report = scene.look_up(&mut |_, _| ());
    assert_eq!(figures(&scene, &report), (16, 120, 0));
}

#[test]
fn in_a_bucket_with_few_even_such_a_one_keeps_its_place() {
    let mut scene = Scene::new(1, 1, 1);
    for fails in [1, 2, 3, 4, 4, 4] {
        let report = scene.look_up(&mut |_, _| ());
        assert_eq!(report.closest.len(), 1);
        assert_eq!(scene.find_fails(scene.liars[0]), Some(fails));
    }
    // One answer, and all is forgotten.
    scene.look_up(&mut |net, liar| say(net, liar, &[net.contact(0)]));
    assert_eq!(scene.find_fails(scene.liars[0]), Some(0));
}

/// Two members of a bucket of two: one that is asked on the way, and one that a lookup is for, whose answers take 110 ms.
fn on_the_way() -> (Scene, [usize; 2]) {
    let mut config = passive();
    config.table.k = 2;
    let mut net = Net::alone(config);
    let mut far = far_peers();
    let peers = [2u8, 3].map(|at| net.peer(far.next().unwrap(), addr(&format!("10.0.0.{at}:30303"))));
    for peer in peers {
        net.bond(peer);
    }
    net.run(secs(1));
    net.delays.insert((net.peers[peers[1]].addr, net.nodes[0].addr), ms(100));
    let target = *net.peers[peers[1]].key.public_key();
    (Scene { net, liars: peers.to_vec(), target }, peers)
}

#[test]
fn a_findnode_that_outlives_its_lookup_counts_too() {
    let (mut scene, [passed, wanted]) = on_the_way();
    let round = |scene: &mut Scene, lie: Lie<'_>| {
        let report = scene.run_lookup(scene.target, true, None, lie);
        assert!(report.closest[0].answered && report.took < ms(500), "{:?}", report.took);
        let fails = scene.find_fails(passed);
        scene.live(secs(2), lie);
        assert_eq!(scene.asker().under_way(), (0, 0, 0));
        (fails, scene.find_fails(passed))
    };
    let mut mute = |net: &mut Net, liar| {
        if liar == wanted {
            say(net, liar, &[net.contact(0)])
        }
    };
    assert_eq!(round(&mut scene, &mut mute), (Some(0), Some(1)));
    assert_eq!(round(&mut scene, &mut mute), (Some(1), Some(2)));
    // It answers when the lookup is over.
    let way = (scene.net.peers[passed].addr, scene.net.nodes[0].addr);
    scene.net.send_ping(passed);
    scene.live(secs(1), &mut mute);
    scene.net.delays.insert(way, ms(600));
    assert_eq!(round(&mut scene, &mut |net, liar| say(net, liar, &[net.contact(0)])).1, Some(0));
    scene.net.delays.remove(&way);
    let fails = [0; 5].map(|_| round(&mut scene, &mut mute).1);
    assert_eq!(fails, [Some(1), Some(2), Some(3), Some(4), None]);
    assert_eq!(scene.removals(), [(scene.net.peer_contact(passed), Removal::Unhelpful)]);
    // It pings us, and is not pinged back.
    scene.net.send_ping(passed);
    let pings = scene.asker().counters().sent(MessageKind::Ping);
    scene.live(ms(500), &mut mute);
    assert_eq!((scene.asker().counters().sent(MessageKind::Ping), scene.find_fails(passed)), (pings, None));
    // Somebody names it, and it answers: it is welcome again.
    let named = scene.net.peer_contact(passed);
    scene.run_lookup(named.key, false, None, &mut |net, liar| say(net, liar, &[named]));
    scene.net.send_ping(passed);
    scene.live(secs(2), &mut mute);
    assert_eq!(scene.find_fails(passed), Some(0));
}

#[test]
fn one_that_names_only_itself_does_no_harm() {
    let mut scene = Scene::new(20, 4, 2);
    let mut seen = vec![];
    for _ in 0..2 {
        let report = scene.look_up(&mut |net, liar| {
            let itself = net.peer_contact(liar);
            let elsewhere = |n: u8| Contact { endpoint: Endpoint::new([40, 0, n, 1].into(), 30303, 0), ..itself };
            let places: Vec<Contact> = (1..16).map(elsewhere).collect();
            say(net, liar, &[&[itself][..], &places].concat());
        });
        seen.push(figures(&scene, &report));
    }
    assert_eq!(seen, [(16, 201, 2), (16, 120, 2)]);
    assert_eq!(scene.sent_to("40."), 0, "it has answered where it is");
    assert!(scene.liars.iter().all(|liar| scene.find_fails(*liar) == Some(0)));
}

#[test]
fn dead_addresses_cost_a_lookup_some_time() {
    let mut scene = Scene::new(20, 4, 1);
    let mut seen = vec![];
    for round in 0..2 {
        let target = scene.target;
        let report = scene.look_up(&mut |net, liar| {
            let dead: Vec<Contact> = (0..16).map(|n| invented(&target, round * 16 + n)).collect();
            say(net, liar, &dead);
        });
        seen.push(figures(&scene, &report));
    }
    assert_eq!(seen, [(32, 570, 1); 2]);
}

#[test]
fn ids_of_others_at_false_addresses_do_not_hide_them() {
    let mut seen = vec![];
    for own_address in [true, false] {
        let mut scene = Scene::new(20, 4, 2);
        let honest = nearest(&scene.net, &scene.target.node_id(), 0, 16);
        let report = scene.look_up(&mut |net, liar| {
            let mut n = liar as u8 * 16;
            let place = |contact: &Contact| {
                n += 1;
                let dead = Endpoint::new([40, 0, n, 1].into(), 30303, 0);
                let endpoint = if own_address { net.peer_contact(liar).endpoint } else { dead };
                Contact { endpoint, ..*contact }
            };
            let named: Vec<Contact> = honest.iter().map(place).collect();
            say(net, liar, &named);
        });
        let asked = (scene.sent_to("30."), scene.sent_to("40."));
        seen.push((figures(&scene, &report), asked));
    }
    assert_eq!(seen, [((18, 201, 2), (8, 0)), ((41, 810, 2), (6, 48))]);
}

#[test]
fn thousands_of_invented_nodes_are_given_up_one_by_one() {
    // Eight liars name 16 each, always others, and fill all places for candidates but for those that have answered.
    let mut scene = Scene::new(20, 4, 8);
    let (target, mut named) = (scene.target, 0);
    let mut lie = |net: &mut Net, liar: usize| {
        let nodes: Vec<Contact> = (named..named + 16).map(|n| invented(&target, n)).collect();
        named += 16;
        say(net, liar, &nodes);
    };
    let mut seen = vec![];
    for _ in 0..10 {
        let report = scene.look_up(&mut lie);
        seen.push(figures(&scene, &report));
    }
    assert_eq!(seen, [(144, 2460, 8); 10]);
    assert!(scene.asker().contacts().len() <= 2048, "{} contacts", scene.asker().contacts().len());
    assert_eq!((named, scene.asker().table().len()), (1280, 17));
    // Where sixteen liars are nearer than all who are known, nobody else is asked. It ends all the same.
    let mut scene = Scene::new(20, 4, 16);
    let mut named = 5000;
    let report = scene.look_up(&mut |net, liar| {
        let nodes: Vec<Contact> = (named..named + 16).map(|n| invented(&target, n)).collect();
        named += 16;
        say(net, liar, &nodes);
    });
    let answered = report.closest.iter().filter(|found| found.answered).count();
    assert_eq!((report.queries, report.took.as_millis(), report.closest.len(), answered), (224, 3850, 16, 16));
}

#[test]
fn of_ten_packets_of_neighbors_sixteen_nodes_are_read() {
    // In each packet so many, and so long after the one before.
    let mut seen = vec![];
    for (each, gap) in [(12, 0), (1, 0), (1, 15)] {
        let mut scene = Scene::new(20, 4, 1);
        let target = scene.target;
        let report = scene.look_up(&mut |net, liar| {
            let way = (net.peers[liar].addr, net.nodes[0].addr);
            for packet in 0..10 {
                let nodes: Vec<Contact> = (packet * each..(packet + 1) * each).map(|n| invented(&target, n)).collect();
                net.delays.insert(way, DELAY + packet as u32 * ms(gap));
                net.send_neighbors(liar, &nodes);
            }
            net.delays.remove(&way);
        });
        let liar = scene.net.peer_contact(scene.liars[0]);
        let named = report.trace.iter().find(|step| step.contact == liar).and_then(|step| step.named);
        seen.push((named, figures(&scene, &report)));
    }
    let expected = [(Some(16), (32, 570, 1)), (Some(10), (26, 470, 1)), (Some(1), (17, 320, 1))];
    assert_eq!(seen, expected);
}

#[test]
fn addresses_in_special_and_private_ranges_get_nothing() {
    let mut scene = Scene::new(20, 4, 1);
    let target = scene.target;
    let places = [
        "0.0.0.0:30303",
        "10.0.0.7:30303",
        "100.64.0.7:30303",
        "127.0.0.1:30303",
        "169.254.0.7:30303",
        "172.16.0.7:30303",
        "192.0.2.7:30303",
        "192.168.0.7:30303",
        "198.18.0.7:30303",
        "224.0.0.7:30303",
        "255.255.255.255:30303",
        "60.0.0.7:0",
        "60.0.0.7:53",
        "[::1]:30303",
        "[::ffff:10.0.0.7]:30303",
        "[fe80::7]:30303",
    ];
    let report = scene.look_up(&mut |net, liar| {
        let at = |(n, place): (u64, &&str)| {
            let Contact { key, .. } = invented(&target, n);
            let addr = addr(place);
            Contact { key, endpoint: Endpoint { ip: addr.ip(), udp: addr.port(), tcp: 0 } }
        };
        let nodes: Vec<Contact> = (0..).zip(&places).map(at).collect();
        say(net, liar, &nodes);
    });
    assert_eq!(figures(&scene, &report), (16, 201, 1));
    let sent = scene.net.nodes[0].sent.len();
    assert_eq!(scene.sent_to("20.") + scene.sent_to("30."), sent, "nothing went anywhere else");
}

#[test]
fn few_of_one_network_are_taken_up_from_an_answer() {
    // Sixteen of one /24 in two packets, and the node that is looked for among them.
    let mut scene = Scene::new(1, 1, 1);
    let target = scene.target;
    let mut crowd: Vec<Contact> = (0..15).map(|n| invented(&target, n)).collect();
    crowd.push(Contact { key: target, ..crowd[0] });
    for (contact, host) in crowd.iter_mut().zip(1..) {
        contact.endpoint.ip = [60, 0, 0, host].into();
    }
    let report = scene.look_up(&mut |net, liar| say(net, liar, &crowd));
    let mut asked: Vec<String> = scene.net.nodes[0].sent.iter().map(|(_, to, _)| to.ip().to_string()).collect();
    asked.retain(|ip| ip.starts_with("60."));
    asked.sort();
    asked.dedup();
    assert_eq!((asked, report.queries), (["60.0.0.1", "60.0.0.16", "60.0.0.2"].map(String::from).to_vec(), 5));
    // One of each /64; and of a private network as many as there are.
    let mut net = Net::new(1);
    net.add(1, addr("[::]:30303"), passive());
    let teller = net.peer(2, addr("10.0.0.2:30303"));
    net.bond(teller);
    net.run(secs(1));
    let places = ["[2a00::3]", "[2a00::4]", "[2a00:0:0:1::5]", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.3"];
    let nodes: Vec<Contact> =
        (0..).zip(places).map(|(n, at)| contact(&key(50 + n), addr(&format!("{at}:30303")))).collect();
    let id = net.command(0, Command::Lookup { target, until_found: false, paths: None });
    net.claim_all(teller);
    net.run(DELAY);
    net.send_neighbors(teller, &nodes);
    let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
    let mut asked: Vec<Contact> = report.trace.iter().skip(1).map(|step| step.contact).collect();
    asked.sort_by_key(|contact| nodes.iter().position(|node| node == contact));
    assert_eq!(asked, [0, 2, 3, 4, 5, 6].map(|n| nodes[n]));
    net.claim_all(teller);
}

#[test]
fn one_that_is_always_a_second_late_is_passed_over() {
    for (way, stays) in [(985, true), (995, false)] {
        let mut scene = Scene::new(24, 24, 1);
        let liar = scene.liars[0];
        scene.net.delays.insert((scene.net.peers[liar].addr, scene.net.nodes[0].addr), ms(way));
        let mut lie = |net: &mut Net, liar: usize| say(net, liar, &[net.contact(0)]);
        let report = scene.look_up(&mut lie);
        assert_eq!(figures(&scene, &report), (17, 350, 0));
        scene.live(ms(1500), &mut lie);
        assert_eq!(scene.find_fails(liar), Some(u8::from(!stays)), "the answer came after the lookup, or not in time");
        scene.live(secs(60), &mut lie);
        let contact = scene.net.peer_contact(liar);
        assert_eq!(scene.removals(), if stays { vec![] } else { vec![(contact, Removal::Dead)] });
        let again = scene.look_up(&mut lie);
        assert!(again.took <= secs(3), "{:?}", again.took);
        scene.live(secs(3), &mut lie);
    }
}

#[test]
fn disjoint_paths_find_the_same() {
    let mut scene = Scene::new(24, 8, 3);
    let mut seen = vec![];
    for paths in [1, 2, 4, 8] {
        let report = scene.run_lookup(scene.target, false, Some(paths), &mut |net, liar| {
            let others = [0, 1, 2].map(|other| net.peer_contact(other));
            say(net, liar, &others);
        });
        seen.push(figures(&scene, &report));
        let mut asked: Vec<Contact> = report.trace.iter().map(|step| step.contact).collect();
        asked.sort_by_key(|contact| contact.endpoint);
        asked.dedup();
        assert_eq!(asked.len(), report.trace.len(), "nobody is asked twice");
    }
    assert_eq!(seen, [(16, 180, 3), (20, 160, 3), (20, 100, 3), (20, 60, 3)]);
    let wanted = scene.net.contact(24);
    let report = scene.run_lookup(wanted.key, true, Some(4), &mut |_, _| ());
    assert_eq!((report.closest[0].contact, report.closest[0].answered), (wanted, true));
}
