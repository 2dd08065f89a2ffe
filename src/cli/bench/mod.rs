//! `kadnode bench`: a load for a node, and what the node made of it.

mod bursts;
mod cpu;
mod crowd;
mod load;
mod packets;
mod report;
mod slot;

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use tokio::task::JoinSet;

use self::cpu::Meter;
use self::crowd::{Crowd, HOLD};
use self::load::Pace;
use self::packets::{Maker, Packets};
use self::report::{Outcome, Report};
use self::slot::{Expect, Slot};
use super::args::{DnsArgs, whole, within};
use super::failure::Failure;
use super::logging::LogArgs;
use super::oneshot::Peer;
use super::progress::Progress;
use super::{oneshot, print};
use crate::bootstrap::Bootnode;
use crate::proto::config::K;
use crate::proto::identity::{AddressClass, Contact, Endpoint, NodeKey};

const EXAMPLES: &str = "\
Examples:
  kadnode bench enode://1ef7…50a3@127.0.0.1:30301
  kadnode bench enode://1ef7…50a3@127.0.0.1:30301 --mode findnode --window 1 --pid 4711 --json
  kadnode bench enode://1ef7…50a3@127.0.0.1:30301 --mode bad-hash --pid 4711
  kadnode bench enode://1ef7…50a3@127.0.0.1:30301 --rate 40000 --count 200000

Each request under way has a UDP socket and an identity of its own. All packets are sealed before the clock starts; each \
takes about 150 bytes, so that 10 million of them take 1.5 GB and some minutes. In the modes ping and new-keys the \
target's PINGs stay unanswered; findnode and enr bond first.

Packets of the modes from runt to unsolicited get no answer. They go out in bursts, from one socket that has bonded, each \
burst followed by a good PING whose PONG shows that it was worked off. What as many PINGs cost alone is measured just \
before, and subtracted.

With --rate, NEIGHBORS are taken in the order of the requests, since they name none: where some are lost, the latencies \
of findnode are estimates.

Exit code 1 when the target does not answer.";

/// Put a load on a node of one's own: answers a second, latency, loss, and CPU time for each answer.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub(super) struct Args {
    /// The target: an enode URL (its host may be a DNS name) or an enr: record. Only loopback and private addresses are
    /// accepted
    contact: Bootnode,
    #[command(flatten)]
    dns: DnsArgs,
    /// What is sent
    #[arg(long, value_enum, default_value_t = Mode::Ping)]
    mode: Mode,
    /// Requests to send, 1 to 10000000
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = within(1..=10_000_000))]
    count: u64,
    /// Requests under way at a time, or packets of a burst; 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = within(1..=1000))]
    window: u64,
    /// Milliseconds after which a request is given up, 1 to 60000
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = within(1..=60_000))]
    timeout: u64,
    /// Send so many requests a second whatever comes back, 1 to 10000000, spread over the sockets of the window
    #[arg(long, value_name = "N", value_parser = within(1..=10_000_000))]
    rate: Option<u64>,
    /// Identities that new-keys uses in turn, 1 to 1000000 [default: one for each request]
    #[arg(long, value_name = "N", value_parser = within(1..=1_000_000))]
    identities: Option<u64>,
    /// Real nodes for the target to know, 0 to 1000: they ping it, and answer it as long as the run lasts [default: 24 with
    /// findnode, else 0]
    #[arg(long, value_name = "N", value_parser = within(0..=1000))]
    nodes: Option<u64>,
    /// Seconds to wait at most until the target has named 16 of those nodes in answer to FINDNODEs for 4 s, 0 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = within(0..=3600))]
    warm_up: u64,
    /// Measure the CPU time of this process, the target's, for each answer (Linux)
    #[arg(long, value_parser = whole::<u32>)]
    pid: Option<u32>,
    /// What all identities and packets follow from
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u64>)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Send to public addresses too. Only ever do that to a host of your own
    #[arg(long)]
    i_own_this_host: bool,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// PING
    Ping,
    /// FINDNODE with random targets
    Findnode,
    /// ENRREQUEST
    Enr,
    /// PING, each from a new identity
    NewKeys,
    /// Datagrams that are too short
    Runt,
    /// PING with a wrong hash
    BadHash,
    /// PING with a signature of zeros
    ZeroSignature,
    /// PING with a signature that belongs to no key
    BadSignature,
    /// Packets of type 9, rightly signed
    WrongType,
    /// PING of an hour ago, rightly signed
    Expired,
    /// PONG that nobody asked for, rightly signed
    Unsolicited,
}

