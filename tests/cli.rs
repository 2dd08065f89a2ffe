//! The program as its users meet it: what it prints, what it keeps, and what it says when something is wrong.

mod support;

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use kadnode::proto::identity::{Enode, NodeKey, Record, RecordContent};
use support::{Node, failure, kadnode, output};

/// A directory for one test, with an empty file of bootnodes in it.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a file in it, as text for a command line.
    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.dir.path().join(name), content).unwrap();
        self.at(name)
    }

    /// Starts a node with the data directory `data`.
    fn node(&self, more: &[&str]) -> Node {
        let (empty, data) = (self.at("empty"), self.at("data"));
        let mut args = vec!["--bootnodes", &empty, "--data-dir", &data];
        args.extend(more);
        Node::start(self.path(), &args)
    }

    /// Runs a node that must not start with the data directory `data`.
    fn refused(&self, more: &[&str]) -> (i32, String) {
        let (empty, data) = (self.at("empty"), self.at("data"));
        let mut args = vec!["run", "-q", "--bootnodes", &empty, "--data-dir", &data, "--listen", "127.0.0.1:0"];
        args.extend(more);
        failure(self.path(), &args)
    }
}

fn key(number: u8) -> NodeKey {
    NodeKey::from_bytes(&[number; 32]).unwrap()
}

/// An enode URL at a port of loopback.
fn enode(number: u8, port: u16) -> String {
    format!("enode://{}@127.0.0.1:{port}", key(number).public_key())
}

