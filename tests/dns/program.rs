//! The program, with a DNS server of its own.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};

use kadnode::Discovery;
use kadnode::proto::identity::NodeKey;

use crate::server::{Server, TTL, Tree};

/// Runs `kadnode`; its exit code, and what it says on both streams.
async fn kadnode(server: &Server, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kadnode"));
    command.args(args).args(["--dns-server", &server.addr.to_string()]).stdin(Stdio::null());
    // The server runs meanwhile.
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn every_kind_of_contact_serves_on_the_command_line() {
    let server = Server::start().await;
    let key = NodeKey::from_bytes(&[1; 32]).expect("a valid key");
    let hub = Discovery::builder(key.clone()).listen((Ipv4Addr::LOCALHOST, 0).into()).start().await.expect("it starts");
    let (port, id) = (hub.local_addr().port(), key.id().to_string());
    server.address("boot.example.org", Ipv4Addr::LOCALHOST, TTL).await;
    server.service("srv.example.org", 1, 1, port, "boot.example.org").await;
    let tree = Tree::sign(2, "tree.example.org", 1, &[(*hub.local_record()).clone()], &[]);
    server.publish(&tree).await;

    for contact in [format!("127.0.0.1:{port}"), format!("boot.example.org:{port}#{}", &id[..8])] {
        let (code, out, err) = kadnode(&server, &["ping", &contact]).await;
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.starts_with(&format!("answer from 127.0.0.1:{port} in ")) && out.contains(&id), "{out}");
        let (code, out, err) = kadnode(&server, &["enr", &contact]).await;
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.starts_with(&hub.local_record().to_string()), "{out}");
    }
    let target = key.public_key().to_string();
    for contact in [
        format!("127.0.0.1:{port}"),
        format!("dns:boot.example.org:{port}"),
        "dns:srv.example.org".into(),
        tree.url.to_string(),
    ] {
        let (code, out, err) = kadnode(&server, &["lookup", &target, "--bootnode", &contact]).await;
        assert_eq!((code, err.as_str()), (Some(0), ""), "{contact}");
        assert!(out.contains("1 node found"), "{contact}: {out}");
    }

    // What is wrong is a sentence.
    let (code, _, err) = kadnode(&server, &["ping", &format!("127.0.0.1:{port}#00000000")]).await;
    assert_eq!(code, Some(1));
    assert_eq!(
        err,
        format!(
            "error: the node at 127.0.0.1:{port} has another key than the contact says: ask for its current enode URL or \
             record\n"
        )
    );
    let (code, _, err) = kadnode(&server, &["ping", "nobody.example.org:1"]).await;
    let sentence = "error: the host name nobody.example.org does not resolve: there is no such name\n";
    assert_eq!((code, err.as_str()), (Some(1), sentence));
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = silent.local_addr().expect("it is bound").to_string();
    let (code, _, err) = kadnode(&server, &["ping", &address]).await;
    assert_eq!(code, Some(1));
    assert!(err.starts_with(&format!("error: no answer from {address} to 3 tries")), "{err}");
    let (code, _, err) =
        kadnode(&server, &["lookup", &target, "--bootnode", "dns:nobody.example.org", "--bootnode", "lan"]).await;
    let said: Vec<&str> = err.lines().collect();
    assert_eq!((code, said.len()), (Some(1), 3), "{err}");
    assert!(
        said[0].ends_with(
            "WARN the DNS seed nobody.example.org does not resolve (there is no such name); going on without it"
        ),
        "{err}"
    );
    assert_eq!(said[2], "error: there is nobody to ask: no bootnode was given, or none could be resolved");
}
