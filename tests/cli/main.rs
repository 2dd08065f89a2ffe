//! The program as its users meet it: what it prints, what it keeps, and what it says when something is wrong.

mod bad_input;
mod bench;
#[cfg(target_os = "linux")]
mod clock;
mod contacts;
#[cfg(feature = "store")]
mod memory;
mod sim;
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use kadnode::proto::identity::{Enode, Record};
use support::{Home, Node, enode, failure, kadnode, key, output, silent};

#[cfg(unix)]
#[test]
fn a_node_prints_two_lines_and_ends_when_asked_to() {
    for signal in ["-TERM", "-INT"] {
        let home = Home::new();
        let node = home.node(&[]);
        let (enode, record): (Enode, Record) = (node.enode.parse().unwrap(), node.record.parse().unwrap());
        let (said, listed) = (enode.contact().unwrap(), record.contact().unwrap());
        assert_eq!((said.key, said.endpoint.udp_addr()), (listed.key, listed.endpoint.udp_addr()));
        assert_ne!(enode.udp, 0);
        assert_eq!(enode.contact().unwrap().endpoint.ip.to_string(), "127.0.0.1");
        let (status, more, _) = node.stop(signal);
        assert_eq!((status.code(), more), (Some(0), vec![]));
    }
}

#[test]
fn a_wildcard_address_is_printed_as_loopback_and_stays_out_of_the_record() {
    let home = Home::new();
    let empty = home.at("empty");
    let args = ["run", "--ephemeral", "--bootnodes", &empty, "--listen", "0.0.0.0:0"];
    let node = Node::spawn(kadnode(home.path(), &args));
    assert!(node.enode.contains("@127.0.0.1:"), "{}", node.enode);
    assert_eq!(node.record.parse::<Record>().unwrap().endpoint(), None);
}

#[test]
fn key_and_record_outlast_a_run() {
    let home = Home::new();
    let record = |more: &[&str]| {
        let node = home.node(more);
        assert_eq!(fs::read_to_string(home.at("data/record.enr")).unwrap().trim_end(), node.record);
        node.record.parse::<Record>().unwrap()
    };
    let first = record(&["--advertise", "10.1.2.3:30303"]);
    let key = fs::read_to_string(home.at("data/node.key")).unwrap();
    assert_eq!((key.len(), key.ends_with('\n')), (65, true));
    assert_eq!(first.endpoint().unwrap().to_string(), "10.1.2.3:30303");

    // The same content: the same record, to the last byte, though the port of the socket is another one.
    assert_eq!(record(&["--advertise", "10.1.2.3:30303"]), first);
    let moved = record(&["--advertise", "10.1.2.4:30303:30304"]);
    // A record in between may not have been saved, so it begins anew with the time.
    assert!(moved.seq() > first.seq(), "{} after {}", moved.seq(), first.seq());
    assert_eq!((moved.public_key(), moved.endpoint().unwrap().tcp), (first.public_key(), 30304));
    assert_eq!(fs::read_to_string(home.at("data/node.key")).unwrap(), key);

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name| fs::metadata(home.at(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("data"), mode("data/node.key")), (0o700, 0o600));
    }
}

#[test]
fn an_ephemeral_node_keeps_nothing() {
    let home = Home::new();
    let first = Node::ephemeral(home.path(), &home.path().join("empty"));
    let second = Node::ephemeral(home.path(), &home.path().join("empty"));
    assert_ne!(first.key(), second.key());
    let names: Vec<PathBuf> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names, [home.path().join("empty")]);
}

#[test]
fn without_an_option_the_data_is_in_the_platforms_place() {
    let home = Home::new();
    let (own, empty) = (home.at("own"), home.at("empty"));
    let mut command = kadnode(home.path(), &["--bootnodes", &empty, "--listen", "127.0.0.1:0"]);
    command.env("XDG_DATA_HOME", &own);
    let _node = Node::spawn(command);
    if cfg!(all(unix, not(target_vendor = "apple"))) {
        assert!(Path::new(&own).join("kadnode/node.key").exists());
    }
}