/// A port that is taken and on which nobody answers.
fn silent() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[cfg(unix)]
#[test]
fn a_node_prints_two_lines_and_ends_when_asked_to() {
    for signal in ["-TERM", "-INT"] {
        let home = Home::new();
        let node = home.node(&[]);
        let (enode, record): (Enode, Record) = (node.enode.parse().unwrap(), node.record.parse().unwrap());
        assert_eq!(record.contact(), enode.contact());
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
    assert_eq!(moved.seq(), first.seq() + 1);
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
    assert!(added.contains(&format!("enode={}", a.enode)), "{added}");
    a.wait_for_log("node added");
    assert!(a.wait_for_log("status: ").contains("status: 1 nodes known, 1 live"));
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
    for (target, warns) in [(b.key(), false), (b.enode.as_str(), false), (&moved, true)] {
        let (code, out, err) = output(home.path(), &["resolve", target, "--bootnodes", &list]);
        assert_eq!((code, out), (Some(0), enr.clone()), "{err}");
        assert_eq!(err.contains(&format!("nothing from the node at 127.0.0.1:{port}")), warns, "{err}");
    }

    for target in [b.key(), &b.enode] {
        let (code, out, err) = output(home.path(), &["lookup", target, "--json", "--bootnode", &a.enode]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["target"]["key"], b.key());
        assert_eq!(report["closest"][0]["enode"], b.enode.as_str());
        assert_eq!(report["closest"][0]["id"], id.as_str());
        assert_eq!(report["closest"][0]["answered"], true);
        assert_eq!(report["closest"][0]["distance"], 0);
        assert!(report["queries"].as_u64().unwrap() >= 2);
        assert!(report["trace"].as_array().unwrap().iter().any(|step| step["enode"] == a.enode.as_str()));
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
    assert_eq!(added["enode"], a.enode.as_str());
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

#[test]
fn wrong_usage_is_one_sentence() {
    let home = Home::new();
    let id = key(1).id().to_string();
    for (args, sentence) in [
        (&["--bootnod", "x"][..], "unexpected argument '--bootnod' found; a similar argument exists: '--bootnode'"),
        (&["dance"], "unrecognized subcommand 'dance'"),
        (&["ping"], "the following required arguments were not provided: <CONTACT>"),
        (&["ping", "x"], "invalid value 'x' for '<CONTACT>': a contact begins with enode:// or enr:"),
        (&["--ephemeral", "--data-dir", "x"], "the argument '--ephemeral' cannot be used with '--data-dir <DIR>'"),
        (
            &["-v", "ping", "x"],
            "the subcommand 'ping' cannot be used with '--verbose...'; options stand after the command",
        ),
        (&["-v", "-q"], "the argument '--verbose...' cannot be used with '--quiet...'"),
        (
            &["--listen", "30303"],
            "invalid value '30303' for '--listen <IP:PORT>': give IP:PORT, such as 0.0.0.0:30303 \
            or [::]:30303; port 0 takes a free one",
        ),
        (
            &["--advertise", "0.0.0.0"],
            "invalid value '0.0.0.0' for '--advertise <IP[:UDP[:TCP]]>': no node can be \
            reached at 0.0.0.0",
        ),
        (&["--log-format", "xml"], "invalid value 'xml' for '--log-format <FORMAT>' [possible values: text, json]"),
    ] {
        assert_eq!(failure(home.path(), args), (2, format!("error: {sentence} (see --help)\n")), "{args:?}");
    }
    let sentence = format!(
        "error: invalid value '{id}' for '<KEY|CONTACT>': this is a 32-byte node ID; FINDNODE carries a public key, and \
         none can be computed from an ID: give 128 hex digits (see --help)\n"
    );
    for command in ["lookup", "resolve"] {
        assert_eq!(failure(home.path(), &[command, &id]), (2, sentence.clone()));
    }
    let families = "error: --advertise 2a00::1 and --listen 127.0.0.1:0 are of different address families\n";
    assert_eq!(home.refused(&["--advertise", "2a00::1"]), (2, families.to_owned()));
    assert!(!home.path().join("data").exists(), "nothing was made");
}

#[test]
fn bad_bootnodes_are_named_with_file_and_line() {
    let home = Home::new();
    let run = |file: &str| failure(home.path(), &["--ephemeral", "--listen", "127.0.0.1:0", "--bootnodes", file]);
    let missing = home.at("missing");
    let no_file = format!("error: cannot read the bootnodes file {missing}: No such file or directory (os error 2)\n");
    if cfg!(unix) {
        assert_eq!(run(&missing), (2, no_file));
    }
    assert_eq!(run(&home.at("")).0, 2);

    // One character of the signature is another one.
    let content = RecordContent { v4: Some(([127, 0, 0, 1].into(), 9, 0)), ..Default::default() };
    let record = Record::sign(&key(3), 1, &content).unwrap().to_string();
    let (_silent, port) = silent();
    let flipped = if &record[20..21] == "A" { "B" } else { "A" };
    let forged = format!("{}{flipped}{}", &record[..20], &record[21..]);
    let good = enode(1, port);
    let bad = home.write("bad", &format!("# list\n{good}\nenode://1234\n{good}\n{forged}\n{good} # three\n"));
    let (code, said) = run(&bad);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((code, lines.len()), (2, 3), "{said}");
    assert_eq!(lines[0], format!("error: {bad}:3: there is no @ between the public key and the host"));
    assert!(lines[1].starts_with(&format!("error: {bad}:5: the record is not valid: ")), "{said}");
    let note = "3 contacts are valid, on lines 2, 4 and 6; to go on with them alone, add --skip-bad-bootnodes";
    assert_eq!(lines[2], format!("note: {bad}: {note}"));

    let skip = ["--ephemeral", "--bootnodes", &bad, "--skip-bad-bootnodes"];
    let node = Node::start(home.path(), &skip);
    node.wait_for_log(&format!("WARN {bad}:3: skipped, since it is no contact: there is no @"));
    node.wait_for_log(&format!("WARN {bad}:5: skipped, since it is no contact: the record is not valid"));
    node.wait_for_log(&format!("3 contacts in {bad}"));
}

/// In a network namespace of its own, so that no query leaves the machine. Where that is not permitted there is no test.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_does_not_resolve_is_no_end() {
    let home = Home::new();
    let apart = |args: &[&str]| {
        let program = kadnode(home.path(), args);
        let mut command = std::process::Command::new("unshare");
        command.args(["-rn", "--kill-child"]).arg(program.get_program()).args(program.get_args());
        command.stdin(std::process::Stdio::null());
        command
    };
    if !apart(&["--version"]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: unshare is not there or not permitted");
        return;
    }
    let named = format!("enode://{}@nowhere.invalid:30303", key(1).public_key());
    let node = Node::spawn(apart(&["--ephemeral", "--bootnode", &named, "--listen", "0.0.0.0:0"]));
    let said = node.wait_for_log("nowhere.invalid does not resolve");
    assert!(said.contains(" WARN ") && said.ends_with("trying again in 1 s"), "{said}");
    node.wait_for_log("trying again in 2 s");

    let output = apart(&["ping", &named]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: the host name nowhere.invalid does not resolve: "), "{said}");
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1));
}

#[test]
fn a_bad_key_file_is_named_and_left_as_it_is() {
    let home = Home::new();
    let path = home.at("data/node.key");
    fs::create_dir(home.at("data")).unwrap();
    for (content, sentence) in [
        (String::new(), "is empty; restore it from a backup, or move it away to have a new key made"),
        ("ab".repeat(20) + "\n", "holds 40 characters, and a key is 64 hex digits; it is left as it is"),
        ("zz".repeat(32), "holds a character that is no hex digit; it is left as it is"),
        ("00".repeat(32), "holds a number that is no secp256k1 private key; it is left as it is"),
    ] {
        fs::write(&path, &content).unwrap();
        assert_eq!(home.refused(&[]), (1, format!("error: the key file {path} {sentence}\n")));
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::write(&path, "ab".repeat(32)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let node = home.node(&[]);
        node.wait_for_log(&format!("WARN others can read the key file {path} (its mode is 0644)"));
        assert_eq!(node.key(), NodeKey::from_bytes(&[0xab; 32]).unwrap().public_key().to_string());
    }
}

#[test]
fn a_data_directory_serves_one_node() {
    let home = Home::new();
    let data = home.at("data");
    let _node = home.node(&[]);
    assert_eq!(home.refused(&[]), (1, format!("error: the data directory {data} is in use by another kadnode\n")));
}

#[cfg(unix)]
#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let home = Home::new();
    home.write("data", "a file");
    let data = home.at("data");
    let sentence = format!("error: cannot create the data directory {data}: File exists (os error 17)\n");
    assert_eq!(home.refused(&[]), (1, sentence));
    assert_eq!(fs::read_to_string(&data).unwrap(), "a file");
}

#[test]
fn a_spoilt_record_is_set_aside() {
    let home = Home::new();
    let first = home.node(&[]).record.parse::<Record>().unwrap();
    home.write("data/record.enr", "spoilt");
    let node = home.node(&[]);
    node.wait_for_log("record.enr.bad-1, and the record's sequence starts anew");
    assert_eq!(fs::read_to_string(home.at("data/record.enr.bad-1")).unwrap(), "spoilt");
    let second = node.record.parse::<Record>().unwrap();
    assert_eq!(second.public_key(), first.public_key());
    assert!(second.seq() > first.seq());
}

#[test]
fn a_port_in_use_is_told() {
    let home = Home::new();
    let (_taken, port) = silent();
    let empty = home.at("empty");
    let listen = format!("127.0.0.1:{port}");
    let (code, said) = failure(home.path(), &["-q", "--ephemeral", "--bootnodes", &empty, "--listen", &listen]);
    let sentence = "the port is in use by another program; choose another one, or port 0 for any";
    assert_eq!((code, said), (1, format!("error: cannot listen on UDP {listen}: {sentence}\n")));
}
