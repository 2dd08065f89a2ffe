//! The bounds of `docs/limits.md` that random inputs do not reach; see `random.rs` for the others.

use std::sync::Arc;
use std::time::Duration;

use super::net::*;
use crate::proto::config::{BUCKETS, Config};
use crate::proto::contacts::OwnContacts;
use crate::proto::contacts::testing::ChosenIds;
use crate::proto::engine::{Clock, Command, CommandError, Engine, LocalKey, LocalNode, Reply, Size};
use crate::proto::identity::{NodeId, PublicKey, RecordContent};
use crate::proto::time::Time;
use crate::proto::wire::{Message, MessageKind, Neighbors};

/// What is driven to its bound here.
pub(super) const HERE: [&str; 11] = [
    "members",
    "replacements",
    "errands",
    "commands that wait for a PONG",
    "addresses knocked at",
    "commands that wait for an address",
    "strangers left in peace",
    "records",
    "spare lists of nodes",
    "members to be asked anew",
    "members that may have moved",
];

pub(super) fn size(sizes: &[Size], what: &str) -> (usize, usize) {
    assert!(HERE.contains(&what));
    let size = sizes.iter().find(|size| size.what == what).unwrap();
    (size.holds, size.bound)
}

fn at_bound(net: &Net, what: &str) {
    let (holds, bound) = size(&net.engine(0).sizes(), what);
    assert_eq!(holds, bound, "{what}");
}

#[test]
fn a_table_is_full_when_each_bucket_is() {
    let local = LocalNode {
        key: LocalKey::Public(PublicKey([1; 64]), NodeId([0; 32])),
        content: RecordContent::default(),
        seq: 1,
        bound: addr("0.0.0.0:30303"),
        host: (None, None),
        tcp: 0,
    };
    // Loopback has no limits on networks.
    let mut contacts = ChosenIds::new();
    let mut nodes = Vec::new();
    for log in 1..=BUCKETS as u16 {
        for n in 0..40_u8 {
            let mut id = [0; 32];
            id[31] = n;
            let bit = usize::from(log - 1);
            if u32::from(n) < 1_u32.checked_shl(u32::from(log - 1)).unwrap_or(u32::MAX) {
                id[31 - bit / 8] |= 1 << (bit % 8);
                nodes.push(contacts.put(NodeId(id), [127, 0, 0, 1].into(), 30303));
            }
        }
    }
    let clock = Clock { now: Time::from_secs(9), unix_micros: EPOCH };
    let mut engine = Engine::new(local, Arc::new(Config::default()), contacts, [1; 32], clock).unwrap();
    for node in nodes {
        engine.grant(clock.now, node, true, Duration::from_secs(1));
    }
    // The four nearest buckets have 1, 2, 4 and 8 IDs, the fifth 16.
    assert_eq!(size(&engine.sizes(), "members"), (1 + 2 + 4 + 8 + 252 * 16, 4047));
    assert_eq!(size(&engine.sizes(), "replacements"), (251 * 10, 2510));
    engine.assert_invariants(clock.now + secs(0));
    engine.renew(clock.now);
    engine.renew(clock.now);
    assert_eq!(size(&engine.sizes(), "members to be asked anew"), (4047, 4047));
}

#[test]
fn commands_are_refused_beyond_the_bound() {
    let mut net = Net::alone(passive());
    let silent = contact(&key(2), addr("10.0.0.2:30303"));
    for _ in 0..5000 {
        net.command(0, Command::RequestRecord(silent));
        net.command(0, Command::Ping(silent));
    }
    at_bound(&net, "errands");
    at_bound(&net, "commands that wait for a PONG");
    assert_eq!(net.nodes[0].replies.len(), 2 * (5000 - 4096));
    net.run(secs(10));
    assert_eq!(net.nodes[0].replies.len(), 10_000, "and all are told in the end");
    assert_eq!(net.engine(0).under_way(), (0, 0, 0));
}

#[test]
fn of_the_strangers_left_in_peace_the_first_gives_way() {
    let mut net = Net::alone(passive());
    for n in 0..300 {
        let at = addr(&format!("10.1.{}.{}:30303", n / 250, n % 250));
        let ping = net.make_ping(at);
        net.forge(&key(1000 + n), at, addr("10.0.0.1:30303"), &ping);
    }
    net.run(DELAY);
    at_bound(&net, "strangers left in peace");
}

