//! What `kadnode sim` prints.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sim::{Joiners, Moment, Report, Scenario, Summary, SybilFigures};

/// What the simulation cost, as the system tells.
pub(super) struct Cost {
    wall_seconds: f64,
    /// Largest resident size of the program; `None` where the system does not tell.
    peak: Option<u64>,
    /// Resident size before the simulation began.
    before: Option<u64>,
}

impl Cost {
    /// Of a simulation that took this long, and began when so many bytes were resident.
    pub(super) fn new(wall: Duration, before: Option<u64>) -> Self {
        Self { wall_seconds: wall.as_secs_f64(), peak: status("VmHWM:"), before }
    }

    /// What a node takes: what the simulation added to the program, shared among the nodes.
    fn bytes_per_node(&self, nodes: usize) -> Option<u64> {
        Some(self.peak?.saturating_sub(self.before?) / nodes.max(1) as u64)
    }
}

/// The resident size of this process now, in bytes.
pub(super) fn resident() -> Option<u64> {
    status("VmRSS:")
}

pub(super) fn as_text(scenario: &Scenario, report: &Report, cost: &Cost) -> String {
    let rate = report.traffic.events as f64 / cost.wall_seconds.max(1e-9);
    let hops = report.hop_shares.iter().enumerate();
    let hops: Vec<String> = hops.map(|(hops, share)| format!("{hops}: {}", percent(*share))).collect();
    let kinds = report.per_minute.iter();
    let kinds: Vec<String> = kinds.map(|rate| format!("{:.1} {}", rate.messages, rate.kind.name())).collect();
    let bytes: f64 = report.per_minute.iter().map(|rate| rate.bytes).sum();
    let mut lines = vec![
        ("scenario", scenario.name.to_owned()),
        (
            "network",
            format!(
                "{} nodes, seed {}, {:.0} s simulated in {:.1} s",
                report.nodes, report.seed, report.simulated_seconds, cost.wall_seconds
            ),
        ),
        ("event hash", format!("{:016x}", report.event_hash)),
        ("hops", figures(&report.hops, 3)),
        ("FINDNODEs", figures(&report.queries, 1)),
        ("milliseconds", figures(&report.took_ms, 1)),
        ("hop shares", hops.join(", ")),
        (
            "found",
            format!(
                "the nearest {}, all nearest {}, of {} lookups",
                percent(report.found_closest),
                percent(report.found_all),
                report.lookups
            ),
        ),
    ];
    if let Some(course) = course(report) {
        lines.push(("over time", course));
    }
    if let Some(joiners) = &report.joiners {
        lines.push(("joiners", joined(joiners)));
    }
    if let Some(sybils) = &report.sybils {
        let SybilFigures { nodes, in_tables, in_results, captured } = *sybils;
        let (tables, results, captured) = (percent(in_tables), percent(in_results), percent(captured));
        lines.push((
            "Sybils",
            format!("{nodes}; {tables} of the honest tables, {results} of what was found; {captured} of the lookups found nobody else"),
        ));
    }
    if report.alarmed > 0 {
        lines.push(("alarms", format!("raised by {} honest nodes", report.alarmed)));
    }
    lines.push((
        "tables",
        format!(
            "{:.1} entries, {} of them stale; {} of {} nodes connected both ways",
            report.census.entries.mean,
            percent(report.census.stale),
            percent(report.census.connected),
            report.census.running
        ),
    ));
    lines.push(("NEIGHBORS", format!("{} of the entries dead", percent(report.dead_told))));
    let bytes = if bytes > 0.0 { format!(", {:.1} kB", bytes / 1000.0) } else { String::new() };
    lines.push(("node a minute", format!("{}{bytes}", kinds.join(", "))));
    let memory = cost.peak.map_or_else(String::new, |bytes| format!(", {} MB at most", bytes / 1_000_000));
    lines.push((
        "work",
        format!("{} messages, {} events, {rate:.0} a second{memory}", report.traffic.messages(), report.traffic.events),
    ));
    lines.into_iter().map(|(name, text)| format!("{name:<14} {text}\n")).collect()
}

