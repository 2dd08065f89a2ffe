//! What `kadnode bench` prints.

use serde_json::{Map, Value, json};

use super::bursts::Dropped;
use super::load::Tally;
use super::slot::Expect;
use crate::cli::plural;
use crate::proto::identity::Contact;

/// A load, and what the target made of it.
pub(super) struct Report {
    pub(super) mode: String,
    pub(super) target: Contact,
    pub(super) count: u64,
    pub(super) window: usize,
    pub(super) rate: Option<u64>,
    pub(super) seed: u64,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    /// CPU nanoseconds of the target and of this process.
    Answered {
        tally: Tally,
        expect: Expect,
        target: Option<u64>,
        own: Option<u64>,
    },
    Dropped(Dropped),
}

impl Report {
    /// Answers, of whatever kind.
    pub(super) fn answers(&self) -> u64 {
        match &self.outcome {
            Outcome::Answered { tally, .. } => tally.latencies.len() as u64,
            Outcome::Dropped(dropped) => dropped.answered,
        }
    }

    pub(super) fn as_text(&self) -> String {
        let how = match self.rate {
            Some(rate) => format!("{rate} requests a second from {} {}", self.window, sockets(self.window)),
            None => format!("window {}", self.window),
        };
        let mut lines = vec![("target", self.target.endpoint.to_string()), ("load", format!("{}, {how}", self.mode))];
        match &self.outcome {
            Outcome::Answered { tally, expect, target, own } => {
                let figures = Figures::of(tally);
                lines.push(("requests", format!("{} in {:.3} s", tally.sent, tally.sending.as_secs_f64())));
                lines.push(("answers", self.answers().to_string()));
                lines.push(("a second", format!("{:.0}", figures.rate)));
                lines.push((
                    "latency",
                    match &figures.latency {
                        Some([p50, p99, p999, max]) => {
                            format!("p50 {p50:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1} us")
                        }
                        None => "not known: there was no answer".to_owned(),
                    },
                ));
                lines.push(("loss", format!("{:.3} %", 100.0 * figures.loss)));
                if let Expect::Neighbors(packets) = expect {
                    let nodes = tally.nodes as f64 / figures.answers.max(1.0);
                    let packets = format!("{packets} {}", plural(*packets as u64, "packet", "packets"));
                    lines.push(("each answer", format!("{packets}, {nodes:.1} nodes")));
                }
                if let Some(target) = target {
                    lines.push(("CPU", format!("{:.2} us per answer", micros(*target) / figures.answers.max(1.0))));
                }
                if let (Some(_), Some(own)) = (target, own) {
                    let own = micros(*own) / tally.sent.max(1) as f64;
                    lines.push(("CPU here", format!("{own:.2} us per request")));
                }
            }
            Outcome::Dropped(dropped) => {
                let seconds = dropped.took.as_secs_f64();
                lines.push(("packets", format!("{} in {seconds:.3} s", dropped.sent)));
                lines.push(("answers", dropped.stray.to_string()));
                lines.push(("a second", format!("{:.0}", per(dropped.sent as f64, seconds))));
                lines.push(("bursts", format!("{} of {} worked off", dropped.answered, dropped.bursts)));
                if let Some(cost) = dropped.cost() {
                    lines.push(("CPU", format!("{:.2} us per packet", cost.packet)));
                    lines.push(("", format!("without the {:.2} us of each burst's PING, measured before", cost.ping)));
                }
            }
        }
        lines.into_iter().map(|(name, text)| format!("{name:<12} {text}\n")).collect()
    }

    pub(super) fn as_json(&self) -> String {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("mode", json!(self.mode));
        put("target", json!(self.target.to_string()));
        put("count", json!(self.count));
        put("window", json!(self.window));
        put("rate", json!(self.rate));
        put("seed", json!(self.seed));
        match &self.outcome {
            Outcome::Answered { tally, expect, target, own } => {
                let figures = Figures::of(tally);
                put("requests", json!(tally.sent));
                put("requests_per_second", json!(per(tally.sent as f64, tally.sending.as_secs_f64())));
                put("answers", json!(self.answers()));
                put("answers_per_second", json!(figures.rate));
                put("seconds", json!(seconds(tally)));
                let latency = figures
                    .latency
                    .map(|[p50, p99, p999, max]| json!({ "p50": p50, "p99": p99, "p99_9": p999, "max": max }));
                put("latency_us", json!(latency));
                put("loss", json!(figures.loss));
                if let Expect::Neighbors(packets) = expect {
                    put("packets_per_answer", json!(packets));
                    put("nodes_per_answer", json!(tally.nodes as f64 / figures.answers.max(1.0)));
                }
                put("cpu_us_per_answer", json!(target.map(|cpu| micros(cpu) / figures.answers.max(1.0))));
                put("generator_cpu_us_per_request", json!(own.map(|cpu| micros(cpu) / tally.sent.max(1) as f64)));
            }
            Outcome::Dropped(dropped) => {
                let seconds = dropped.took.as_secs_f64();
                put("requests", json!(dropped.sent));
                put("requests_per_second", json!(per(dropped.sent as f64, seconds)));
                put("answers", json!(dropped.stray));
                put("seconds", json!(seconds));
                put("bursts", json!(dropped.bursts));
                put("bursts_worked_off", json!(dropped.answered));
                let cost = dropped.cost();
                put("cpu_us_per_packet", json!(cost.as_ref().map(|cost| cost.packet)));
                put("cpu_us_per_ping", json!(cost.as_ref().map(|cost| cost.ping)));
            }
        }
        format!("{:#}\n", Value::Object(object))
    }
}

/// CPU microseconds of the target.
struct Cost {
    packet: f64,
    ping: f64,
}

impl Dropped {
    fn cost(&self) -> Option<Cost> {
        let (alone, bursts) = self.cpu?;
        let packet = (micros(bursts) - micros(alone)) / self.sent.max(1) as f64;
        Some(Cost { packet, ping: micros(alone) / self.bursts.max(1) as f64 })
    }
}

/// What follows from a tally.
struct Figures {
    answers: f64,
    /// Answers a second.
    rate: f64,
    /// Microseconds: p50, p99, p99.9 and the longest.
    latency: Option<[f64; 4]>,
    /// Share of the requests without an answer.
    loss: f64,
}

impl Figures {
    fn of(tally: &Tally) -> Self {
        let mut sorted = tally.latencies.clone();
        sorted.sort_unstable();
        let answers = sorted.len() as f64;
        let latency =
            (!sorted.is_empty()).then(|| [0.5, 0.99, 0.999, 1.0].map(|share| micros(quantile(&sorted, share))));
        let loss = 1.0 - answers / tally.sent.max(1) as f64;
        Self { answers, rate: per(answers, seconds(tally)), latency, loss }
    }
}

/// The smallest value that at least this share of all do not exceed. `sorted` is not empty.
fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// How long the load took. Where answers come too late, requests went out after the last one that counted.
fn seconds(tally: &Tally) -> f64 {
    tally.took.max(tally.sending).as_secs_f64()
}

fn per(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

fn sockets(count: usize) -> &'static str {
    plural(count as u64, "socket", "sockets")
}
