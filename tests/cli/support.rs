//! Runs the real program. Nothing here or in the tests leaves the machine: contacts are always given, and stand on
//! loopback.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use kadnode::proto::identity::NodeKey;

/// Longer than anything should take, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, with `home` in the place of the user's directories.
pub(crate) fn kadnode(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kadnode"));
    command.args(args).env("HOME", home).env("XDG_DATA_HOME", home.join("data")).stdin(Stdio::null());
    command
}

/// Runs a command that ends by itself.
pub(crate) fn output(home: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = kadnode(home, args).output().expect("the program starts");
    (status.code(), text(stdout), text(stderr))
}

/// Runs a command that must fail, without a word on standard output, and returns its code and what it said.
pub(crate) fn failure(home: &Path, args: &[&str]) -> (i32, String) {
    let (code, stdout, stderr) = output(home, args);
    assert_eq!(stdout, "", "standard output is for results");
    (code.expect("it was not killed"), stderr)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("the program writes UTF-8")
}

/// A directory for one test, with an empty file of bootnodes in it.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a file in it, as text for a command line.
    pub(crate) fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.dir.path().join(name), content).unwrap();
        self.at(name)
    }

    /// Starts a node with the data directory `data`.
    pub(crate) fn node(&self, more: &[&str]) -> Node {
        let (empty, data) = (self.at("empty"), self.at("data"));
        let mut args = vec!["--bootnodes", &empty, "--data-dir", &data];
        args.extend(more);
        Node::start(self.path(), &args)
    }

    /// Runs a node that must not start with the data directory `data`.
    pub(crate) fn refused(&self, more: &[&str]) -> (i32, String) {
        let (empty, data) = (self.at("empty"), self.at("data"));
        let mut args = vec!["run", "-q", "--bootnodes", &empty, "--data-dir", &data, "--listen", "127.0.0.1:0"];
        args.extend(more);
        failure(self.path(), &args)
    }
}

pub(crate) fn key(number: u8) -> NodeKey {
    NodeKey::from_bytes(&[number; 32]).unwrap()
}

/// An enode URL at a port of loopback.
pub(crate) fn enode(number: u8, port: u16) -> String {
    format!("enode://{}@127.0.0.1:{port}", key(number).public_key())
}

/// A port that is taken and on which nobody answers.
pub(crate) fn silent() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// A running node; it is killed when the test is over.
pub(crate) struct Node {
    child: Option<Child>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// The two lines on standard output.
    pub(crate) enode: String,
    pub(crate) record: String,
}

impl Node {
    /// Starts a node on a free loopback port, and waits until it listens.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend(args);
        Self::spawn(kadnode(home, &all))
    }

    /// Starts a node that keeps nothing and knows the nodes in `bootnodes` alone.
    pub(crate) fn ephemeral(home: &Path, bootnodes: &Path) -> Self {
        Self::start(home, &["--ephemeral", "-v", "--bootnodes", bootnodes.to_str().expect("a temporary path is text")])
    }

    /// Starts a node by a command that says all.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stdout = lines(child.stdout.take().expect("it is piped"));
        let stderr = lines(child.stderr.take().expect("it is piped"));
        let mut node = Self { child: Some(child), stdout, stderr, enode: String::new(), record: String::new() };
        node.enode = node.line();
        node.record = node.line();
        node
    }

    fn line(&self) -> String {
        match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(_) => {
                panic!("no line on standard output; the log says {:?}", self.stderr.try_iter().collect::<Vec<_>>())
            }
        }
    }

    /// Reads the log up to a line that holds `words`, and returns that line.
    pub(crate) fn wait_for_log(&self, words: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the log never says {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The public key, 128 hex digits.
    pub(crate) fn key(&self) -> &str {
        &self.enode["enode://".len()..][..128]
    }

    /// The UDP port, as the enode URL says it.
    pub(crate) fn port(&self) -> &str {
        let (_, port) = self.enode.rsplit_once(['=', ':']).expect("an enode URL ends with a port");
        port
    }

    /// The process.
    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends a signal and lets the node go on.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        kill(self.child.as_ref().expect("it runs"), signal);
    }

    /// Sends a signal and waits for the end, for two seconds; returns what else was on standard output, and the log.
    #[cfg(unix)]
    pub(crate) fn stop(mut self, signal: &str) -> (ExitStatus, Vec<String>, Vec<String>) {
        let mut child = self.child.take().expect("it runs");
        kill(&child, signal);
        let (sender, ended) = channel();
        thread::spawn(move || sender.send(child.wait()));
        let status =
            ended.recv_timeout(Duration::from_secs(2)).expect("it ends within 2 s").expect("it can be waited for");
        (status, self.stdout.iter().collect(), self.stderr.iter().collect())
    }
}

#[cfg(unix)]
fn kill(child: &Child, signal: &str) {
    let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("there is kill");
    assert!(killed.success());
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The lines of a pipe, read by a thread, so that they can be waited for with patience.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