impl Mode {
    fn is_answered(self) -> bool {
        matches!(self, Self::Ping | Self::Findnode | Self::Enr | Self::NewKeys)
    }

    /// Whether it is served to those alone that have proved their endpoint.
    fn needs_bond(self) -> bool {
        matches!(self, Self::Findnode | Self::Enr)
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Tries to greet the target, and to bond with it.
const TRIES: u64 = 5;

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    args.check()?;
    let meter = args.pid.map(Meter::new).transpose()?;
    let Peer::Known(contact) = oneshot::resolve(&args.contact, &args.dns.resolver()).await? else {
        let hint = "`kadnode ping` tells the enode URL of the node at an address";
        return Err(Failure::input(format!("{} does not name the key of the node: {hint}", args.contact)));
    };
    allow(contact.endpoint.ip, args.i_own_this_host)?;
    let mut bench = Bench::start(args, contact, meter).await?;
    let report = if bench.args.mode.is_answered() { bench.answered().await? } else { bench.dropped().await? };
    if report.answers() == 0 {
        return Err(silence(contact, "after the first PING"));
    }
    print(&if bench.args.json { report.as_json() } else { report.as_text() })
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        if self.rate.is_some() && !self.mode.is_answered() {
            return Err(Failure::input(format!(
                "--rate is for the modes that are answered; {} goes out in bursts",
                self.mode.name()
            )));
        }
        if self.identities.is_some() && self.mode != Mode::NewKeys {
            return Err(Failure::input("--identities is for the mode new-keys; in the others each socket has its own"));
        }
        Ok(())
    }

    fn nodes(&self) -> usize {
        self.nodes.unwrap_or(if self.mode == Mode::Findnode { DEFAULT_NODES } else { 0 }) as usize
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }
}

/// Nodes for findnode: half of them share the farthest bucket, and all have a place, so that 16 can be named.
const DEFAULT_NODES: u64 = 24;

/// Refuses to send to a host that may be somebody else's.
fn allow(ip: IpAddr, own: bool) -> Result<(), Failure> {
    match AddressClass::of(ip) {
        AddressClass::Loopback | AddressClass::Lan => Ok(()),
        AddressClass::Special => Err(Failure::input(format!("no node can be reached at {ip}"))),
        AddressClass::Global if own => Ok(()),
        AddressClass::Global => Err(Failure::input(format!(
            "{ip} is a public address, and a load on somebody else's node is an attack: if the host is yours, say so \
             with --i-own-this-host"
        ))),
    }
}

fn silence(contact: Contact, when: &str) -> Failure {
    Failure::runtime(format!(
        "nothing from {} {when}: check that the address and the UDP port are right, that the node runs, and that no \
         firewall drops UDP",
        contact.endpoint
    ))
}

/// A slot with the requests that it is to make.
type Loaded = (Slot, Packets);

/// A run under way.
struct Bench {
    args: Args,
    contact: Contact,
    meter: Option<Meter>,
    maker: Maker,
    /// Greets the target, bonds where need be, and looks whom it names.
    scout: Slot,
    /// The expiration of PONGs.
    expiration: u64,
}

impl Bench {
    /// Sees whether the target is there, and is who the contact says.
    async fn start(args: Args, contact: Contact, meter: Option<Meter>) -> Result<Self, Failure> {
        let unix = unix_secs();
        // Another mode speaks with other identities, of which the target has no memory.
        let mut maker = Maker::new(args.seed.wrapping_mul(64).wrapping_add(args.mode as u64), unix);
        let target = contact.endpoint.udp_addr();
        let mut scout = Slot::open(target, maker.key()).await?;
        let expiration = unix + 3600;
        if !matches!(args.mode, Mode::Ping | Mode::NewKeys) || args.nodes() > 0 {
            scout.answer_pings(expiration);
        }
        let mut bench = Self { args, contact, meter, maker, scout, expiration };
        bench.greet().await?;
        Ok(bench)
    }

    async fn greet(&mut self) -> Result<(), Failure> {
        for number in 0..TRIES {
            let ping = self.maker.packet(Mode::Ping, &self.scout.key, self.scout.me, self.contact.endpoint, number);
            match self.scout.greet(ping, self.args.timeout()).await? {
                Some(found) if found.key == self.contact.key => return Ok(()),
                Some(_) => {
                    return Err(Failure::runtime(format!(
                        "the node at {} has another key than the contact says: ask for its current enode URL or record",
                        self.contact.endpoint
                    )));
                }
                None => {}
            }
        }
        Err(silence(self.contact, &format!("in answer to {TRIES} PINGs")))
    }

