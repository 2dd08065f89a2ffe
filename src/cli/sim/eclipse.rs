//! `kadnode sim eclipse`: a few addresses with many keys against one node.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::output::percent;
use super::replace;
use crate::cli::args::whole;
use crate::cli::failure::Failure;
use crate::cli::progress::Progress;
use crate::cli::{plural, print};
use crate::sim::attack::{After, Eclipse, EclipseReport, Limits};

const EXAMPLES: &str = "\
Examples:
  kadnode sim eclipse
  kadnode sim eclipse --limits off
  kadnode sim eclipse --runs 1000 --threads 2 --check

The attack of Marcus, Heilman and Goldberg 2018 (ePrint 2018/236): identities whose IDs were made for the victim's 17 \
farthest buckets, 16 for each, all at two addresses, ping it for a day; then it restarts while they go on. The victim is \
the engine that `kadnode run` runs, in virtual time; no packet leaves the process.";

/// Attack one simulated node with many identities at a few addresses
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How often to do it, each time with another seed [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    runs: Option<usize>,
    /// Whether the victim limits the nodes of one network that it takes in; off: it takes in whoever comes first
    #[arg(long, value_enum, default_value_t = LimitsArg::On)]
    limits: LimitsArg,
    /// Fail, with exit code 1, unless every run ends as it ought to. Limits on: the attackers hold no more of the table than
    /// the limits allow, and no lookup for a random target finds attackers alone. Limits off: they hold most of the table
    #[arg(long)]
    check: bool,
    /// Honest nodes, 16 to 1000000 [default: 10000]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    nodes: Option<usize>,
    /// Addresses that the attackers share, each in a /24 of its own, 1 to 256 [default: 2]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    addresses: Option<usize>,
    /// Identities for each of the 17 buckets, 1 to 256 [default: 16]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    per_bucket: Option<usize>,
    /// Seconds of simulated time for which they ping the victim before it restarts [default: 86400]
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u64>)]
    lasts: Option<u64>,
    /// Seconds between two pings of an identity [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u64>)]
    every: Option<u64>,
    /// Lookups for random targets at each of the three moments after a restart [default: 20]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    lookups: Option<usize>,
    /// What all randomness follows from; the runs have this seed and those after it [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    seed: Option<u64>,
    /// Runs under way at a time; the result does not depend on their number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<usize>)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LimitsArg {
    On,
    Off,
}

impl Args {
    fn eclipse(&self) -> Eclipse {
        let limits = match self.limits {
            LimitsArg::On => Limits::On,
            LimitsArg::Off => Limits::Off,
        };
        let mut eclipse = Eclipse { limits, threads: self.threads, ..Eclipse::default() };
        replace(&mut eclipse.runs, self.runs);
        replace(&mut eclipse.honest, self.nodes);
        replace(&mut eclipse.addresses, self.addresses);
        replace(&mut eclipse.per_bucket, self.per_bucket);
        replace(&mut eclipse.lasts, self.lasts.map(Duration::from_secs));
        replace(&mut eclipse.every, self.every.map(Duration::from_secs));
        replace(&mut eclipse.lookups, self.lookups);
        replace(&mut eclipse.seed, self.seed);
        eclipse
    }
}

#[expect(clippy::disallowed_methods, reason = "the report says how long it took; nothing in it depends on that")]
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let eclipse = args.eclipse();
    eclipse.check().map_err(Failure::input)?;
    let begun = Instant::now();
    let progress = Progress::start();
    let report = eclipse.run(|what, share| progress.set(what, share)).map_err(Failure::input)?;
    drop(progress);
    print(&match args.json {
        true => as_json(&eclipse, &report, begun.elapsed()),
        false => as_text(&eclipse, &report, begun.elapsed()),
    })?;
    if args.check { check(&report) } else { Ok(()) }
}

