//! `kadnode run`: a node, until it is told to stop.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use etcetera::BaseStrategy;
use tracing::{debug, error, info, warn};

use super::args::{BootnodeArgs, parse_advertise, parse_listen, within};
use super::contacts::{self, Changes, Given};
use super::failure::Failure;
use super::logging::{LogArgs, LogFormat};
use super::{plural, print};
use crate::bootstrap::Bootnode;
use crate::proto::config::{Config, Rate};
use crate::proto::engine::{Counters, Dropped, Event, Origin, Removal};
use crate::proto::identity::{Contact, NodeKey};
use crate::store::{DataDir, fresh_key, fresh_seq};
use crate::{Advertise, Builder, Discovery};

/// After this time without any answer it is said.
const SILENCE: Duration = Duration::from_secs(5);

/// How often the status is said.
const STATUS: Duration = Duration::from_secs(60);

/// How long the end may take: SIGTERM is obeyed within 2 s.
const SHUTDOWN: Duration = Duration::from_millis(1500);

/// Run a node: join the network, answer others, until SIGINT (Ctrl-C) or SIGTERM.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    bootnodes: BootnodeArgs,
    #[command(flatten)]
    join: JoinArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Contacts")]
struct JoinArgs {
    /// Find other nodes in the LAN by mDNS, and let them find this one; with no other contact given, those alone and not
    /// the built-in ones
    #[arg(long)]
    lan: bool,
    /// Contact nobody where no contact is given, not even the built-in bootnodes: for the first node of a network
    #[arg(long)]
    no_default_bootnodes: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Node")]
struct NodeArgs {
    /// The UDP address to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:30303", value_parser = parse_listen)]
    listen: SocketAddr,
    /// The address that the node's record tells others, whatever they say they see; the ports default to the UDP port of
    /// --listen and to no TCP port. An IPv6 address with ports stands in brackets [default: what others agree on]
    #[arg(long, value_name = "IP[:UDP[:TCP]]", value_parser = parse_advertise)]
    advertise: Option<Advertise>,
    /// The directory that keeps the node's private key, its last record, and the nodes that have answered; it is made when
    /// it is not there
    /// [default: kadnode in the platform's data directory, on Linux ~/.local/share/kadnode]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How many threads open and seal packets; all but one are started when there is much to do [default: one a core]
    #[arg(long, value_name = "N", value_parser = within(1..=64))]
    threads: Option<u64>,
    /// Keep nothing: use a fresh key and no data directory
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// How many packets a second are taken from all strangers together, at most; those who have proved their address have
    /// a share of their own
    #[arg(long, value_name = "N", default_value = "50000", value_parser = within(1..=1_000_000))]
    limit_strangers: u64,
    /// Hold this host and private networks to the limits for single addresses and networks as well
    #[arg(long)]
    limit_local: bool,
}

impl LimitArgs {
    fn config(&self) -> Config {
        let mut config = Config::default();
        let rate = self.limit_strangers as u32;
        // A fifth of a second's worth at once, as by default.
        config.limits.strangers = Rate::per_second(rate, rate.div_ceil(5));
        config.limits.local = self.limit_local;
        config
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let NodeArgs { listen, advertise, data_dir, threads, ephemeral } = args.node;
    if let Some(advertise) = advertise {
        check_family(listen, &advertise)?;
    }
    let JoinArgs { lan, no_default_bootnodes } = args.join;
    // A network of one's own must not join the public one.
    let own = args.bootnodes.is_absent() && (lan || no_default_bootnodes);
    let given = if own { Given::default() } else { contacts::load(&args.bootnodes)? };
    let lan = lan || given.all().contains(&Bootnode::Lan);
    let mut builder = if ephemeral {
        Discovery::builder(fresh_key().map_err(Failure::runtime)?).record_seq(fresh_seq())
    } else {
        builder_with_memory(data_dir)?
    };
    builder = builder.config(args.limits.config()).lan(lan);
    if let Some(server) = args.bootnodes.dns.dns_server {
        builder = builder.dns_server(server);
    }
    builder = builder.listen(listen).threads(threads.map_or_else(cores, |threads| threads as usize));
    if let Some(advertise) = advertise {
        builder = builder.advertise(advertise);
    }
    // Up to here a signal ends the process at once; from here on it is kept for the loop below.
    let mut signals = Signals::new()?;
    let discovery = builder.start().await.map_err(Failure::runtime)?;
    // Nobody is contacted before these are listened to, so that the log misses no event.
    let mut events = discovery.events();
    print(&format!("{}\n{}\n", discovery.local_enode(), discovery.local_record()))?;
    info!("kadnode {} listens on UDP {}", env!("CARGO_PKG_VERSION"), discovery.local_addr());
    let bootnodes: Vec<Bootnode> = given.all().into_iter().filter(|contact| *contact != Bootnode::Lan).collect();
    let mut count = bootnodes.len();
    for bootnode in bootnodes {
        discovery.add_bootnode(bootnode).await.map_err(Failure::runtime)?;
    }
    if count == 0 && !lan {
        info!("no contacts were given: waiting to be contacted");
    }

    let json = args.log.log_format == LogFormat::Json;
    let mut any = false;
    let mut minute = tokio::time::interval(STATUS);
    // The first tick comes at once.
    minute.tick().await;
    let silence = tokio::time::sleep(SILENCE);
    tokio::pin!(silence);
    let mut said = false;
    // Asked for twice, the files are read once.
    let (reread, asked) = std::sync::mpsc::sync_channel(1);
    let (changed, mut changes) = tokio::sync::mpsc::channel(1);
    if given.has_files() {
        std::thread::spawn(move || contacts::watch(given, &asked, &changed));
    }
    loop {
        tokio::select! {
            signal = signals.wait() => {
                let Some(end) = signal else {
                    info!("SIGHUP: reading the files of contacts again");
                    let _ = reread.try_send(());
                    continue;
                };
                info!("{end}: ending");
                break;
            }
            Some(changes) = changes.recv() => {
                count = changes.count;
                take_over(changes, &discovery).await?;
            }
            event = events.next() => match event {
                Some(Ok(Event::Contacts { any: now })) => {
                    any = now;
                    status(&discovery, json).await?;
                    if !any {
                        warn!("no contacts: none answers any more; kadnode tries the given and the former ones again");
                    }
                }
                Some(Ok(event)) => log_event(&event),
                Some(Err(missed)) => {
                    debug!("{missed}");
                    any = discovery.stats().await.map_err(Failure::runtime)?.members > 0;
                }
                None => return Err(Failure::runtime("the node has stopped by itself, which is a bug")),
            },
            () = &mut silence, if !said => {
                said = true;
                if !any {
                    warn_of_silence(count, lan);
                }
            }
            _ = minute.tick() => {
                status(&discovery, json).await?;
                if !any {
                    warn_of_silence(count, lan);
                }
            }
        }
    }
    if tokio::time::timeout(SHUTDOWN, discovery.shutdown()).await.is_err() {
        warn!("the node did not end in time; leaving it");
    }
    Ok(())
}

/// The cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// A node with the key and the last record of the data directory.
fn builder_with_memory(data_dir: Option<PathBuf>) -> Result<Builder, Failure> {
    let path = match data_dir {
        Some(path) => path,
        None => etcetera::base_strategy::choose_native_strategy()
            .map_err(|_| Failure::input("there is no home directory to keep data in: add --data-dir or --ephemeral"))?
            .data_dir()
            .join("kadnode"),
    };
    let dir = DataDir::open(&path).map_err(Failure::runtime)?;
    let stored = dir.node_key().map_err(Failure::runtime)?;
    if let Some(warning) = stored.warning {
        warn!("{warning}");
    }
    if stored.created {
        info!("made a new key in {}", path.display());
    } else {
        info!("using the key in {}", path.display());
    }
    let last = dir.last_record(stored.key.public_key());
    if let Some(warning) = last.warning {
        warn!("{warning}");
    }
    #[cfg(feature = "store")]
    let memory = open_memory(&dir);
    let builder = remember(stored.key, dir).record_seq(fresh_seq()).last_record(last.record);
    #[cfg(feature = "store")]
    let builder = match memory {
        Some(db) => builder.memory(db, crate::MemoryConfig::default()),
        None => builder,
    };
    Ok(builder)
}

/// The nodes of former runs. Without them a node can live.
#[cfg(feature = "store")]
fn open_memory(dir: &DataDir) -> Option<crate::store::NodeDb> {
    use crate::store::{NodeDb, NodeDbLimits, OpenedNodeDb};
    match NodeDb::open(dir, NodeDbLimits::default()) {
        Ok(OpenedNodeDb { db, warning }) => {
            if let Some(warning) = warning {
                warn!("{warning}");
            }
            info!("{} {} remembered in {}", db.len(), plural(db.len(), "node", "nodes"), db.path().display());
            Some(db)
        }
        Err(error) => {
            warn!("running without memory of other nodes: {error}");
            None
        }
    }
}

/// Saves each new record. The directory stays locked as long as the node lives.
fn remember(key: NodeKey, dir: DataDir) -> Builder {
    Discovery::builder(key).on_record(move |record| {
        if let Err(error) = dir.save_record(record) {
            error!("cannot save the node's record in {}: {error}", dir.path().display());
        }
    })
}

fn check_family(listen: SocketAddr, advertise: &Advertise) -> Result<(), Failure> {
    let (at, ip) = (listen.ip().to_canonical(), advertise.ip.to_canonical());
    // A socket on [::] hears both.
    let hears_both = listen.ip().is_ipv6() && listen.ip().is_unspecified();
    if at.is_ipv4() == ip.is_ipv4() || hears_both {
        return Ok(());
    }
    Err(Failure::input(format!("--advertise {ip} and --listen {listen} are of different address families")))
}

/// One line: what the node knows and what it did.
async fn status(discovery: &Discovery, json: bool) -> Result<(), Failure> {
    let stats = discovery.stats().await.map_err(Failure::runtime)?;
    let (known, live, bonded) = (stats.members, stats.live, stats.bonded);
    let (packets_in, packets_out, lookups) = (stats.packets_in, stats.packets_out, stats.lookups);
    let dropped = said_of_drops(&stats.counters);
    if json {
        info!(known, live, bonded, packets_in, packets_out, lookups, dropped, "status");
    } else {
        info!(
            "status: {known} {} known, {live} live, {bonded} bonded; {packets_in} {} in, {packets_out} out; {lookups} {}{}",
            plural(known as u64, "node", "nodes"),
            plural(packets_in, "packet", "packets"),
            plural(lookups, "lookup", "lookups"),
            if dropped.is_empty() { String::new() } else { format!("; dropped: {dropped}") },
        );
    }
    Ok(())
}

/// How many packets were dropped for which reason, most first.
fn said_of_drops(counters: &Counters) -> String {
    let mut drops: Vec<(u64, &str)> =
        Dropped::ALL.iter().map(|reason| (counters.dropped(*reason), reason.name())).filter(|(n, _)| *n > 0).collect();
    drops.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    drops.iter().map(|(n, name)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}

fn warn_of_silence(given: usize, lan: bool) {
    match given {
        0 if lan => info!("no contacts: no other node has been found in the LAN yet; kadnode keeps looking"),
        // That may be just what is wanted of the first node of a network.
        0 => info!("no contacts: none were given, and nobody has contacted this node yet"),
        1 => warn!("no contacts: the one that was given has not answered yet; kadnode keeps trying"),
        _ => warn!("no contacts: none of the {given} that were given has answered yet; kadnode keeps trying"),
    }
}

fn log_event(event: &Event) {
    match event {
        Event::NodeAdded(contact) => debug!(id = %contact.id(), enode = %contact, "node added"),
        Event::NodeRemoved(contact, removal) => {
            let reason = match removal {
                Removal::Dead => "dead",
                Removal::Displaced => "displaced",
                Removal::Moved => "moved",
                Removal::Unhelpful => "unhelpful",
            };
            debug!(id = %contact.id(), enode = %contact, reason, "node removed");
        }
        Event::RecordUpdated(record) => debug!(id = %record.node_id(), seq = record.seq(), "record updated"),
        Event::LookupFinished { origin, target, found, queries, took } => {
            let why = match origin {
                Origin::Command(_) => "command",
                Origin::Itself => "self",
                Origin::Refresh => "refresh",
            };
            let took_ms = took.as_micros() as f64 / 1000.0;
            debug!(why, target = %target, found, queries, took_ms, "lookup finished");
        }
        Event::LocalRecord(record) => {
            let endpoint =
                record.contact().map_or_else(|| "no address".to_owned(), |c: Contact| c.endpoint.to_string());
            info!("this node's record has changed (sequence number {}, {endpoint}): {record}", record.seq());
        }
        Event::OtherNode { addr, id } => {
            warn!("the node at {addr} is not the one that was given: its ID is {id}; kadnode keeps trying");
        }
        Event::Alarm(alarm) => warn!("{alarm}"),
        Event::Contacts { .. } => {}
    }
}

/// Takes over what has changed in the files of contacts.
async fn take_over(changes: Changes, discovery: &Discovery) -> Result<(), Failure> {
    let Changes { added, removed, .. } = changes;
    info!("{} added, {} removed", contacts::count(added.len()), contacts::count(removed.len()));
    for contact in &removed {
        discovery.remove_bootnode(contact).await.map_err(Failure::runtime)?;
    }
    for contact in added {
        if contact == Bootnode::Lan {
            warn!("\"lan\" in a file of contacts is heeded at the start of the node: start it anew");
            continue;
        }
        discovery.add_bootnode(contact).await.map_err(Failure::runtime)?;
    }
    Ok(())
}

/// SIGINT, SIGTERM and SIGHUP, or what the platform has for them.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| Failure::runtime(format!("cannot hear signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// The name of a signal to end; `None` for SIGHUP.
    #[cfg(unix)]
    async fn wait(&mut self) -> Option<&'static str> {
        tokio::select! {
            _ = self.interrupt.recv() => Some("SIGINT"),
            _ = self.terminate.recv() => Some("SIGTERM"),
            _ = self.hang_up.recv() => None,
        }
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self, Failure> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn wait(&mut self) -> Option<&'static str> {
        if tokio::signal::ctrl_c().await.is_err() {
            // It cannot be heard; the node runs until it is killed.
            std::future::pending::<()>().await;
        }
        Some("Ctrl-C")
    }
}
