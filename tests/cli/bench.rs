//! `kadnode bench`.

use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use kadnode::proto::wire::{Message, MessageKind, Ping, Pong, WireEndpoint, parse, seal};
use serde_json::Value;

use super::support::{Home, Node, enode, failure, kadnode, key, output, silent};

/// Runs a bench that must succeed, and returns its JSON and what it said beside that.
fn json(home: &Home, contact: &str, more: &[&str]) -> (Value, String) {
    let args = [&["bench", contact, "--json", "--warm-up", "1"], more].concat();
    let (code, stdout, stderr) = output(home.path(), &args);
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    (serde_json::from_str(&stdout).expect("one JSON object"), stderr)
}

/// A target that answers PING alone, and only those whose number `answers` takes. It pings back each time.
struct Fake {
    contact: String,
    heard: Receiver<MessageKind>,
}

impl Fake {
    fn start(answers: impl Fn(usize) -> bool + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let contact = enode(1, socket.local_addr().unwrap().port());
        let (sender, heard) = channel();
        thread::spawn(move || {
            let (mut buffer, mut out, mut pings) = ([0; 2048], Vec::new(), 0);
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let packet = parse(&buffer[..len]).expect("the bench sends sound packets");
                let kind = packet.message().kind();
                if kind == MessageKind::Ping {
                    pings += 1;
                }
                if kind == MessageKind::Ping && answers(pings - 1) {
                    let at = WireEndpoint { ip: Some(from.ip()), udp: from.port(), tcp: 0 };
                    let (expiration, enr_seq) = (u64::from(u32::MAX), None);
                    let ping = Message::Ping(Ping { from: at, to: at, expiration, enr_seq });
                    let pong = Message::Pong(Pong { to: at, ping_hash: *packet.hash(), expiration, enr_seq });
                    for message in [ping, pong] {
                        seal(&key(1), &message, &mut out);
                        socket.send_to(&out, from).unwrap();
                    }
                }
                if sender.send(kind).is_err() {
                    return;
                }
            }
        });
        Self { contact, heard }
    }
}

#[test]
fn every_request_is_answered_and_counted_once() {
    let home = Home::new();
    let node = home.node(&[]);
    for (mode, more) in [
        ("ping", &[][..]),
        ("new-keys", &["--identities", "7"]),
        ("enr", &[]),
        ("findnode", &["--nodes", "20"]),
        ("ping", &["--rate", "2000"]),
    ] {
        let args = [&["--mode", mode, "--count", "43", "--window", "8"], more].concat();
        let (report, said) = json(&home, &node.enode, &args);
        assert_eq!((&report["mode"], &report["window"]), (&mode.into(), &8.into()));
        assert_eq!((&report["requests"], &report["answers"]), (&43.into(), &43.into()), "{report}");
        assert_eq!(report["loss"], 0.0);
        assert!(report["answers_per_second"].as_f64().unwrap() > 0.0);
        let latency: Vec<f64> =
            ["p50", "p99", "p99_9", "max"].iter().map(|name| report["latency_us"][name].as_f64().unwrap()).collect();
        assert!(latency[0] > 0.0 && latency.is_sorted(), "{report}");
        assert_eq!(report["cpu_us_per_answer"], Value::Null, "no --pid was given");
        let findnode = mode == "findnode";
        assert_eq!(said.ends_with("s a FINDNODE is answered with 16 of 16 nodes\n"), findnode, "{said}");
        assert_eq!(report["packets_per_answer"].as_u64(), findnode.then_some(2));
        assert_eq!(report["nodes_per_answer"].as_f64(), findnode.then_some(16.0));
    }
}

#[test]
fn a_target_on_ipv6() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let home = Home::new();
    let args = ["run", "--ephemeral", "--bootnodes", &home.at("empty"), "--listen", "[::1]:0"];
    let node = Node::spawn(kadnode(home.path(), &args));
    let args = ["--mode", "findnode", "--count", "20", "--window", "4", "--nodes", "17"];
    let (report, _) = json(&home, &node.enode, &args);
    assert_eq!((&report["answers"], &report["nodes_per_answer"]), (&20.into(), &16.0.into()), "{report}");
}

