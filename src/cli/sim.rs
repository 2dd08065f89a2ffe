//! `kadnode sim`: lookups in a simulated network.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use super::failure::Failure;
use super::logging::LogArgs;
use super::print;
use super::progress::Progress;
use crate::proto::config::{ALPHA, K};
use crate::sim::theory::Ideal;
use crate::sim::{Choice, Fidelity, Fill, Latency, Report, Setup, Summary, Target, plot};

const EXAMPLES: &str = "\
Examples:
  kadnode sim --nodes 1000 --lookups 1000
  kadnode sim --nodes 100000 --fill warm --choice uniform --latency constant:50 --lookups 20000 --threads 2 --json

The nodes are the engine that `kadnode run` runs, in virtual time; no packet leaves the process. The same options give \
the same result, on any number of threads: the event hash tells.";

/// Simulate a network, make lookups in it, and count their hops.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Nodes of the network, 2 to 16777216
    #[arg(long, value_name = "N", default_value_t = 1000)]
    nodes: usize,
    /// Lookups, each by a random node
    #[arg(long, value_name = "N", default_value_t = 1000)]
    lookups: usize,
    /// What all randomness follows from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// wire: every packet is encoded, signed, decoded and recovered; message: messages are handed over as they are
    #[arg(long, value_enum, default_value_t = FidelityArg::Message)]
    fidelity: FidelityArg,
    /// join: every node joins by the protocol through four bootnodes; warm: tables are filled from the list of all nodes
    #[arg(long, value_enum, default_value_t = FillArg::Join)]
    fill: FillArg,
    /// Which nodes a full bucket holds, with --fill warm: one of each sixteenth of its range, a uniform sample, or the
    /// nearest
    #[arg(long, value_enum, default_value_t = ChoiceArg::Diverse)]
    choice: ChoiceArg,
    /// One-way latency in milliseconds: constant:MS, uniform:LO-HI, lognormal:MEDIAN,SIGMA, or plane
    #[arg(long, value_name = "MODEL", default_value = "uniform:25-75")]
    latency: Latency,
    /// Share of the packets that are lost, 0 to below 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    loss: f64,
    /// Share of the nodes that stand in the tables and no longer answer, 0 to below 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dead: f64,
    /// Concurrent requests of a lookup
    #[arg(long, value_name = "N", default_value_t = ALPHA)]
    alpha: usize,
    /// Entries of a bucket, and nodes that a lookup is after; 1 to 16
    #[arg(long, value_name = "N", default_value_t = K)]
    k: usize,
    /// What is looked up: a random point of the ID space, or the key of a random node
    #[arg(long, value_enum, default_value_t = TargetArg::Random)]
    target: TargetArg,
    /// Threads; the result does not depend on their number
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Write plots into this directory, as SVG: hops with theory drawn in, how full the buckets are, and more
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FidelityArg {
    Wire,
    Message,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FillArg {
    Join,
    Warm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ChoiceArg {
    Diverse,
    Uniform,
    Closest,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TargetArg {
    Random,
    Node,
}

/// What the simulation cost, as the system tells.
struct Cost {
    wall_seconds: f64,
    /// Largest resident size; `None` where the system does not tell.
    peak_rss_bytes: Option<u64>,
}

impl Args {
    fn setup(&self) -> Setup {
        Setup {
            nodes: self.nodes,
            lookups: self.lookups,
            seed: self.seed,
            fidelity: match self.fidelity {
                FidelityArg::Wire => Fidelity::Wire,
                FidelityArg::Message => Fidelity::Message,
            },
            fill: match self.fill {
                FillArg::Join => Fill::Join,
                FillArg::Warm => Fill::Warm,
            },
            choice: match self.choice {
                ChoiceArg::Diverse => Choice::Diverse,
                ChoiceArg::Uniform => Choice::Uniform,
                ChoiceArg::Closest => Choice::Closest,
            },
            latency: self.latency,
            loss: self.loss,
            dead: self.dead,
            alpha: self.alpha,
            k: self.k,
            target: match self.target {
                TargetArg::Random => Target::Random,
                TargetArg::Node => Target::Node,
            },
            threads: self.threads,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the report says how long the simulation took; nothing in it depends on that"
)]
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let setup = args.setup();
    setup.check().map_err(Failure::input)?;
    if args.threads == 0 {
        return Err(Failure::input("the number of threads has to be at least 1"));
    }
    if let Some(dir) = &args.plot {
        plot::check(dir).map_err(Failure::input)?;
    }
    let begun = Instant::now();
    let progress = Progress::start();
    let report = setup.run(|what, share| progress.set(what, share)).map_err(Failure::input)?;
    drop(progress);
    let cost = Cost { wall_seconds: begun.elapsed().as_secs_f64(), peak_rss_bytes: peak_rss() };
    print(&if args.json { as_json(&report, &cost) } else { as_text(&report, &cost) })?;
    args.plot.as_ref().map_or(Ok(()), |dir| write_plots(dir, &setup, &report))
}

/// Writes the plots and says on standard error where they are: standard output is the report's.
fn write_plots(dir: &Path, setup: &Setup, report: &Report) -> Result<(), Failure> {
    let Setup { nodes, k, alpha, latency, seed, .. } = *setup;
    let theory = Ideal { nodes, k, alpha, latency }.hops(IDEAL_LOOKUPS, seed);
    let written = plot::write(dir, report, Some(&theory)).map_err(Failure::runtime)?;
    let lines: String = written.iter().map(|path| format!("plot: {}\n", path.display())).collect();
    // Where standard error is closed there is nobody to tell.
    let _ = std::io::stderr().write_all(lines.as_bytes());
    Ok(())
}

/// Lookups from which the curve of theory is drawn: enough for a tenth of a percent, and done in a second or two.
const IDEAL_LOOKUPS: usize = 20_000;

fn as_text(report: &Report, cost: &Cost) -> String {
    let mut text = format!(
        "{} nodes, seed {}, {:.0} s simulated in {:.1} s\nevent hash     {:016x}\n",
        report.nodes, report.seed, report.simulated_seconds, cost.wall_seconds, report.event_hash
    );
    let mut line = |name: &str, s: &Summary, digits: usize| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name:<14} mean {:.*} (standard error {:.4}), p50 {:.0}, p90 {:.0}, p99 {:.0}, max {:.0}",
            digits, s.mean, s.se, s.p50, s.p90, s.p99, s.max
        );
    };
    line("hops", &report.hops, 3);
    line("FINDNODEs", &report.queries, 1);
    line("milliseconds", &report.took_ms, 1);
    let shares = report.hop_shares.iter().enumerate();
    let shares: Vec<String> = shares.map(|(hops, share)| format!("{hops}: {:.1} %", 100.0 * share)).collect();
    let memory = cost.peak_rss_bytes.map_or_else(String::new, |bytes| format!(", {} MB at most", bytes / 1_000_000));
    let rate = report.traffic.events as f64 / cost.wall_seconds.max(1e-9);
    let _ = writeln!(
        text,
        "hop shares     {}\n\
         found          the nearest {:.2} %, all nearest {:.2} %, of {} lookups\n\
         work           {} messages, {} events, {rate:.0} a second{memory}",
        shares.join(", "),
        100.0 * report.found_closest,
        100.0 * report.found_all,
        report.lookups,
        report.traffic.messages(),
        report.traffic.events,
    );
    text
}

fn as_json(report: &Report, cost: &Cost) -> String {
    let summary =
        |s: &Summary| json!({ "mean": s.mean, "se": s.se, "p50": s.p50, "p90": s.p90, "p99": s.p99, "max": s.max });
    let mut hops = summary(&report.hops);
    hops["distribution"] = json!(report.hop_shares);
    let object = json!({
        "nodes": report.nodes,
        "lookups": report.lookups,
        "seed": report.seed,
        "event_hash": format!("{:016x}", report.event_hash),
        "hops": hops,
        "queries": summary(&report.queries),
        "took_ms": summary(&report.took_ms),
        "found_closest": report.found_closest,
        "found_all_16": report.found_all,
        "messages": report.traffic.messages(),
        "events": report.traffic.events,
        "events_per_second": report.traffic.events as f64 / cost.wall_seconds.max(1e-9),
        "bytes_per_node": cost.peak_rss_bytes.map(|bytes| bytes / report.nodes as u64),
        "peak_rss_bytes": cost.peak_rss_bytes,
        "simulated_seconds": report.simulated_seconds,
        "wall_seconds": cost.wall_seconds,
    });
    format!("{object:#}\n")
}

/// The largest resident size of this process, from /proc.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
