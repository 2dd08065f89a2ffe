//! Who is let in, how often, and at whose doors we knock.

use std::net::SocketAddr;
use std::time::Duration;

use super::net::*;
use crate::proto::config::{Config, Rate};
use crate::proto::contacts::Contacts;
use crate::proto::engine::{Command, Dropped, Engine, Standing};
use crate::proto::identity::Contact;
use crate::proto::time::Time;
use crate::proto::wire::MessageKind;

const A: &str = "5.5.5.5:30303";
const VICTIM: &str = "9.9.9.9:30303";

fn admitted<C: Contacts>(engine: &mut Engine<C>, now: Time, from: &[SocketAddr]) -> Vec<Result<(), Dropped>> {
    from.iter().map(|from| engine.admit(now, *from)).collect()
}

/// How many of so many datagrams, from addresses made by number, get in at one instant, and why others do not.
fn flood(net: &mut Net, packets: u32, from: impl Fn(u32) -> SocketAddr) -> (usize, Vec<Dropped>) {
    let from: Vec<SocketAddr> = (0..packets).map(from).collect();
    let results = net.input(0, |engine, now| admitted(engine, now, &from));
    let mut reasons: Vec<Dropped> = results.iter().filter_map(|result| result.err()).collect();
    reasons.dedup();
    (results.iter().filter(|result| result.is_ok()).count(), reasons)
}

/// Claims what a peer has got, answers the PINGs among it, and says what it was.
fn answer_pings(net: &mut Net, peer: usize) -> Vec<MessageKind> {
    let got = net.claim_all(peer);
    for got in got.iter().filter(|got| got.message.kind() == MessageKind::Ping) {
        net.send_pong(peer, got.hash);
    }
    got.iter().map(|got| got.message.kind()).collect()
}

fn alone(change: impl FnOnce(&mut Config)) -> Net {
    let mut config = passive();
    change(&mut config);
    Net::alone(config)
}

#[test]
fn an_address_a_network_and_a_site_have_their_shares() {
    let mut net = alone(|_| {});
    assert_eq!(flood(&mut net, 1000, |_| addr(A)), (200, vec![Dropped::Address]));
    assert_eq!(flood(&mut net, 1000, |n| ([6, 6, 6, n as u8], 1).into()), (800, vec![Dropped::Network]));
    let v6 = |net: u32, host: u32| addr(&format!("[2a00:1:1:{net:x}::{host:x}]:1"));
    assert_eq!(flood(&mut net, 1000, |n| v6(0, n)), (800, vec![Dropped::Network]));
    // Ten networks of another site, 500 each.
    let other = |n: u32| addr(&format!("[2a00:1:2:{:x}::{n:x}]:1", n % 10));
    assert_eq!(flood(&mut net, 5000, other), (3200, vec![Dropped::Network]));
    // A second later there is as much as comes in.
    net.run(secs(1));
    assert_eq!(flood(&mut net, 1000, |_| addr(A)), (100, vec![Dropped::Address]));
    assert_eq!(flood(&mut net, 1000, |n| ([6, 6, 6, n as u8], 1).into()), (400, vec![Dropped::Network]));
    assert_eq!(flood(&mut net, 5000, other), (1600, vec![Dropped::Network]));
    let counters = net.engine(0).counters();
    assert_eq!(counters.dropped(Dropped::Address), 800 + 900);
    assert_eq!(counters.dropped(Dropped::Network), 200 + 200 + 1800 + 600 + 3400);
}

#[test]
fn a_crawler_that_asks_ten_times_a_second_meets_no_limit() {
    let mut net = alone(|_| {});
    for _ in 0..3000 {
        // A request, the PONG to our PING, and as many again for what is sent twice.
        assert_eq!(flood(&mut net, 4, |_| addr(A)), (4, vec![]));
        net.run(ms(100));
    }
}

