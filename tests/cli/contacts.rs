//! Contacts that change while the node runs, and nodes that want none.

use std::fs;

use crate::support::{Home, Node, enode};

#[test]
fn a_file_of_contacts_is_read_again_when_it_changes() {
    let home = Home::new();
    let first = home.node(&[]);
    let file = home.write("nodes", "# nobody yet\n");
    let second = Node::start(home.path(), &["--ephemeral", "--bootnodes", &file]);
    second.wait_for_log("no contacts were given");
    fs::write(&file, format!("{}\n", first.enode)).unwrap();
    second.wait_for_log("nodes has been read again: 1 contact");
    second.wait_for_log("1 contact added, 0 contacts removed");
    second.wait_for_log("1 node known, 1 live");

    // What is broken changes nothing.
    fs::write(&file, format!("{}\nnonsense\n", first.enode)).unwrap();
    let line = second.wait_for_log("nonsense");
    assert!(line.contains("WARN") && line.contains(":2: "), "{line}");
    assert!(line.ends_with("; going on with what it said before (1 contact)"), "{line}");
    fs::write(&file, format!("{}\n{}\n", first.enode, enode(9, 9))).unwrap();
    second.wait_for_log("1 contact added, 0 contacts removed");
    fs::remove_file(&file).unwrap();
    let line = second.wait_for_log("cannot read the bootnodes file");
    assert!(line.ends_with("; going on with what it said before (2 contacts)"), "{line}");
}

#[test]
fn after_some_seconds_without_an_answer_the_contacts_that_there_are_by_then_are_told() {
    let home = Home::new();
    let file = home.write("nodes", &enode(8, 9));
    let node = Node::start(home.path(), &["--ephemeral", "--bootnodes", &file]);
    node.wait_for_log("1 contact in");
    fs::write(&file, format!("{}\n{}\nlan\n", enode(8, 9), enode(9, 9))).unwrap();
    let line = node.wait_for_log("heeded at the start");
    assert!(
        line.contains("WARN \"lan\" in a file of contacts is heeded at the start of the node: start it anew"),
        "{line}"
    );
    node.wait_for_log("no contacts: none of the 2 that were given has answered yet");
}

#[test]
#[cfg(unix)]
fn sighup_reads_the_files_again() {
    let home = Home::new();
    let node = home.node(&[]);
    node.signal("-HUP");
    node.wait_for_log("SIGHUP: reading the files of contacts again");
    node.wait_for_log("empty has been read again: 0 contacts");
}

#[test]
fn the_first_node_of_a_network_wants_nobody() {
    let home = Home::new();
    let node = Node::start(home.path(), &["--ephemeral", "--no-default-bootnodes"]);
    let line = node.wait_for_log("contacts");
    assert!(line.contains("no contacts were given: waiting to be contacted"), "{line}");
}

/// A process that was stopped for some seconds may have been forgotten by all. It wants to wake every five seconds, so
/// that it has missed that by five when it goes on.
#[test]
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "a process that is stopped sleeps in real time")]
fn a_node_that_slept_asks_all_its_members_anew() {
    let home = Home::new();
    let first = home.node(&[]);
    let second = Node::start(home.path(), &["--ephemeral", "--bootnode", &first.enode]);
    second.wait_for_log("1 node known, 1 live");
    second.signal("-STOP");
    std::thread::sleep(std::time::Duration::from_millis(10_500));
    second.signal("-CONT");
    let line = second.wait_for_log("this process did nothing for");
    assert!(line.contains("WARN"), "{line}");
    second.wait_for_log("asking all members of the table anew");
}