#[test]
fn what_is_dropped_is_dropped_and_worked_off() {
    let home = Home::new();
    let node = home.node(&[]);
    for mode in ["runt", "bad-hash", "zero-signature", "bad-signature", "wrong-type", "expired", "unsolicited"] {
        let (report, _) = json(&home, &node.enode, &["--mode", mode, "--count", "20", "--window", "8"]);
        let figures = ["requests", "answers", "bursts", "bursts_worked_off"].map(|name| report[name].as_u64());
        assert_eq!(figures, [Some(20), Some(0), Some(3), Some(3)], "{mode}");
        assert_eq!(report["cpu_us_per_packet"], Value::Null);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_cpu_time_of_the_target_is_measured() {
    let home = Home::new();
    let node = home.node(&[]);
    let pid = node.pid().to_string();
    let measure = |mode, field: &str| {
        let args = ["--mode", mode, "--count", "200", "--pid", &pid];
        json(&home, &node.enode, &args).0[field].as_f64().unwrap()
    };
    let (ping, drop) = (measure("ping", "cpu_us_per_answer"), measure("runt", "cpu_us_per_packet"));
    assert!(ping > 10.0 && drop < ping, "{ping} us, {drop} us");
    assert!(measure("runt", "cpu_us_per_ping") > drop);
}

#[test]
fn the_text_says_the_same() {
    let home = Home::new();
    let node = home.node(&[]);
    let run = |mode| output(home.path(), &["bench", &node.enode, "--mode", mode, "--count", "20", "--window", "8"]);
    let (code, text, said) = run("ping");
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let names: Vec<&str> = text.lines().map(|line| line[..12].trim_end()).collect();
    assert_eq!(names, ["target", "load", "requests", "answers", "a second", "latency", "loss"]);
    for line in [
        format!("target       127.0.0.1:{}", node.port()),
        "load         ping, window 8".to_owned(),
        "answers      20".to_owned(),
        "loss         0.000 %".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in {text}");
    }
    let (code, text, _) = run("expired");
    assert_eq!(code, Some(0));
    assert!(text.contains("answers      0\n") && text.contains("bursts       3 of 3 worked off\n"), "{text}");
}

#[test]
fn loss_is_what_was_not_answered_and_pings_are_left_alone() {
    let home = Home::new();
    // The first one is the greeting.
    let fake = Fake::start(|number| number % 2 == 0);
    let args = ["--count", "10", "--window", "2", "--timeout", "300"];
    let (report, _) = json(&home, &fake.contact, &args);
    let figures = ["requests", "answers"].map(|name| report[name].as_u64());
    assert_eq!((figures, report["loss"].as_f64()), ([Some(10), Some(5)], Some(0.5)));
    let heard: Vec<MessageKind> = fake.heard.try_iter().collect();
    assert_eq!(heard, [MessageKind::Ping; 11], "and no PONG");
}

#[test]
fn a_target_that_falls_silent_ends_the_run() {
    let home = Home::new();
    let fake = Fake::start(|number| number < 3);
    let args = ["--count", "1000", "--window", "1", "--timeout", "150"];
    let (report, _) = json(&home, &fake.contact, &args);
    assert_eq!((&report["requests"], &report["answers"]), (&7.into(), &2.into()), "five in a row are enough");

    let said = |contact: &str, when: &str| {
        let at = contact.rsplit('@').next().unwrap();
        format!(
            "error: nothing from {at} {when}: check that the address and the UDP port are right, that the node runs, \
             and that no firewall drops UDP\n"
        )
    };
    let run = |contact: &str| failure(home.path(), &["bench", contact, "--count", "9", "--timeout", "150"]);
    let fake = Fake::start(|number| number == 0);
    assert_eq!(run(&fake.contact), (1, said(&fake.contact, "after the first PING")));
    let (_silent, port) = silent();
    let contact = enode(1, port);
    assert_eq!(run(&contact), (1, said(&contact, "in answer to 5 PINGs")));

    let fake = Fake::start(|_| true);
    let port = fake.contact.rsplit(':').next().unwrap().parse().unwrap();
    let other = format!(
        "error: the node at 127.0.0.1:{port} has another key than the contact says: ask for its current enode URL or \
         record\n"
    );
    assert_eq!(run(&enode(2, port)), (1, other));
}

#[test]
fn public_addresses_and_bad_values_are_refused_before_anything_is_sent() {
    let home = Home::new();
    let at = |host: &str| format!("enode://{}@{host}:30303", key(1).public_key());
    let public = "error: 8.8.8.8 is a public address, and a load on somebody else's node is an attack: if the host is \
                  yours, say so with --i-own-this-host\n";
    assert_eq!(failure(home.path(), &["bench", &at("8.8.8.8")]), (2, public.to_owned()));
    let special = at("224.0.0.1");
    for more in [&[][..], &["--i-own-this-host"]] {
        let args = [&["bench", &special], more].concat();
        assert_eq!(failure(home.path(), &args), (2, "error: no node can be reached at 224.0.0.1\n".to_owned()));
    }

    let (socket, port) = silent();
    let contact = enode(1, port);
    let refused = |args: &[&str]| failure(home.path(), &[&["bench", &contact], args].concat());
    for (option, name, value, range) in [
        ("--count", "N", "0", "1 to 10000000"),
        ("--count", "N", "10000001", "1 to 10000000"),
        ("--count", "N", "-1", "1 to 10000000"),
        ("--window", "N", "0", "1 to 1000"),
        ("--window", "N", "many", "1 to 1000"),
        ("--timeout", "MS", "0", "1 to 60000"),
        ("--rate", "N", "0", "1 to 10000000"),
        ("--nodes", "N", "1001", "0 to 1000"),
        ("--warm-up", "SECONDS", "3601", "0 to 3600"),
    ] {
        let sentence = format!(
            "error: invalid value '{value}' for '{option} <{name}>': it has to be a whole number from {range} (see --help)\n"
        );
        assert_eq!(refused(&[option, value]), (2, sentence));
    }
    for (args, sentence) in [
        (&["--mode", "runt", "--rate", "5"][..], "--rate is for the modes that are answered; runt goes out in bursts"),
        (&["--identities", "5"], "--identities is for the mode new-keys; in the others each socket has its own"),
    ] {
        assert_eq!(refused(args), (2, format!("error: {sentence}\n")));
    }
    if cfg!(target_os = "linux") {
        let sentence = "error: there is no process 4294967295, which --pid names\n";
        assert_eq!(refused(&["--pid", "4294967295"]), (2, sentence.to_owned()));
    }
    socket.set_nonblocking(true).unwrap();
    let nothing = socket.recv(&mut [0; 2048]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
}
