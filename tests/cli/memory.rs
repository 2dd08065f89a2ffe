//! What the program says about its memory of other nodes, and what a kill leaves of it.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use kadnode::proto::identity::Record;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::Connection;

use super::support::{Home, Node};

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn a_node_comes_back_to_the_one_it_knew_without_bootnodes() {
    let home = Home::new();
    let a = Node::ephemeral(home.path(), Path::new(&home.at("empty")));
    let b = home.node(&["--bootnode", &a.enode, "-v"]);
    b.wait_for_log(&format!("0 nodes remembered in {}", home.at("data/nodes.db")));
    b.wait_for_log("node added");
    // It has not written yet, and does so at its end.
    assert_eq!(b.stop("-TERM").0.code(), Some(0));
    let b = home.node(&["-v"]);
    b.wait_for_log(&format!("1 node remembered in {}", home.at("data/nodes.db")));
    assert!(b.wait_for_log("node added").contains(&a.enode[..100]));
    assert_eq!(names(&home.at("data")), ["LOCK", "node.key", "nodes.db", "record.enr"]);
}

#[test]
fn a_memory_that_cannot_be_used_is_told_in_a_sentence_and_the_node_runs() {
    let home = Home::new();
    let said = |words: &str| {
        let node = home.node(&[]);
        let line = node.wait_for_log("WARN");
        assert!(line.contains(words), "{line}");
    };
    drop(home.node(&[]));
    let file = home.at("data/nodes.db");
    Connection::open(&file).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    said(&format!(
        "running without memory of other nodes: {file} was written by a newer kadnode (its version is 99, and this \
         program knows 1); it is left as it is: update kadnode, or move the file away to have a new one made"
    ));
    Connection::open(&file).unwrap().execute_batch("PRAGMA application_id = 99").unwrap();
    said(&format!(
        "running without memory of other nodes: {file} is a database of another program; it is left as it is: move it \
         away to have a new one made"
    ));
    fs::write(&file, "nonsense").unwrap();
    said(&format!("{file} is damaged (it is no SQLite database); it is kept as {file}.bad-1, and a new one is begun"));
    assert_eq!(fs::read(format!("{file}.bad-1")).unwrap(), b"nonsense");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    said(&format!("running without memory of other nodes: {file} cannot be used: is a directory"));
}

/// A disk of its own that is full, and one that is read-only: needs root, and namespaces.
#[cfg(target_os = "linux")]
#[test]
fn full_and_read_only_disks_are_told_in_a_sentence_and_the_node_runs() {
    use std::process::{Command, Stdio};

    let possible = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("no mount namespace can be made here: this is left out");
        return;
    }
    let home = Home::new();
    fs::create_dir(home.at("data")).unwrap();
    let run = |prepare: &str, said: &str| {
        let script = format!(
            "mount -t tmpfs -o size=256k none \"$0\" && timeout -s INT 1 {program} --bootnodes \"$1\" --data-dir \"$0\" \
             --listen 127.0.0.1:0 2>/dev/null >/dev/null; {prepare}; exec {program} --bootnodes \"$1\" --data-dir \"$0\" \
             --listen 127.0.0.1:0",
            program = env!("CARGO_BIN_EXE_kadnode")
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, &home.at("data"), &home.at("empty")]);
        let node = Node::spawn(command);
        let line = node.wait_for_log("WARN");
        assert!(line.contains(said), "{line}");
    };
    let file = home.at("data/nodes.db");
    run(
        "rm \"$0/nodes.db\"; head -c 1m /dev/zero >\"$0/filler\" 2>/dev/null",
        &format!(
            "running without memory of other nodes: {file} cannot be written: the disk, or the room that the file may take, is full"
        ),
    );
    run(
        "head -c 1m /dev/zero >\"$0/filler\" 2>/dev/null",
        &format!("{file} cannot be written: the disk, or the room that the file may take, is full"),
    );
    run(
        "mount --bind \"$0/nodes.db\" \"$0/nodes.db\" && mount -o remount,bind,ro \"$0/nodes.db\"",
        &format!("{file} cannot be written: the file, or its directory, is read-only"),
    );
}

/// SIGKILL at any moment of a start and of the time after it: `tests/memory` does the same to a node that writes all the
/// time.
#[test]
fn a_program_that_is_killed_again_and_again_starts_as_if_nothing_had_been() {
    let kills: usize = std::env::var("KADNODE_TEST_KILLS").map_or(20, |kills| kills.parse().expect("a number"));
    let home = Home::new();
    let a = Node::ephemeral(home.path(), Path::new(&home.at("empty")));
    let mut rng = StdRng::seed_from_u64(1);
    let mut seq = 0;
    let data = home.at("data");
    for kill in 0..kills {
        if kill % 2 == 0 {
            // Before it listens, most times.
            let args = ["--listen", "127.0.0.1:0", "--bootnode", &a.enode, "--data-dir", &data, "-qq"];
            let mut child = super::kadnode(home.path(), &args).stdout(std::process::Stdio::null()).spawn().unwrap();
            pause(&mut rng, 30);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let node = home.node(&["--bootnode", &a.enode]);
        let line = node.wait_for_log("remembered in");
        assert!(!line.contains("WARN"), "{line}");
        let record: Record = node.record.parse().unwrap();
        assert!(record.seq() >= seq, "kill {kill}: {} after {seq}", record.seq());
        seq = record.seq();
        assert_eq!(names(&data), ["LOCK", "node.key", "nodes.db", "record.enr"], "kill {kill}");
        pause(&mut rng, 50);
    }
}

#[expect(clippy::disallowed_methods, reason = "a process is left alone for some time")]
fn pause(rng: &mut StdRng, at_most_ms: u64) {
    thread::sleep(Duration::from_micros(rng.random_range(0..at_most_ms * 1000)));
}
