//! What cannot be used is one clear sentence, and nothing is lost or overwritten.

use std::fs;

use kadnode::proto::identity::{NodeKey, Record, RecordContent};

use crate::support::{Home, Node, enode, failure, kadnode, key, silent};

#[test]
fn wrong_usage_is_one_sentence() {
    let home = Home::new();
    let id = key(1).id().to_string();
    for (args, sentence) in [
        (&["--bootnod", "x"][..], "unexpected argument '--bootnod' found; a similar argument exists: '--bootnode'"),
        (&["dance"], "unrecognized subcommand 'dance'"),
        (&["ping"], "the following required arguments were not provided: <CONTACT>"),
        (
            &["ping", "x"],
            "invalid value 'x' for '<CONTACT>': x is followed by no port: write x:30303, or whatever UDP port its node \
            listens on",
        ),
        (
            &["ping", "a b"],
            "invalid value 'a b' for '<CONTACT>': \"a b\" is no contact: give an enode URL, an enr: record, HOST:PORT, \
            dns:NAME, enrtree://KEY@DOMAIN or lan",
        ),
        (
            &["--dns-server", "dns.example.org"],
            "invalid value 'dns.example.org' for '--dns-server <IP[:PORT]>': give IP[:PORT] of a DNS server, such as \
            9.9.9.9, 127.0.0.1:5353 or [2a00::7]:53",
        ),
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
    let many = "dns:seed.example.org stands for many nodes, and this command asks one: give its enode URL, its enr: \
                record or HOST:PORT";
    for command in ["ping", "enr"] {
        assert_eq!(failure(home.path(), &[command, "dns:seed.example.org"]), (2, format!("error: {many}\n")));
    }
    let keyless = "error: invalid value '127.0.0.1:5' for '<KEY|CONTACT>': 127.0.0.1:5 names no key to look for: give a \
                   public key, an enode URL or an enr: record (`kadnode ping` tells the key of the node at an address) \
                   (see --help)\n";
    for command in ["lookup", "resolve"] {
        assert_eq!(failure(home.path(), &[command, "127.0.0.1:5"]), (2, keyless.to_owned()));
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
    assert_eq!(lines[1], format!("error: {bad}:5: the signature of the record is wrong"));
    let note = "3 contacts are valid, on lines 2, 4 and 6; to go on with them alone, add --skip-bad-bootnodes";
    assert_eq!(lines[2], format!("note: {bad}: {note}"));

    let skip = ["--ephemeral", "--bootnodes", &bad, "--skip-bad-bootnodes"];
    let node = Node::start(home.path(), &skip);
    node.wait_for_log(&format!("WARN {bad}:3: skipped, since it is no contact: there is no @"));
    node.wait_for_log(&format!("WARN {bad}:5: skipped, since it is no contact: the signature of the record is wrong"));
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
