//! Mean hops of lookups by the size of the network, with theory beside it.
//!
//!     cargo bench --bench lookup_hops                    all rows, some minutes
//!     cargo bench --bench lookup_hops -- --quick         a tenth of the lookups
//!     cargo bench --bench lookup_hops -- nodes=1000/     the rows whose name contains this
//!
//! Tables are filled from the list of all nodes, latency is 50 ms each way. The rows come out as a table, and as
//! `lookup_hops/lookup_hops.csv` and `growth.svg` in cargo's target directory. Each network has a process of its own, so
//! that its memory can be told.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command as Process, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kadnode::proto::config::{Config, K};
use kadnode::proto::engine::{Command, CommandId, Reply};
use kadnode::proto::identity::PublicKey;
use kadnode::proto::time::Time;
use kadnode::sim::plot::{Growth, GrowthOf, write_growth};
use kadnode::sim::theory::{Ideal, IdealHops, PUBLISHED};
use kadnode::sim::{Choice, Fidelity, Latency, Network, Population, Summary, Truth, World};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Networks: how many nodes, how many lookups, and microseconds from one lookup to the next, so that the upkeep of a
/// large network does not take all the time.
const SIZES: [(usize, usize, u64); 4] =
    [(100, 20_000, 5_000), (1_000, 20_000, 2_000), (10_000, 10_000, 2_000), (100_000, 5_000, 1_000)];

const ALPHAS: [usize; 2] = [1, 3];

const LATENCY: Latency = Latency::Constant { ms: 50.0 };

const SEED: u64 = 1;

/// One network, and which lookups are made in it.
#[derive(Clone, Copy)]
struct Row {
    nodes: usize,
    lookups: usize,
    every: u64,
    alpha: usize,
    choice: Choice,
}

