//! `kadnode sim`: lookups in a simulated network.

mod eclipse;
mod output;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;

use self::output::Cost;
use super::args::whole;
use super::failure::Failure;
use super::logging::LogArgs;
use super::print;
use super::progress::Progress;
use crate::sim::theory::Ideal;
use crate::sim::{Choice, Fidelity, Fill, Latency, Report, SCENARIOS, Scenario, Setup, Target, plot};

const EXAMPLES: &str = "\
Examples:
  kadnode sim --nodes 1000 --lookups 1000
  kadnode sim --scenario half-die --nodes 500
  kadnode sim --nodes 100000 --fill warm --lookups 20000 --threads 2 --json
  kadnode sim --scenario partition --plot plots
  kadnode sim --nodes 10000 --fill warm --sybils 0.2
  kadnode sim eclipse --runs 20 --check

Options given here change the scenario; the defaults shown are those of `steady`.

The nodes are the engine that `kadnode run` runs, in virtual time; no packet leaves the process. The same options give \
the same result, on any number of threads: the event hash tells.";

/// Simulate a network, make lookups in it, and count their hops.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true, args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    attack: Option<Attack>,
    /// What happens in the network; --list says what each one is [default: steady]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(SCENARIOS.iter().map(|s| s.name)))]
    scenario: Option<String>,
    /// List the scenarios, one line each, and do nothing else
    #[arg(long)]
    list: bool,
    /// Nodes of the network, 2 to 16777216; under churn those at a time [default: 1000]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    nodes: Option<usize>,
    /// Lookups, each by a random node [default: 1000]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    lookups: Option<usize>,
    /// Seconds of simulated time between the last node that joins and the first lookup [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u64>)]
    settle: Option<u64>,
    /// Seconds of simulated time over which the lookups are spread [default: one each 5 ms]
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u64>)]
    watch: Option<u64>,
    /// What all randomness follows from [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    seed: Option<u64>,
    /// wire: every packet is encoded, signed, decoded and recovered; message: messages are handed over as they are
    /// [default: message]
    #[arg(long, value_enum)]
    fidelity: Option<FidelityArg>,
    /// join: every node joins by the protocol, through its bootnodes; warm: tables are filled from the list of all nodes
    /// [default: join]
    #[arg(long, value_enum)]
    fill: Option<FillArg>,
    /// Which nodes a full bucket holds where tables are filled from the list: one of each sixteenth of its range, a
    /// uniform sample, or the nearest. The engine's own rule is diverse; the other two switch it off [default: diverse]
    #[arg(long, value_enum)]
    choice: Option<ChoiceArg>,
    /// One-way latency in milliseconds: constant:MS, uniform:LO-HI, lognormal:MEDIAN,SIGMA, or plane, where nodes are
    /// points of a square (5 to 146 ms) [default: uniform:25-75]
    #[arg(long, value_name = "MODEL")]
    latency: Option<Latency>,
    /// Milliseconds by which a packet may be slower than its latency, evenly spread [default: 0]
    #[arg(long, value_name = "MS")]
    jitter: Option<f64>,
    /// Share of the packets that are lost, 0 to below 1 [default: 0]
    #[arg(long, value_name = "SHARE")]
    loss: Option<f64>,
    /// Share of the packets that arrive twice, 0 to below 1 [default: 0]
    #[arg(long, value_name = "SHARE")]
    duplicate: Option<f64>,
    /// Share of the packets that are held up and overtaken by others, 0 to below 1 [default: 0]
    #[arg(long, value_name = "SHARE")]
    reorder: Option<f64>,
    /// Share of the nodes that stand in the tables and no longer answer when the lookups begin, 0 to below 1 [default: 0]
    #[arg(long, value_name = "SHARE")]
    dead: Option<f64>,
    /// Share of the nodes that are Sybils, 0 to 0.9: they keep to the protocol, but name one another only [default: 0]
    #[arg(long, value_name = "SHARE")]
    sybils: Option<f64>,
    /// Concurrent requests of a lookup [default: 3]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    alpha: Option<usize>,
    /// Disjoint paths of a lookup, 1 to 8 [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    paths: Option<usize>,
    /// Entries of a bucket, and nodes that a lookup is after; 1 to 16 [default: 16]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    k: Option<usize>,
    /// What is looked up: a random point of the ID space, or the key of a random node [default: random]
    #[arg(long, value_enum)]
    target: Option<TargetArg>,
    /// Threads; the result does not depend on their number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<usize>)]
    threads: usize,
    /// Write plots into this directory, as SVG: hops (with theory drawn in), tables, course and joiners, where there is
    /// something to draw
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Attack {
    Eclipse(eclipse::Args),
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

impl Args {
    /// The scenario, with what the options change of it.
    fn setup(&self, scenario: &Scenario) -> Setup {
        let mut setup = Setup { threads: self.threads, ..scenario.setup() };
        replace(&mut setup.nodes, self.nodes);
        replace(&mut setup.lookups, self.lookups);
        replace(&mut setup.settle, self.settle.map(Duration::from_secs));
        replace(&mut setup.watch, self.watch.map(|seconds| Some(Duration::from_secs(seconds))));
        replace(&mut setup.seed, self.seed);
        let fidelity = self.fidelity.map(|fidelity| match fidelity {
            FidelityArg::Wire => Fidelity::Wire,
            FidelityArg::Message => Fidelity::Message,
        });
        replace(&mut setup.fidelity, fidelity);
        let fill = self.fill.map(|fill| match fill {
            FillArg::Join => Fill::Join,
            FillArg::Warm => Fill::Warm,
        });
        replace(&mut setup.fill, fill);
        let choice = self.choice.map(|choice| match choice {
            ChoiceArg::Diverse => Choice::Diverse,
            ChoiceArg::Uniform => Choice::Uniform,
            ChoiceArg::Closest => Choice::Closest,
        });
        replace(&mut setup.choice, choice);
        replace(&mut setup.network.latency, self.latency);
        replace(&mut setup.network.jitter, self.jitter);
        replace(&mut setup.network.loss, self.loss);
        replace(&mut setup.network.duplicate, self.duplicate);
        replace(&mut setup.network.reorder, self.reorder);
        replace(&mut setup.dead, self.dead);
        replace(&mut setup.sybils, self.sybils);
        replace(&mut setup.alpha, self.alpha);
        replace(&mut setup.paths, self.paths);
        replace(&mut setup.k, self.k);
        let target = self.target.map(|target| match target {
            TargetArg::Random => Target::Random,
            TargetArg::Node => Target::Node,
        });
        replace(&mut setup.target, target);
        setup
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the report says how long the simulation took; nothing in it depends on that"
)]
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(Attack::Eclipse(args)) = &args.attack {
        return eclipse::run(args);
    }
    if args.list {
        return print(&list());
    }
    let named = args.scenario.as_deref().and_then(Scenario::named);
    let scenario = named.unwrap_or(&SCENARIOS[0]);
    let setup = args.setup(scenario);
    setup.check().map_err(Failure::input)?;
    if args.threads == 0 {
        return Err(Failure::input("the number of threads has to be at least 1"));
    }
    if let Some(dir) = &args.plot {
        plot::check(dir).map_err(Failure::input)?;
    }
    let (begun, resident) = (Instant::now(), output::resident());
    let progress = Progress::start();
    let report = setup.run(|what, share| progress.set(what, share)).map_err(Failure::input)?;
    drop(progress);
    let cost = Cost::new(begun.elapsed(), resident);
    print(&match args.json {
        true => output::as_json(scenario, &report, &cost),
        false => output::as_text(scenario, &report, &cost),
    })?;
    args.plot.as_ref().map_or(Ok(()), |dir| write_plots(dir, &setup, &report))
}

/// Writes the plots and says on standard error where they are: standard output is the report's.
fn write_plots(dir: &Path, setup: &Setup, report: &Report) -> Result<(), Failure> {
    let Setup { nodes, k, alpha, seed, .. } = *setup;
    let theory = Ideal { nodes, k, alpha, latency: setup.network.latency, bonding: true }.hops(IDEAL_LOOKUPS, seed);
    let written = plot::write(dir, report, Some(&theory)).map_err(Failure::runtime)?;
    let lines: String = written.iter().map(|path| format!("plot: {}\n", path.display())).collect();
    // Where standard error is closed there is nobody to tell.
    let _ = std::io::stderr().write_all(lines.as_bytes());
    Ok(())
}

/// Lookups from which the curve of theory is drawn: enough for a tenth of a percent, and done in a second or two.
const IDEAL_LOOKUPS: usize = 20_000;

fn replace<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// The scenarios, one line each.
fn list() -> String {
    let width = SCENARIOS.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
    SCENARIOS.iter().map(|scenario| format!("{:<width$}  {}\n", scenario.name, scenario.about)).collect()
}
