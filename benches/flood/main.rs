//! Floods against the program, with an honest client beside them.
//!
//! The program runs as its users run it, by `--limit-local`, since floods come over loopback here. It knows 16 nodes, and
//! an honest client, which has an address of its own and has bonded, sends it ten PINGs and ten FINDNODEs a second. Then
//! each flood comes for some seconds, at 50,000 datagrams a second from addresses in 127.0.0.0/8. What is told of each:
//! answers that the client had within 300 ms, latencies, the program's memory, and its CPU time for each datagram that the
//! kernel gave it.
//!
//!     cargo bench --bench flood                                     # all, 10 s each
//!     cargo bench --bench flood -- --only crowd --seconds 600
//!     cargo bench --bench flood -- --rate 20000 --json
//!
//! Linux only. With two cores or more the program gets one, and everything else another.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod client;
mod flooder;
mod packets;
mod target;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use self::client::Client;
use self::flooder::Sent;
use self::target::Target;

#[derive(Debug, Parser)]
struct Args {
    /// Seconds of each flood
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Datagrams a second
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1000..=1_000_000))]
    rate: u64,
    /// This flood alone; can be given several times
    #[arg(long, value_enum)]
    only: Vec<Flood>,
    /// Print a JSON object for each flood
    #[arg(long)]
    json: bool,
    /// What cargo says to benchmarks
    #[arg(long, hide = true)]
    bench: bool,
}

/// What comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flood {
    /// Nothing: the client alone
    None,
    /// Random bytes
    Random,
    /// PINGs with a wrong hash
    BadHash,
    /// A right hash, and a signature that recovers to nothing
    BadSignature,
    /// Valid PINGs from one address
    OneAddress,
    /// Valid PINGs from 1,000 addresses and keys, each in a /24 of its own
    Crowd,
    /// Expired PINGs
    Expired,
    /// One valid PING again and again
    Replay,
    /// Bytes with a wrong hash, from 1,000 addresses
    BadHashCrowd,
    /// A signature that recovers to nothing, from 1,000 addresses
    BadSignatureCrowd,
    /// One valid PING again and again, from 1,000 addresses
    ReplayCrowd,
}

/// What came of a flood.
#[derive(Debug)]
struct Outcome {
    flood: Flood,
    asked: u64,
    in_time: u64,
    p50: Duration,
    p99: Duration,
    sent: Sent,
    seconds: f64,
    /// Datagrams that the kernel had no room for.
    lost: u64,
    cpu: Duration,
    memory: (f64, f64),
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    // `cargo test --benches` only wants to see that it runs.
    let (seconds, rate) =
        if args.bench { (Duration::from_secs(args.seconds), args.rate) } else { (Duration::from_millis(500), 5000) };
    let floods = if args.only.is_empty() { Flood::value_variants() } else { &args.only };
    if !cfg!(target_os = "linux") {
        return Err(io::Error::other("this benchmark reads /proc, which Linux has"));
    }
    target::take_first_core();
    for (number, &flood) in floods.iter().enumerate() {
        let outcome = run(flood, seconds, rate)?;
        if args.json {
            println!("{}", outcome.json());
        } else {
            if number == 0 {
                println!("{}", Outcome::HEAD);
            }
            println!("{}", outcome.row());
        }
    }
    Ok(())
}

/// A program of its own for each flood: nothing is left of the one before.
fn run(flood: Flood, length: Duration, rate: u64) -> io::Result<Outcome> {
    let target = Target::start()?;
    let _nodes = target.acquaint()?;
    let mut client = Client::bond(&target.contact)?;
    let (memory, cpu, lost) = (target.resident()?, target.cpu()?, target.lost()?);
    let end = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let flooder = {
        let (end, addr) = (end.clone(), target.addr());
        let packets = packets::make(flood, &target.contact);
        thread::spawn(move || flooder::flood(addr, packets, rate, length, &end))
    };
    let mut peak = memory;
    while begun.elapsed() < length {
        client.ask_for(Duration::from_secs(1).min(length))?;
        peak = peak.max(target.resident()?);
    }
    end.store(true, Ordering::Relaxed);
    let sent = flooder.join().map_err(|_| io::Error::other("the flood has stopped"))??;
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, lost) = (target.cpu()? - cpu, target.lost()? - lost);
    let mut latencies = client.finish()?;
    latencies.sort();
    let at = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).copied().unwrap_or(Duration::MAX);
    Ok(Outcome {
        flood,
        asked: client.asked(),
        in_time: latencies.iter().filter(|latency| **latency <= Duration::from_millis(300)).count() as u64,
        p50: at(0.5),
        p99: at(0.99),
        sent,
        seconds,
        lost,
        cpu,
        memory: (memory, peak),
    })
}

impl Outcome {
    const HEAD: &str = "\
| flood | sent a second | dropped by the kernel | the client's answers within 300 ms | p50 / p99, ms | CPU, % | CPU us a datagram | memory before / peak, MB |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

    fn taken(&self) -> f64 {
        self.sent.datagrams.saturating_sub(self.lost) as f64
    }

    fn row(&self) -> String {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        format!(
            "| {} | {:.0} | {:.1} % | {:.2} % of {} | {:.1} / {:.1} | {:.0} | {:.2} | {:.1} / {:.1} |",
            self.name(),
            self.sent.datagrams as f64 / self.seconds,
            100.0 * self.lost as f64 / self.sent.datagrams.max(1) as f64,
            100.0 * self.in_time as f64 / self.asked as f64,
            self.asked,
            millis(self.p50),
            millis(self.p99),
            100.0 * self.cpu.as_secs_f64() / self.seconds,
            self.cpu.as_secs_f64() * 1e6 / self.taken().max(1.0),
            self.memory.0,
            self.memory.1,
        )
    }

    fn json(&self) -> String {
        serde_json::json!({
            "flood": self.name(),
            "datagrams": self.sent.datagrams,
            "seconds": self.seconds,
            "kernel_drops": self.lost,
            "asked": self.asked,
            "in_time": self.in_time,
            "p50_ms": self.p50.as_secs_f64() * 1000.0,
            "p99_ms": self.p99.as_secs_f64() * 1000.0,
            "cpu_seconds": self.cpu.as_secs_f64(),
            "cpu_us_per_datagram": self.cpu.as_secs_f64() * 1e6 / self.taken().max(1.0),
            "memory_before_mb": self.memory.0,
            "memory_peak_mb": self.memory.1,
        })
        .to_string()
    }

    fn name(&self) -> String {
        self.flood.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
