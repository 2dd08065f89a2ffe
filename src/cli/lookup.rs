//! `kadnode lookup`

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use tracing::warn;

use super::args::{BootnodeArgs, Target, within};
use super::failure::Failure;
use super::logging::LogArgs;
use super::oneshot::Peer;
use super::{contacts, oneshot, plural, print};
use crate::proto::config::MAX_PATHS;
use crate::proto::engine::{Found, LookupReport, Step};
use crate::proto::identity::NodeId;

const EXAMPLE: &str = "\
Examples:
  kadnode lookup d860…f666 --bootnodes nodes.txt
  kadnode lookup enode://d860…f666@18.138.108.67:30303 --json

The depth of a node is the length of the chain of referrals to it: 1 for a bootnode, 2 for a node that a bootnode named. \
Hops are the depth of the node that first named the nearest one. The distance is the log distance to the target, 0 (the \
target itself) to 256. A node marked as hearsay was named by others and has not answered.

A CONTACT that answers serves as the bootnode when none is given.";

/// Find the nodes nearest to a key, with a trace of who was asked.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// What to look for: 128 hex digits, of a public key or any other 64 bytes; or an enode URL or enr: record, whose
    /// node is then asked first
    #[arg(value_name = "KEY|CONTACT")]
    target: Target,
    /// Print one JSON object: target, hops, queries, took_ms, closest and trace
    #[arg(long)]
    json: bool,
    /// Look along so many disjoint paths, 1 to 8: liars on one cannot lead away the others. It takes as many times the
    /// requests
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(1..=MAX_PATHS as u64))]
    paths: u64,
    #[command(flatten)]
    bootnodes: BootnodeArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let resolver = args.bootnodes.dns.resolver();
    let bootnodes = oneshot::resolve_all(&contacts::load(&args.bootnodes)?.all(), &resolver).await;
    let discovery = oneshot::start(&bootnodes).await?;
    let mut answered = false;
    if let Some(contact) = &args.target.contact {
        // When it answers it is in the table, and the lookup begins with it.
        match oneshot::resolve(contact, &resolver).await {
            // A target has a key.
            Ok(Peer::Unknown(..)) => {}
            Ok(Peer::Known(contact)) => match discovery.ping(contact).await {
                Ok(_) => answered = true,
                Err(error) => warn!("nothing from the node at {} ({error})", contact.endpoint),
            },
            Err(failure) => warn!("{failure}"),
        }
    }
    if bootnodes.is_empty() && !answered {
        return Err(oneshot::nobody());
    }
    // The node's network may be another one than that of the bootnodes that are built in.
    if !(answered && args.bootnodes.is_absent()) {
        contacts::warn_of_mainnet(&args.bootnodes);
        oneshot::introduce(&discovery, &bootnodes).await?;
    }
    // At most 8.
    let lookup = discovery.lookup_disjoint(args.target.key, args.paths as usize).await;
    let report = lookup.map_err(|error| Failure::runtime(format!("the lookup failed: {error}")))?;
    discovery.shutdown().await;
    if args.json {
        print(&format!("{:#}\n", as_json(&report)))?;
    } else {
        print(&as_text(&report, std::io::stdout().is_terminal()))?;
    }
    if report.trace.iter().any(|step| step.named.is_some()) {
        return Ok(());
    }
    Err(oneshot::silence(report.trace.len()))
}

fn as_text(report: &LookupReport, terminal: bool) -> String {
    let target = report.target.node_id();
    let mut trace = table(&["#", "depth", "distance", "asked at", "took", "named", "node", "address"], terminal);
    for (number, step) in report.trace.iter().enumerate() {
        let Step { contact, depth, log_distance, asked_at, ended_at, named } = *step;
        trace.add_row([
            (number + 1).to_string(),
            depth.to_string(),
            log_distance.to_string(),
            millis(asked_at),
            millis(ended_at.saturating_sub(asked_at)),
            named.map_or_else(|| "no answer".to_owned(), |named| named.to_string()),
            short(&contact.id()),
            contact.endpoint.to_string(),
        ]);
    }
    let mut closest = table(&["#", "depth", "distance", "answered", "node", "address"], terminal);
    for (number, found) in report.closest.iter().enumerate() {
        let Found { contact, id, answered, depth } = *found;
        closest.add_row([
            (number + 1).to_string(),
            depth.to_string(),
            id.log_distance(&target).to_string(),
            if answered { "yes".to_owned() } else { "hearsay".to_owned() },
            short(&id),
            contact.endpoint.to_string(),
        ]);
    }
    right_align(&mut trace, 0..6);
    right_align(&mut closest, 0..3);
    let mut text = format!("target {target}\n\nasked:\n{}\n\n", plain(&trace));
    if !report.closest.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(text, "nearest:\n{}\n\n", plain(&closest));
    }
    let hops =
        report.hops().map_or_else(String::new, |hops| format!("{hops} {}, ", plural(hops.into(), "hop", "hops")));
    let queries = report.queries;
    let hearsay = report.closest.iter().filter(|found| !found.answered).count();
    let hearsay = if hearsay > 0 { format!(", {hearsay} of them by hearsay alone") } else { String::new() };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{} {} found{hearsay}; {hops}{queries} {}, {}",
        report.closest.len(),
        plural(report.closest.len() as u64, "node", "nodes"),
        plural(queries.into(), "query", "queries"),
        millis(report.took)
    );
    text
}

fn as_json(report: &LookupReport) -> Value {
    let target = report.target.node_id();
    let closest = report.closest.iter().map(|found| {
        json!({
            "id": found.id.to_string(),
            "enode": found.contact.to_string(),
            "answered": found.answered,
            "depth": found.depth,
            "distance": found.id.log_distance(&target),
        })
    });
    let trace = report.trace.iter().map(|step| {
        json!({
            "id": step.contact.id().to_string(),
            "enode": step.contact.to_string(),
            "depth": step.depth,
            "distance": step.log_distance,
            "asked_at_ms": json_millis(step.asked_at),
            "took_ms": json_millis(step.ended_at.saturating_sub(step.asked_at)),
            "named": step.named,
        })
    });
    json!({
        "target": { "key": report.target.to_string(), "id": target.to_string() },
        "hops": report.hops(),
        "queries": report.queries,
        "took_ms": json_millis(report.took),
        "closest": closest.collect::<Vec<_>>(),
        "trace": trace.collect::<Vec<_>>(),
    })
}

/// A table for a terminal, or plain columns for a file or a pipe.
fn table(header: &[&str], terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_style(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
    table.set_header(header.iter().copied());
    table
}

fn right_align(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Without the white space that pads the last column.
fn plain(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// The first four bytes of an ID, which tell nodes apart.
fn short(id: &NodeId) -> String {
    hex::encode(&id.0[..4])
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Milliseconds, exact to the microsecond.
fn json_millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