/// What came of it.
struct Measured {
    hops: f64,
    se: f64,
    /// Share of the lookups that found the nearest node.
    found: f64,
    /// Simulated events a second of wall time.
    events_per_second: f64,
    /// What the process grew by, for each node; 0 where the system does not tell.
    bytes_per_node: f64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(["--row", row @ ..]) = args.iter().map(String::as_str).collect::<Vec<_>>().get(..) {
        let row = Row::parse(row).expect("the parent process names it rightly");
        println!("{}", row.measure().to_text());
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` does not say --bench: all it wants to know is whether this runs.
    if !args.iter().any(|arg| arg == "--bench") {
        let row = Row { nodes: 100, lookups: 100, every: 5_000, alpha: 3, choice: Choice::Uniform };
        assert_eq!(row.measure().found, 1.0);
        return ExitCode::SUCCESS;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let filters = filters(&args);
    let mut rows = Vec::new();
    for (nodes, lookups, every) in SIZES {
        for alpha in ALPHAS {
            let lookups = if quick { lookups / 10 } else { lookups };
            let name = format!("lookup_hops/nodes={nodes}/alpha={alpha}");
            if filters.is_empty() || filters.iter().any(|filter| name.contains(*filter)) {
                rows.push(Row { nodes, lookups, every, alpha, choice: Choice::Uniform });
            }
        }
    }
    if rows.is_empty() {
        return ExitCode::SUCCESS;
    }
    match run(&rows) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments that are no options of cargo's or criterion's, nor values of those.
fn filters(args: &[String]) -> Vec<&String> {
    const WITH_VALUE: [&str; 8] = [
        "--save-baseline",
        "--baseline",
        "--measurement-time",
        "--warm-up-time",
        "--sample-size",
        "--profile-time",
        "--color",
        "--output-format",
    ];
    let mut filters = Vec::new();
    let mut before = "";
    for arg in args {
        if !arg.starts_with('-') && !WITH_VALUE.contains(&before) {
            filters.push(arg);
        }
        before = arg;
    }
    filters
}

fn run(rows: &[Row]) -> Result<(), String> {
    println!("Mean hops of lookups for random targets, k 16, latency 50 ms, tables filled from the list of all nodes");
    println!(
        "{:>7} {:>5} {:>7} {:>15} {:>8} {:>9} {:>15} {:>9} {:>9} {:>10}",
        "nodes", "alpha", "lookups", "uniform", "theory", "published", "diverse", "found", "events/s", "bytes/node"
    );
    let mut csv =
        "nodes,alpha,lookups,uniform_mean,uniform_se,theory_mean,theory_se,published_mean,diverse_mean,diverse_se,\
         uniform_found_closest,diverse_found_closest,events_per_second,bytes_per_node\n"
            .to_owned();
    let mut curves: Vec<Growth> = Vec::new();
    let mut note = |of: GrowthOf, alpha: usize, nodes: usize, hops: f64| match curves
        .iter_mut()
        .find(|curve| curve.of == of && curve.alpha == alpha)
    {
        Some(curve) => curve.points.push((nodes, hops)),
        None => curves.push(Growth { of, alpha, points: vec![(nodes, hops)] }),
    };
    for row in rows {
        let Row { nodes, lookups, alpha, .. } = *row;
        let theory = Ideal { nodes, k: K, alpha, latency: LATENCY, bonding: true }.hops(20_000, SEED);
        let uniform = row.in_own_process()?;
        let diverse = Row { choice: Choice::Diverse, ..*row }.in_own_process()?;
        let published = PUBLISHED.iter().find(|(of, _)| alpha == 3 && *of == nodes).map(|(_, hops)| *hops);
        print_row(row, &uniform, &diverse, &theory, published);
        // Writing to a string cannot fail.
        let _ = writeln!(
            csv,
            "{nodes},{alpha},{lookups},{},{},{},{},{},{},{},{},{},{:.0},{:.0}",
            uniform.hops,
            uniform.se,
            theory.mean,
            theory.se,
            published.map_or_else(String::new, |hops| hops.to_string()),
            diverse.hops,
            diverse.se,
            uniform.found,
            diverse.found,
            uniform.events_per_second,
            uniform.bytes_per_node
        );
        note(GrowthOf::Theory, alpha, nodes, theory.mean);
        note(GrowthOf::Uniform, alpha, nodes, uniform.hops);
        note(GrowthOf::Diverse, alpha, nodes, diverse.hops);
        if let Some(hops) = published {
            note(GrowthOf::Published, alpha, nodes, hops);
        }
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = target.parent().unwrap_or(target).join("lookup_hops");
    let csv_path = dir.join("lookup_hops.csv");
    std::fs::create_dir_all(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    std::fs::write(&csv_path, csv).map_err(|error| format!("cannot write {}: {error}", csv_path.display()))?;
    let plot = write_growth(&dir, &curves).map_err(|error| error.to_string())?;
    println!("\n{}\n{}", csv_path.display(), plot.display());
    Ok(())
}

fn print_row(row: &Row, uniform: &Measured, diverse: &Measured, theory: &IdealHops, published: Option<f64>) {
    let mean = |measured: &Measured| format!("{:.3} ± {:.3}", measured.hops, measured.se);
    println!(
        "{:>7} {:>5} {:>7} {:>15} {:>8.3} {:>9} {:>15} {:>8.2}% {:>9.0} {:>10.0}",
        row.nodes,
        row.alpha,
        row.lookups,
        mean(uniform),
        theory.mean,
        published.map_or_else(String::new, |hops| hops.to_string()),
        mean(diverse),
        100.0 * uniform.found.min(diverse.found),
        uniform.events_per_second,
        uniform.bytes_per_node
    );
}

impl Row {
    fn parse(words: &[&str]) -> Option<Self> {
        let [nodes, lookups, every, alpha, choice] = words else { return None };
        Some(Self {
            nodes: nodes.parse().ok()?,
            lookups: lookups.parse().ok()?,
            every: every.parse().ok()?,
            alpha: alpha.parse().ok()?,
            choice: if *choice == "diverse" { Choice::Diverse } else { Choice::Uniform },
        })
    }

    fn in_own_process(&self) -> Result<Measured, String> {
        let choice = if self.choice == Choice::Diverse { "diverse" } else { "uniform" };
        let numbers = [self.nodes as u64, self.lookups as u64, self.every, self.alpha as u64].map(|n| n.to_string());
        let mut process = Process::new(std::env::current_exe().map_err(|error| error.to_string())?);
        process.arg("--row").args(numbers).arg(choice).stderr(Stdio::inherit());
        let output = process.output().map_err(|error| format!("cannot start a process: {error}"))?;
        Measured::parse(&String::from_utf8_lossy(&output.stdout))
            .ok_or_else(|| format!("the simulation of {} nodes failed", self.nodes))
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn measure(&self) -> Measured {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
        let mut config = Config { fetch_records: false, ..Config::default() };
        config.votes.enabled = false;
        config.lookup.alpha = self.alpha;
        config.table.diverse = self.choice == Choice::Diverse;
        let before = peak_rss().unwrap_or(0);
        let population = Arc::new(Population::new(self.nodes, SEED, false, threads));
        let truth = Truth::new((0..self.nodes).map(|node| (*population.id(node), node as u32)));
        let mut world = World::new(population.clone(), config, Network::new(LATENCY), Fidelity::Message, SEED, threads);
        world.warm(self.choice);
        // Filled tables are those of a network that has run for a while.
        let start = world.now();

        let mut rng = StdRng::seed_from_u64(SEED);
        for number in 0..self.lookups {
            let mut target = [0; 64];
            rng.fill(&mut target);
            let asker = rng.random_range(0..self.nodes);
            let command = Command::Lookup { target: PublicKey(target), until_found: false, paths: None };
            world.command(asker, Time(start.0 + number as u64 * self.every), CommandId(number as u64), command);
        }
        let begun = Instant::now();
        let (mut hops, mut found, mut done) = (Vec::new(), 0usize, 0);
        // The last lookup is over long before a minute after it began.
        let end = self.lookups as u64 * self.every / 1_000_000 + 60;
        for second in 1..=end {
            world.run_until(start + Duration::from_secs(second));
            for (_, asker, _, reply) in world.take_replies() {
                done += 1;
                let Reply::Lookup(report) = reply else { continue };
                let nearest = truth.closest(&report.target.node_id(), 1, Some(asker as u32));
                let first = report.closest.first().map(|found| found.contact.key);
                found += usize::from(first == nearest.first().map(|node| *population.key(*node as usize)));
                hops.extend(report.hops().map(f64::from));
            }
            if done == self.lookups {
                break;
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(done, self.lookups, "lookups were not answered");

        let summary = Summary::of(hops);
        Measured {
            hops: summary.mean,
            se: summary.se,
            found: found as f64 / self.lookups as f64,
            events_per_second: world.traffic().events as f64 / seconds.max(1e-9),
            bytes_per_node: peak_rss().unwrap_or(0).saturating_sub(before) as f64 / self.nodes as f64,
        }
    }
}

impl Measured {
    fn to_text(&self) -> String {
        let Self { hops, se, found, events_per_second, bytes_per_node } = self;
        format!("{hops} {se} {found} {events_per_second} {bytes_per_node}")
    }

    fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [hops, se, found, events_per_second, bytes_per_node] = numbers[..] else { return None };
        Some(Self { hops, se, found, events_per_second, bytes_per_node })
    }
}

/// The largest resident size of this process in bytes, from /proc.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
