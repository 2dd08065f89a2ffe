//! A clock that is wrong is told of. Other systems than Linux have one loopback address only.

use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use kadnode::proto::wire::{self, Message, Ping, Pong, WireEndpoint};

use crate::support::{Home, key};

/// Peers at five addresses, since those of one host have one clock, whose clocks are 25 s ahead of ours.
#[test]
fn a_clock_that_is_behind_is_warned_of() {
    let home = Home::new();
    let node = home.node(&[]);
    let to = format!("127.0.0.1:{}", node.port());
    for number in 2..=6 {
        let socket = UdpSocket::bind(format!("127.0.0.{number}:0")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.connect(&to).unwrap();
        let say = |message: Message| {
            let mut packet = Vec::new();
            wire::seal(&key(number), &message, &mut packet);
            socket.send(&packet).unwrap();
        };
        let endpoint = WireEndpoint { ip: None, udp: 1, tcp: 0 };
        let expiration = unix_secs() + 45;
        say(Message::Ping(Ping { from: endpoint, to: endpoint, expiration, enr_seq: None }));
        // Its PING comes before its PONG.
        let mut buffer = [0; 1280];
        let len = socket.recv(&mut buffer).unwrap();
        let ping = wire::open(&buffer[..len]).unwrap();
        assert!(matches!(ping.message, Message::Ping(_)));
        say(Message::Pong(Pong { to: endpoint, ping_hash: ping.hash, expiration, enr_seq: None }));
    }
    let line = node.wait_for_log("the clock of this host is about 2");
    // A second more or less, as the test goes on.
    let rest = " s behind that of its peers: packets expire after 20 s, so set the clock";
    assert!(line.contains("WARN") && line.ends_with(rest), "{line}");
}

#[expect(clippy::disallowed_methods, reason = "packets bear the time of day")]
fn unix_secs() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_secs()
}