#[test]
fn two_nodes_find_each_other_and_the_commands_find_them() {
    let home = Home::new();
    let a = home.node(&["-v"]);
    let list = home.write("list", &format!("\u{feff}# the first\r\n\r\n{}  # a\r\n", a.enode));
    let b = Node::ephemeral(home.path(), Path::new(&list));
    let added = b.wait_for_log("node added");
    assert!(added.contains(&format!("enode=enode://{}@127.0.0.1:", a.key())), "{added}");
    a.wait_for_log("node added");
    assert!(a.wait_for_log("status: ").contains("status: 1 node known, 1 live"));
    let id = b.record.parse::<Record>().unwrap().node_id().to_string();

    let (code, out, err) = output(home.path(), &["ping", &b.enode]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("answer from 127.0.0.1:{} in ", b.port())), "{out}");
    for line in [
        format!("node ID      {id}"),
        format!("enode        {}", b.enode),
        format!("record seq   {}", b.record.parse::<Record>().unwrap().seq()),
        "our address  127.0.0.1".to_owned(),
    ] {
        assert!(out.lines().any(|found| found == line), "{line:?} is not in {out}");
    }

    let (code, enr, err) = output(home.path(), &["enr", &b.record]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(enr.lines().next(), Some(b.record.as_str()));
    assert!(enr.contains(&format!("node ID    {id}\n")) && enr.contains("ip         127.0.0.1\n"), "{enr}");

    // B by way of A, and by an address where it is no longer.
    let (_silent, port) = silent();
    let moved = format!("enode://{}@127.0.0.1:{port}", b.key());
    for target in [b.key(), b.enode.as_str(), &moved] {
        let (code, out, err) = output(home.path(), &["resolve", target, "--bootnodes", &list]);
        assert_eq!((code, out), (Some(0), enr.clone()), "{err}");
    }
    // Nobody has this key, and both ways are tried to their end.
    let nobody = format!("enode://{}@127.0.0.1:{port}", key(9).public_key());
    let (code, out, err) = output(home.path(), &["resolve", &nobody, "--bootnodes", &list]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("the node with this key did not answer"), "{err}");
    assert!(err.contains(&format!("nothing from the node at 127.0.0.1:{port}")), "{err}");

    for target in [b.key(), &b.enode] {
        let (code, out, err) = output(home.path(), &["lookup", target, "--json", "--bootnode", &a.enode]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["target"]["key"], b.key());
        assert!(names(&report["closest"][0]["enode"], &b), "{out}");
        assert_eq!(report["closest"][0]["id"], id.as_str());
        assert_eq!(report["closest"][0]["answered"], true);
        assert_eq!(report["closest"][0]["distance"], 0);
        assert!(report["queries"].as_u64().unwrap() >= 2);
        assert!(report["trace"].as_array().unwrap().iter().any(|step| names(&step["enode"], &a)));
        for field in ["hops", "took_ms"] {
            assert!(report[field].is_number(), "{field} in {out}");
        }
    }
    let (code, out, err) = output(home.path(), &["lookup", b.key(), "--bootnode", &a.enode]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("target {id}\n")), "{out}");
    assert!(out.contains(" 0  yes       ") && out.contains(&format!("127.0.0.1:{}", b.port())), "{out}");
    assert!(out.lines().last().unwrap().contains("nodes found; 1 hop, "), "{out}");
    assert!(out.is_ascii(), "a pipe gets plain columns");
}

/// Whether an enode URL is of this node, at the place where it is; TCP ports are hearsay.
fn names(url: &serde_json::Value, node: &Node) -> bool {
    let place = |url: &str| url.parse::<Enode>().ok().map(|enode| (enode.key, enode.host, enode.udp));
    url.as_str().and_then(place) == place(&node.enode)
}

#[test]
fn a_contact_that_answers_is_bootnode_enough_for_a_lookup() {
    let home = Home::new();
    let node = home.node(&[]);
    let (code, out, err) = output(home.path(), &["lookup", &node.enode, "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["trace"].as_array().unwrap().len(), 1, "the public bootnodes are not asked: {out}");
}

#[test]
fn the_log_in_json_has_its_fields_at_the_top() {
    let home = Home::new();
    let a = home.node(&[]);
    let b = Node::start(home.path(), &["--ephemeral", "--bootnode", &a.enode, "-v", "--log-format", "json"]);
    let added: serde_json::Value = serde_json::from_str(&b.wait_for_log("node added")).unwrap();
    assert_eq!(added["message"], "node added");
    assert_eq!(added["level"], "DEBUG");
    assert!(names(&added["enode"], &a), "{added}");
    assert_eq!(added["id"], a.record.parse::<Record>().unwrap().node_id().to_string());
    // The first status comes with the first contact.
    let status: serde_json::Value = serde_json::from_str(&b.wait_for_log("\"status\"")).unwrap();
    assert_eq!((status["known"].as_u64(), status["level"].as_str()), (Some(1), Some("INFO")));
}

#[test]
fn a_node_whose_contacts_are_silent_says_so() {
    let home = Home::new();
    let ((_one, port), (_two, other)) = (silent(), silent());
    let list = home.write("list", &format!("{}\n{}\n", enode(1, port), enode(2, other)));
    let node = Node::ephemeral(home.path(), Path::new(&list));
    node.wait_for_log("WARN no contacts: none of the 2 that were given has answered yet; kadnode keeps trying");
}

#[test]
fn silence_and_strangers_are_told() {
    let home = Home::new();
    let (_silent, port) = silent();
    let node = home.node(&[]);
    let contact = enode(1, port);
    let no_answer = format!(
        "error: no answer from 127.0.0.1:{port} to 3 tries of 1 s each: check that the address and the UDP port are \
         right, that the node runs, and that no firewall drops UDP\n"
    );
    assert_eq!(failure(home.path(), &["ping", &contact]), (1, no_answer.clone()));
    assert_eq!(failure(home.path(), &["enr", &contact]), (1, no_answer));
    let stranger = format!("enode://{}@127.0.0.1:{}", key(1).public_key(), node.port());
    let other = format!(
        "error: the node at 127.0.0.1:{} has another key than the contact says: ask for its current enode URL or record\n",
        node.port()
    );
    assert_eq!(failure(home.path(), &["ping", &stranger]), (1, other));

    let target = key(2).public_key().to_string();
    let nobody = "error: there is nobody to ask: no bootnode was given, or none could be resolved\n".to_owned();
    let empty = home.at("empty");
    assert_eq!(failure(home.path(), &["resolve", &target, "--bootnodes", &empty]), (1, nobody.clone()));
    assert_eq!(failure(home.path(), &["lookup", &target, "--bootnodes", &empty]), (1, nobody));
    let (code, _, err) = output(home.path(), &["lookup", &target, "--bootnode", &contact]);
    let said =
        "error: the one contact asked did not answer: check addresses and ports, and that no firewall drops UDP\n";
    assert_eq!((code, err.as_str()), (Some(1), said));
    let (code, err) = failure(home.path(), &["resolve", &target, "--bootnode", &node.enode]);
    assert!(code == 1 && err.starts_with("error: the node with this key did not answer; "), "{err}");
}