pub(super) fn as_json(scenario: &Scenario, report: &Report, cost: &Cost) -> String {
    let mut hops = summary(&report.hops);
    hops["distribution"] = json!(report.hop_shares);
    let census = &report.census;
    let buckets = census.buckets.iter().map(
        |bucket| json!({ "log_distance": bucket.log_distance, "members": bucket.members, "possible": bucket.possible }),
    );
    let moments = report.moments.iter().map(|moment| {
        json!({
            "seconds": moment.seconds,
            "lookups": moment.lookups,
            "found_closest": moment.found_closest,
            "found_all_16": moment.found_all,
            "hops": moment.hops,
        })
    });
    let joiners = report.joiners.as_ref().map(|joiners| {
        let found = joiners.found.iter().map(|(age, share)| json!({ "age_seconds": age, "found": share }));
        json!({ "found": found.collect::<Vec<_>>(), "seconds_to_95": joiners.seconds_to_95 })
    });
    let sybils = report.sybils.as_ref().map(|sybils| {
        json!({
            "nodes": sybils.nodes,
            "in_tables": sybils.in_tables,
            "in_results": sybils.in_results,
            "none_honest": sybils.captured,
        })
    });
    let kinds = report
        .per_minute
        .iter()
        .map(|rate| (rate.kind.name().to_lowercase(), json!({ "messages": rate.messages, "bytes": rate.bytes })));
    let object = json!({
        "scenario": scenario.name,
        "nodes": report.nodes,
        "lookups": report.lookups,
        "seed": report.seed,
        "event_hash": format!("{:016x}", report.event_hash),
        "answered": report.answered,
        "hops": hops,
        "queries": summary(&report.queries),
        "took_ms": summary(&report.took_ms),
        "found_closest": report.found_closest,
        "found_all_16": report.found_all,
        "seconds_to_99": seconds_to(&report.moments, 0.99),
        "moments": moments.collect::<Vec<_>>(),
        "joiners": joiners,
        "alarmed": report.alarmed,
        "sybils": sybils,
        "census": {
            "running": census.running,
            "entries": summary(&census.entries),
            "stale": census.stale,
            "connected": census.connected,
            "buckets": buckets.collect::<Vec<_>>(),
        },
        "dead_told": report.dead_told,
        "per_minute": kinds.collect::<serde_json::Map<_, _>>(),
        "messages": report.traffic.messages(),
        "events": report.traffic.events,
        "events_per_second": report.traffic.events as f64 / cost.wall_seconds.max(1e-9),
        "bytes_per_node": cost.bytes_per_node(report.nodes),
        "peak_rss_bytes": cost.peak,
        "simulated_seconds": report.simulated_seconds,
        "wall_seconds": cost.wall_seconds,
    });
    format!("{object:#}\n")
}

fn summary(s: &Summary) -> Value {
    json!({ "mean": s.mean, "se": s.se, "p50": s.p50, "p90": s.p90, "p99": s.p99, "max": s.max })
}

fn figures(s: &Summary, digits: usize) -> String {
    format!(
        "mean {:.digits$} (standard error {:.4}), p50 {:.0}, p90 {:.0}, p99 {:.0}, max {:.0}",
        s.mean, s.se, s.p50, s.p90, s.p99, s.max
    )
}

/// How many spans of time the text shows.
const SHOWN: usize = 6;

/// Lookups that are spread over less than these seconds show no course of time.
const SHORT: f64 = 30.0;

/// The shares of lookups that found the nearest node in the course of time; `None` when all did, or there was no time.
fn course(report: &Report) -> Option<String> {
    let moments = &report.moments;
    let short = moments.last().is_none_or(|moment| moment.seconds < SHORT);
    if short || moments.iter().all(|moment| moment.found_closest >= 1.0) {
        return None;
    }
    let shown = moments.iter().step_by(moments.len().div_ceil(SHOWN).max(1));
    let shown: Vec<String> =
        shown.map(|moment| format!("{} s: {}", brief(moment.seconds), percent(moment.found_closest))).collect();
    let when = match seconds_to(moments, 0.99) {
        Some(seconds) => format!("99 % from {} s on", brief(seconds)),
        None => "never 99 % for good".to_owned(),
    };
    Some(format!("{}; {when}", shown.join(", ")))
}

/// The middle of the first span of time from which on this share of the lookups found the nearest node.
fn seconds_to(moments: &[Moment], share: f64) -> Option<f64> {
    moments.iter().rev().take_while(|moment| moment.found_closest >= share).last().map(|moment| moment.seconds)
}

fn joined(joiners: &Joiners) -> String {
    let found = joiners.found.iter();
    let found: Vec<String> = found.map(|(age, share)| format!("{age} s: {}", percent(*share))).collect();
    let when = match joiners.seconds_to_95 {
        Some(seconds) => format!("95 % found from {seconds} s on"),
        None => "95 % never found".to_owned(),
    };
    format!("{}; {when}", found.join(", "))
}

/// A share, with as many digits as it takes to tell it from all.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if share == 0.0 || share == 1.0 { format!("{percent:.0} %") } else { format!("{percent:.2} %") }
}

/// A number of seconds without idle digits.
fn brief(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1}") } else { format!("{seconds:.0}") }
}

/// A size of this process in bytes, from /proc.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
