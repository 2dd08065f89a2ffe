//! The program under attack, and what the system tells of it.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kadnode::proto::identity::{Contact, Enode};
use kadnode::{Builder, Discovery};
use tokio::runtime::{self, Runtime};

/// Nodes that the program knows, so that there is something to answer FINDNODE with.
const NODES: u8 = 16;

pub(crate) struct Target {
    child: Child,
    pub(crate) contact: Contact,
}

/// The nodes that it knows, as long as this lives.
pub(crate) struct Nodes {
    _nodes: Vec<Discovery>,
    runtime: Option<Runtime>,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// This process, and all threads that it starts, stay on the first core, and leave the second to the program.
pub(crate) fn take_first_core() {
    let _ = Command::new("taskset").args(["-p", "1", &std::process::id().to_string()]).stdout(Stdio::null()).status();
}

impl Target {
    pub(crate) fn start() -> io::Result<Self> {
        let program = env!("CARGO_BIN_EXE_kadnode");
        let several = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) || cores() > 1;
        let mut command = if several { Command::new("taskset") } else { Command::new(program) };
        if several {
            command.args(["-c", "1", program]);
        }
        let args = ["run", "--ephemeral", "--limit-local", "--listen", "127.0.0.1:0", "--bootnodes", "/dev/null"];
        let mut child =
            command.args(args).args(["--threads", "1"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        BufReader::new(stdout).read_line(&mut line)?;
        let contact = line.trim().parse::<Enode>().ok().and_then(|enode| enode.contact());
        let contact = contact.ok_or_else(|| io::Error::other(format!("the program said {line:?}")))?;
        Ok(Self { child, contact })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.contact.endpoint.udp_addr()
    }

    /// Lets it get to know some nodes, each with an address of its own.
    pub(crate) fn acquaint(&self) -> io::Result<Nodes> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let nodes = runtime.block_on(async {
            let mut nodes = Vec::new();
            for number in 1..=NODES {
                let mut bytes = [7; 32];
                bytes[31] = number;
                let key = kadnode::proto::identity::NodeKey::from_bytes(&bytes).map_err(io::Error::other)?;
                let listen = SocketAddr::from((Ipv4Addr::new(127, 0, 8, number), 0));
                let node: Builder = Discovery::builder(key).listen(listen).bootnodes([self.contact.into()]);
                nodes.push(node.start().await.map_err(io::Error::other)?);
            }
            let patience = Instant::now() + Duration::from_secs(10);
            for node in &nodes {
                while node.stats().await.map_err(io::Error::other)?.members == 0 {
                    if Instant::now() > patience {
                        return Err(io::Error::other("the program does not answer"));
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Ok(nodes)
        })?;
        Ok(Nodes { _nodes: nodes, runtime: Some(runtime) })
    }

    /// All its CPU time.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            sum += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(sum))
    }

    /// The memory that it takes, in MB.
    pub(crate) fn resident(&self) -> io::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kilobytes.map(|kb| kb * 1024.0 / 1e6).ok_or_else(|| io::Error::other("no VmRSS in /proc"))
    }

    /// Datagrams to its socket that the kernel has dropped.
    pub(crate) fn lost(&self) -> io::Result<u64> {
        let port = format!(":{:04X}", self.addr().port());
        let table = fs::read_to_string("/proc/net/udp")?;
        let ours = table.lines().find(|line| line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&port)));
        let drops = ours.and_then(|line| line.split_whitespace().last()?.parse().ok());
        drops.ok_or_else(|| io::Error::other("the program's socket is not in /proc/net/udp"))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cores of the machine, whatever this process may use of them.
fn cores() -> usize {
    fs::read_to_string("/proc/cpuinfo").map_or(1, |text| text.matches("processor\t").count())
}