#[test]
fn private_networks_are_spared_unless_they_are_not() {
    for (local, taken) in [(false, 1000), (true, 200)] {
        for at in ["127.0.0.1:1", "192.168.1.1:1", "[fe80::1]:1"] {
            let mut net = alone(|config| config.limits.local = local);
            assert_eq!(flood(&mut net, 1000, |_| addr(at)).0, taken, "{at}");
        }
    }
    let mut net = alone(|config| (config.limits.local, config.limits.sources) = (true, 0));
    assert_eq!(flood(&mut net, 1000, |_| addr(A)).0, 1000, "switched off");
}

#[test]
fn the_whole_node_has_its_limit_and_a_share_for_those_who_have_proved_themselves() {
    let mut net = alone(|config| {
        config.limits.strangers = Rate { every: ms(10), burst: 50 };
        config.limits.proved = Rate { every: ms(10), burst: 20 };
    });
    let peer = net.peer(2, addr("10.0.0.2:30303"));
    net.bond(peer);
    net.run(secs(2));
    let crowd = |n: u32| SocketAddr::from(([7, (n >> 8) as u8, n as u8, 1], 1));
    assert_eq!(flood(&mut net, 1000, crowd), (50, vec![Dropped::Overload]));
    assert_eq!(flood(&mut net, 1000, |_| addr("10.0.0.2:30303")), (20, vec![Dropped::Overload]));
    assert_eq!(flood(&mut net, 1000, |_| addr("10.0.0.3:30303")), (0, vec![Dropped::Overload]));
    net.run(ms(100));
    // Each has its own: what strangers leave is there for all.
    assert_eq!(flood(&mut net, 1000, |_| addr("10.0.0.2:30303")), (10 + 10, vec![Dropped::Overload]));
}

#[test]
fn floods_in_the_name_of_those_we_ask_do_not_keep_their_answers_out() {
    let mut net = alone(|config| config.limits.local = true);
    let peer = net.peer(2, addr(A));
    // The flood has used up what its address may send.
    assert_eq!(flood(&mut net, 1000, |_| addr(A)).0, 200);
    let contact = net.peer_contact(peer);
    let command = net.command(0, Command::Ping(contact));
    net.run(DELAY);
    // What comes now may be the answer, but not all of it.
    assert_eq!(flood(&mut net, 5, |_| addr(A)), (5, vec![]));
    answer_pings(&mut net, peer);
    net.run(DELAY);
    assert!(matches!(net.reply(0, command), crate::proto::engine::Reply::Ping(_)));
    assert_eq!(flood(&mut net, 5, |_| addr(A)).0, 2, "only what came in since");
    let command = net.command(0, Command::Ping(contact));
    assert_eq!(flood(&mut net, 1000, |_| addr(A)), (8, vec![Dropped::Address]));
    net.run(secs(1));
    net.reply(0, command);
    net.claim_all(peer);
}

#[test]
fn a_ping_to_a_stranger_makes_nobody_known() {
    let mut net = alone(|_| {});
    let peer = net.peer(2, addr(A));
    let standing = |net: &Net| net.engine(0).standing(net.now, addr(A));
    assert_eq!(standing(&net), Standing::Stranger);
    net.send_ping(peer);
    net.run(DELAY);
    assert_eq!(net.engine(0).under_way().0, 1);
    assert_eq!(standing(&net), Standing::Stranger, "anybody could have sent that PING");
    let command = net.command(0, Command::Ping(net.peer_contact(peer)));
    assert_eq!(standing(&net), Standing::Known);
    net.run(DELAY);
    answer_pings(&mut net, peer);
    net.run(DELAY);
    net.reply(0, command);
    assert_eq!(standing(&net), Standing::Known);
    assert_eq!(net.engine(0).standing(net.now, addr("5.5.5.5:30304")), Standing::Stranger);
    net.run(secs(24 * 3600));
    assert_eq!(standing(&net), Standing::Stranger);
    net.claim_all(peer);
}

/// What a victim gets while forged PINGs come in its name: PONGs and PINGs.
fn forged(net: &mut Net, rounds: u64, every: Duration, from: impl Fn(u64) -> SocketAddr) -> (u64, u64) {
    for n in 0..rounds {
        let from = from(n);
        let ping = net.make_ping(from);
        net.forge(&key(1000 + n), from, addr("10.0.0.1:30303"), &ping);
        net.run(every);
    }
    net.run(secs(2));
    let sent = net.engine(0).counters();
    (sent.sent(MessageKind::Pong), sent.sent(MessageKind::Ping))
}