    /// A load that is answered.
    async fn answered(&mut self) -> Result<Report, Failure> {
        let (mode, nodes) = (self.args.mode, self.args.nodes());
        let timeout = self.args.timeout();
        let mut slots = self.sealed_slots().await?;
        let crowd = Crowd::start(nodes, self.contact, &mut self.maker).await?;
        if nodes > 0 {
            self.gather(&crowd).await?;
        }
        let mut expect = Expect::Echo;
        if mode.needs_bond() {
            slots = self.bond(slots).await?;
        }
        if mode == Mode::Findnode {
            if nodes == 0 {
                self.bond_scout().await?;
            }
            let wait = [Duration::ZERO, SETTLE];
            let (packets, _) = crowd.warm_up(&mut self.scout, &mut self.maker, timeout, wait).await?;
            if packets == 0 {
                return Err(unserved(self.contact, mode));
            }
            expect = Expect::Neighbors(packets);
        }
        let window = slots.len();
        let pace = self.args.rate.map_or(Pace::Answers, |rate| Pace::Rate(rate as f64));
        let own = Meter::new(std::process::id()).ok();
        let before = self.cpu(own.as_ref()).await?;
        let tally = self.beside(load::run(slots, expect, pace, timeout)).await?;
        let after = self.cpu(own.as_ref()).await?;
        // A thread that has ended takes its time with it.
        let spent = |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?));
        let (target, own) = (spent(before.0, after.0), spent(before.1, after.1));
        Ok(self.report(window, Outcome::Answered { tally, expect, target, own }))
    }

    /// A load that is dropped.
    async fn dropped(&mut self) -> Result<Report, Failure> {
        let (mode, count, window) = (self.args.mode, self.args.count, self.args.window.min(self.args.count));
        let (key, from, to) = (self.scout.key.clone(), self.scout.me, self.contact.endpoint);
        let bursts = count.div_ceil(window);
        let mut packets = Packets::default();
        seal(count, |number| packets.push(self.maker.packet(mode, &key, from, to, number)));
        let mut pings = [Packets::default(), Packets::default()];
        for number in 0..2 * bursts {
            let ping = self.maker.packet(Mode::Ping, &key, from, to, TRIES * 2 + number);
            pings[usize::from(number >= bursts)].push(ping);
        }
        let crowd = Crowd::start(self.args.nodes(), self.contact, &mut self.maker).await?;
        if self.args.nodes() > 0 {
            self.gather(&crowd).await?;
        } else {
            let ping = self.maker.packet(Mode::Ping, &key, from, to, TRIES);
            self.scout.prove(ping, self.args.timeout()).await?;
        }
        let (timeout, [alone, markers]) = (self.args.timeout(), &pings);
        let meter = self.meter.clone();
        let scout = &mut self.scout;
        let dropped = bursts::run(scout, &packets, [alone, markers], window as usize, timeout, meter.as_ref()).await?;
        Ok(self.report(window as usize, Outcome::Dropped(dropped)))
    }

    /// Slots with their share of the requests.
    async fn sealed_slots(&mut self) -> Result<Vec<Loaded>, Failure> {
        let Args { mode, count, .. } = self.args;
        let window = self.args.window.min(count);
        let to = self.contact.endpoint;
        let mut slots = Vec::new();
        for _ in 0..window {
            slots.push((Slot::open(to.udp_addr(), self.maker.key()).await?, Packets::default()));
        }
        let identities: Vec<NodeKey> = (0..self.args.identities.unwrap_or(0)).map(|_| self.maker.key()).collect();
        seal(count, |number| {
            let (slot, requests) = &mut slots[(number % window) as usize];
            let fresh = (mode == Mode::NewKeys && identities.is_empty()).then(|| self.maker.key());
            let turn = number.checked_rem(identities.len() as u64).and_then(|turn| identities.get(turn as usize));
            let key = fresh.as_ref().or(turn).unwrap_or(&slot.key);
            requests.push(self.maker.packet(mode, key, slot.me, to, number / window));
        });
        Ok(slots)
    }

    /// Has the target get to know the crowd.
    async fn gather(&mut self, crowd: &Crowd) -> Result<(), Failure> {
        let begun = now();
        self.bond_scout().await?;
        let (timeout, wait) = (self.args.timeout(), [HOLD, Duration::from_secs(self.args.warm_up)]);
        let (_, named) = crowd.warm_up(&mut self.scout, &mut self.maker, timeout, wait).await?;
        let took = (now() - begun).as_secs_f64();
        tell(&format!("warm-up: after {took:.1} s a FINDNODE is answered with {named} of {K} nodes\n"));
        Ok(())
    }

    async fn bond_scout(&mut self) -> Result<(), Failure> {
        let (key, me) = (self.scout.key.clone(), self.scout.me);
        let [pings, trials] = self.bonding(&key, me, Mode::Findnode);
        match self.scout.bond(&pings, &trials, Expect::Neighbors(1), self.args.timeout()).await? {
            true => Ok(()),
            false => Err(unserved(self.contact, Mode::Findnode)),
        }
    }

    /// Bonds each slot, all at once; those with which the target does not bond are left out, with a word about it.
    async fn bond(&mut self, slots: Vec<Loaded>) -> Result<Vec<Loaded>, Failure> {
        let (mode, timeout, all) = (self.args.mode, self.args.timeout(), slots.len());
        let expect = if mode == Mode::Findnode { Expect::Neighbors(1) } else { Expect::Echo };
        let mut tasks = JoinSet::new();
        for (mut slot, requests) in slots {
            slot.answer_pings(self.expiration);
            let [pings, trials] = self.bonding(&slot.key, slot.me, mode);
            tasks.spawn(async move {
                let bonded = slot.bond(&pings, &trials, expect, timeout).await?;
                Ok::<_, Failure>(bonded.then_some((slot, requests)))
            });
        }
        let mut bonded = Vec::with_capacity(all);
        while let Some(ended) = tasks.join_next().await {
            bonded.extend(ended.map_err(|error| Failure::runtime(format!("bonding has failed: {error}")))??);
        }
        if bonded.is_empty() {
            return Err(unserved(self.contact, mode));
        }
        if bonded.len() < all {
            tell(&format!("only {} of {all} identities have bonded; the others send nothing\n", bonded.len()));
        }
        Ok(bonded)
    }

    /// PINGs and requests by which to bond, one of each for a try.
    fn bonding(&mut self, key: &NodeKey, from: Endpoint, mode: Mode) -> [Packets; 2] {
        let to = self.contact.endpoint;
        // The numbers of a load begin at 0 and are not as many as these are large.
        [Mode::Ping, mode].map(|mode| {
            let mut packets = Packets::default();
            (0..TRIES).for_each(|number| packets.push(self.maker.packet(mode, key, from, to, MANY + number)));
            packets
        })
    }

    /// Does something while the scout answers PINGs, if it is to.
    async fn beside<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let far = now() + Duration::from_hours(24);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                heard = self.scout.listen(far) => heard?,
            }
        }
    }

    /// CPU time of the target and of this process.
    async fn cpu(&self, own: Option<&Meter>) -> Result<(Option<u64>, Option<u64>), Failure> {
        let target = bursts::read(self.meter.as_ref()).await?;
        Ok((target, own.map(Meter::read).transpose()?))
    }

    fn report(&self, window: usize, outcome: Outcome) -> Report {
        let Args { mode, count, rate, seed, .. } = self.args;
        Report { mode: mode.name(), target: self.contact, count, window, rate, seed, outcome }
    }
}

/// How long the answers to FINDNODE get, after all have bonded, to become alike or to hold 16 nodes again.
const SETTLE: Duration = Duration::from_secs(5);

/// Above the number of any request.
const MANY: u64 = 10_000_000;

fn unserved(contact: Contact, mode: Mode) -> Failure {
    let what = if mode == Mode::Enr { "ENRREQUEST" } else { "FINDNODE" };
    Failure::runtime(format!("the node at {} answers PING but no {what}", contact.endpoint))
}

/// Makes `count` packets, with a bar on a terminal when that takes long.
fn seal(count: u64, mut make: impl FnMut(u64)) {
    let progress = Progress::start();
    for number in 0..count {
        make(number);
        if number % 1024 == 0 {
            progress.set("sealing", number as f64 / count as f64);
        }
    }
}

/// Says something beside the result.
fn tell(text: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[expect(clippy::disallowed_methods, reason = "a load generator measures time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "packets carry the Unix time at which they expire")]
fn unix_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