#[test]
fn there_is_one_record_for_each_member() {
    let mut net = Net::new(1);
    for n in 0..12 {
        net.add(n + 1, addr(&format!("10.0.0.{}:30303", n + 1)), Config::default());
    }
    for n in 1..12 {
        let contact = net.contact(0);
        net.bootnode(n, contact);
    }
    net.run(secs(60));
    let engine: &Engine<OwnContacts> = net.engine(0);
    assert_eq!((size(&engine.sizes(), "records").0, engine.table().len()), (11, 11));
    assert_eq!(size(&engine.sizes(), "records").1, size(&engine.sizes(), "members").1);
    net.stop(3);
    net.run(secs(600));
    assert_eq!((size(&net.engine(0).sizes(), "records").0, net.engine(0).table().len()), (10, 10));
}

#[test]
fn lists_are_kept_for_so_many_answers() {
    let mut net = Net::alone(passive());
    for _ in 0..200 {
        net.input(0, |engine, _| {
            engine.recycle(Message::Neighbors(Neighbors { nodes: Vec::with_capacity(12), expiration: 1 }))
        });
    }
    at_bound(&net, "spare lists of nodes");
}

#[test]
fn the_document_names_each_bound() {
    let document = include_str!("../../../../docs/limits.md");
    let net = Net::alone(Config::default());
    let grouped = |n: usize| {
        let digits = n.to_string();
        let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
        groups.join(",")
    };
    let rows: Vec<String> = net
        .engine(0)
        .sizes()
        .iter()
        .map(|Size { what, bound, bytes, .. }| {
            format!("| {what} | {} | {} |", grouped(*bound), grouped((bound * bytes).div_ceil(1000)))
        })
        .filter(|row| !document.contains(row))
        .collect();
    assert!(rows.is_empty(), "docs/limits.md lacks rows that begin with (bound, kB at the bound)\n{}", rows.join("\n"));
}

#[test]
fn knocks_and_commands_beyond_the_bound_are_turned_away() {
    let mut net = Net::alone(Config::default());
    let at = |n: u16| addr(&format!("10.0.{}.{}:30303", 1 + n / 200, 1 + n % 200));
    let knock = |net: &mut Net, n| net.command(0, Command::PingAddress(at(n), None));
    for n in 0..1024 {
        net.input(0, |engine, now| engine.add_address(now, at(n), None)).unwrap();
    }
    at_bound(&net, "addresses knocked at");
    assert_eq!(net.input(0, |engine, now| engine.add_address(now, at(1024), None)), Err(CommandError::Busy));
    let beyond = knock(&mut net, 1025);
    assert_eq!(net.reply(0, beyond), Reply::Failed(CommandError::Busy));
    for n in 0..4096 {
        knock(&mut net, n % 1024);
    }
    at_bound(&net, "commands that wait for an address");
    let beyond = knock(&mut net, 0);
    assert_eq!(net.reply(0, beyond), Reply::Failed(CommandError::Busy));
    net.run(ms(1100));
    assert_eq!(size(&net.engine(0).sizes(), "addresses knocked at").0, 0);
    assert_eq!(size(&net.engine(0).sizes(), "commands that wait for an address").0, 0);
}

#[test]
fn members_that_all_seem_to_move_are_remembered_up_to_the_bound() {
    let mut net = Net::alone(passive());
    for network in ["127.0.1", "127.0.2"] {
        let peers: Vec<usize> =
            (0..200_u8).map(|n| net.peer(u64::from(n) + 2, addr(&format!("{network}.{n}:30303")))).collect();
        for &peer in &peers {
            net.send_ping(peer);
        }
        net.run(2 * DELAY);
        for &peer in &peers {
            let ping = net.claim_all(peer).into_iter().find(|got| got.message.kind() == MessageKind::Ping);
            net.send_pong(peer, ping.expect("strangers are pinged").hash);
        }
        net.run(DELAY);
        assert!(net.engine(0).table().len() > 64);
    }
    at_bound(&net, "members that may have moved");
    // They answer at both addresses, or at none.
    net.run(secs(2));
    assert_eq!(size(&net.engine(0).sizes(), "members that may have moved").0, 0);
    for peer in 0..400 {
        net.claim_all(peer);
    }
}