#[test]
fn forged_senders_do_not_make_us_knock() {
    // Always the same endpoint, another key each time: 60 s, and 3 PINGs at once.
    assert_eq!(forged(&mut alone(|_| {}), 60, secs(1), |_| addr(VICTIM)), (60, 3 + 5));
    // All ports of an address.
    assert_eq!(forged(&mut alone(|_| {}), 1000, ms(60), |n| ([9, 9, 9, 9], 2000 + n as u16).into()), (1000, 16 + 59));
    // All addresses of a network.
    assert_eq!(forged(&mut alone(|_| {}), 1000, ms(60), |n| ([9, 9, 9, n as u8], 2000).into()), (1000, 64 + 239));
}

#[test]
fn one_valid_ping_is_answered_with_one_pong_and_one_ping() {
    let mut net = alone(|_| {});
    let peer = net.peer(2, addr(A));
    let sent = |net: &Net| {
        let counters = net.engine(0).counters();
        (counters.sent(MessageKind::Pong), counters.sent(MessageKind::Ping), counters.total_sent())
    };
    let pings = |net: &mut Net, count: usize| {
        for _ in 0..count {
            net.send_ping(peer);
        }
        net.run(ms(900));
    };
    pings(&mut net, 1);
    assert_eq!(sent(&net), (1, 1, 2));
    pings(&mut net, 20);
    assert_eq!(sent(&net), (21, 1, 22), "while its PING is out there is no other");
    // As long as it stays silent it gets two more at once, and one each 10 s.
    for _ in 0..100 {
        pings(&mut net, 1);
    }
    assert_eq!(sent(&net), (121, 3 + 9, 133));
    net.claim_all(peer);
}

#[test]
fn invented_neighbors_do_not_make_us_knock() {
    // A member names 16 keys at one address each time that it is asked.
    let mut net = Net::alone(Config::default());
    let teller = net.peer(2, addr("5.5.5.6:30303"));
    net.bond(teller);
    for round in 0..60_u64 {
        net.command(0, Command::Lookup { target: target(round as u8), until_found: false, paths: None });
        for _ in 0..50 {
            net.run(ms(20));
            if answer_pings(&mut net, teller).contains(&MessageKind::FindNode) {
                let named: Vec<Contact> = (0..12)
                    .map(|n| {
                        contact(&key(1000 + 12 * round + n), ([9, 9, 9, 9], (2000 + 12 * round + n) as u16).into())
                    })
                    .collect();
                net.send_neighbors(teller, &named);
            }
        }
    }
    let knocks = net.nodes[0].sent.iter().filter(|(_, to, _)| to.ip() == addr(VICTIM).ip()).count();
    assert!(net.engine(0).counters().not_knocked > 0);
    // Each may be sent twice.
    assert!((16..=2 * (16 + 70)).contains(&knocks), "{knocks} packets");
    net.run(secs(40));
    net.claim_all(teller);
}

#[test]
fn members_and_configured_contacts_are_pinged_whatever_others_have_used_up() {
    let mut net = alone(|_| {});
    let peer = net.peer(2, addr(A));
    assert_eq!(forged(&mut net, 100, ms(60), |n| ([5, 5, 5, 5], 2000 + n as u16).into()).1, 16 + 5);
    let before = net.engine(0).counters().not_knocked;
    let command = net.command(0, Command::Ping(net.peer_contact(peer)));
    net.run(DELAY);
    answer_pings(&mut net, peer);
    net.run(DELAY);
    net.reply(0, command);
    // It is a member now, and stays one by its checks.
    for _ in 0..1000 {
        net.run(ms(200));
        answer_pings(&mut net, peer);
    }
    assert_eq!(net.engine(0).table().len(), 1);
    assert_eq!(net.engine(0).counters().not_knocked, before);
    net.claim_all(peer);
}