/// Fails unless all runs ended as they ought to.
fn check(report: &EclipseReport) -> Result<(), Failure> {
    let failed: Vec<String> = report.failed().iter().map(|run| run.seed.to_string()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let why = match report.allowed {
        Some(allowed) => format!("attackers held more than {allowed} places, or a lookup found nobody else"),
        None => "the attackers did not get most of the table, so that the experiment shows nothing".to_owned(),
    };
    let (count, all) = (failed.len() as u64, report.runs.len());
    let seeds = plural(count, "seed", "seeds");
    Err(Failure::runtime(format!("{count} of {all} runs failed, {seeds} {}: {why}", failed.join(", "))))
}

/// The figures of all runs at one moment.
struct Line {
    when: String,
    seconds: Option<f64>,
    members: f64,
    attackers: f64,
    most: f64,
    /// Of the lookups then, if there were any.
    lookups: Option<Lookups>,
}

struct Lookups {
    count: f64,
    attackers: f64,
    captured: f64,
    own: f64,
}

fn lines(report: &EclipseReport) -> Vec<Line> {
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let runs = report.runs.len().max(1) as f64;
    let members: Vec<f64> = report.runs.iter().map(|run| run.before.0 as f64).collect();
    let attackers: Vec<f64> = report.runs.iter().map(|run| run.before.1 as f64).collect();
    let mut lines = vec![Line {
        when: "before the restart".to_owned(),
        seconds: None,
        members: sum(&members) / runs,
        attackers: sum(&attackers) / runs,
        most: most(&attackers),
        lookups: None,
    }];
    let moments = report.runs.first().map_or(&[][..], |run| &run.after);
    for (at, moment) in moments.iter().enumerate() {
        let total = |of: fn(&After) -> usize| sum(&report.figures(at, of));
        let lookups = Lookups {
            count: total(|after| after.lookups),
            attackers: total(|after| after.found_attackers) / total(|after| after.found).max(1.0),
            captured: total(|after| after.captured),
            own: total(|after| after.own.1) / total(|after| after.own.0).max(1.0),
        };
        let attackers = report.figures(at, |after| after.attackers);
        lines.push(Line {
            when: format!("{} s after a restart", moment.time.as_secs()),
            seconds: Some(moment.time.as_secs_f64()),
            members: total(|after| after.members) / runs,
            attackers: sum(&attackers) / runs,
            most: most(&attackers),
            lookups: Some(lookups),
        });
    }
    lines
}

fn as_text(eclipse: &Eclipse, report: &EclipseReport, wall: Duration) -> String {
    let (runs, failed) = (report.runs.len(), report.failed().len());
    let limits = match report.allowed {
        Some(allowed) => format!("limits on: {allowed} members of its table may be attackers"),
        None => "limits off".to_owned(),
    };
    let last = eclipse.seed.wrapping_add(runs.saturating_sub(1) as u64);
    let mut text = format!(
        "{:<22} {} identities at {} addresses ping each {} s for {} s\n\
         {:<22} among {} honest nodes, {limits}\n\
         {:<22} {runs} of seeds {} to {last}, in {:.1} s; {} as they ought to be\n\
         \n\
         {:<22} {:>8} {:>9} {:>5} {:>9} | {:>8} {:>9} {:>12} {:>8}\n",
        "attack",
        report.identities,
        report.addresses,
        eclipse.every.as_secs(),
        eclipse.lasts.as_secs(),
        "victim",
        report.honest,
        "runs",
        eclipse.seed,
        wall.as_secs_f64(),
        runs - failed,
        "victim's table",
        "members",
        "attackers",
        "most",
        "share",
        "lookups",
        "attackers",
        "none honest",
        "own key",
    );
    for line in lines(report) {
        let share = percent(line.attackers / line.members.max(1.0));
        text +=
            &format!("{:<22} {:>8.1} {:>9.1} {:>5} {share:>9} |", line.when, line.members, line.attackers, line.most);
        if let Some(lookups) = line.lookups {
            let Lookups { count, attackers, captured, own } = lookups;
            text += &format!(" {count:>8} {:>9} {captured:>12} {:>8}", percent(attackers), percent(own));
        }
        text.push('\n');
    }
    text
}

fn as_json(eclipse: &Eclipse, report: &EclipseReport, wall: Duration) -> String {
    let lines: Vec<Value> = lines(report)
        .into_iter()
        .map(|line| {
            let lookups = line.lookups.map(|lookups| {
                json!({
                    "count": lookups.count,
                    "attackers_share": lookups.attackers,
                    "none_honest": lookups.captured,
                    "own_key_attackers_share": lookups.own,
                })
            });
            json!({
                "seconds_after_restart": line.seconds,
                "members": line.members,
                "attackers": line.attackers,
                "attackers_most": line.most,
                "lookups": lookups,
            })
        })
        .collect();
    let runs = report.runs.iter();
    let runs: Vec<Value> =
        runs.map(|run| json!({ "seed": run.seed, "event_hash": format!("{:016x}", run.event_hash) })).collect();
    let object = json!({
        "attack": "eclipse",
        "honest": report.honest,
        "identities": report.identities,
        "addresses": report.addresses,
        "every_seconds": eclipse.every.as_secs(),
        "lasts_seconds": eclipse.lasts.as_secs(),
        "limits": eclipse.limits == Limits::On,
        "allowed": report.allowed,
        "failed_seeds": report.failed().iter().map(|run| run.seed).collect::<Vec<_>>(),
        "moments": lines,
        "runs": runs,
        "wall_seconds": wall.as_secs_f64(),
    });
    format!("{object:#}\n")
}
