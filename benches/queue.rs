//! The simulator's queue of events, buckets as wide as the shortest latency, against a binary heap.
//!
//!     cargo bench --bench queue
//!
//! As many wake-ups wait as there are nodes; each event that comes out puts one in, so that the number stays. Nine of ten
//! are packets, 25 to 75 ms away, the rest wake-ups up to 30 minutes away. An event has the size of the simulator's. Each
//! queue has a process of its own, so that its memory can be told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::process::Command;
use std::time::Instant;

use kadnode::sim::{BucketQueue, Timed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The shortest latency, in microseconds.
const WIDTH: u64 = 25_000;

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];

/// Events that are taken out and put in.
const EVENTS: usize = 10_000_000;

/// As large as an event of the simulator: time, receiver, sender, number, and what happens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: u64,
    to: u32,
    from: u32,
    seq: u32,
    what: [u64; 5],
}

impl Timed for Event {
    fn at(&self) -> u64 {
        self.at
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, kind, size, events] = &args[..]
        && flag == "--queue"
    {
        let number = |text: &String| text.parse().expect("the parent process names it rightly");
        return measure(kind, number(size), number(events));
    }
    // `cargo test --benches` does not say --bench: all it wants to know is whether this runs.
    if !args.iter().any(|arg| arg == "--bench") {
        ["heap", "buckets"].iter().for_each(|kind| measure(kind, 1_000, 10_000));
        return;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if !filters.is_empty() && !filters.iter().any(|filter| "queue".contains(filter.as_str())) {
        return;
    }
    let events = if args.iter().any(|arg| arg == "--quick") { EVENTS / 10 } else { EVENTS };
    println!("An event is {} bytes; {events} events are taken out and put in", size_of::<Event>());
    println!("{:>8} {:>9} {:>12} {:>13}  digest", "queue", "waiting", "events/s", "bytes/event");
    for size in SIZES {
        for kind in ["heap", "buckets"] {
            let mut process = Command::new(std::env::current_exe().expect("a running program is somewhere"));
            process.args(["--queue", kind, &size.to_string(), &events.to_string()]);
            let status = process.status().expect("the program can be run again");
            assert!(status.success(), "the measurement of {size} events failed");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn measure(kind: &str, size: usize, events: usize) {
    let mut rng = StdRng::seed_from_u64(1);
    let before = peak_rss();
    // The digest makes sure that both take out the same events in the same order.
    let (begun, digest) = match kind {
        "heap" => {
            let mut queue = BinaryHeap::new();
            (0..size).for_each(|node| queue.push(Reverse(wake_up(0, node as u32, &mut rng))));
            (Instant::now(), run_heap(&mut queue, events, &mut rng))
        }
        _ => {
            let mut queue = BucketQueue::new(WIDTH);
            (0..size).for_each(|node| queue.push(wake_up(0, node as u32, &mut rng)));
            (Instant::now(), run_buckets(&mut queue, events, &mut rng))
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = peak_rss().saturating_sub(before) as f64 / size as f64;
    println!("{kind:>8} {size:>9} {:>12.0} {bytes:>13.0}  {digest:016x}", events as f64 / seconds);
}

fn run_heap(queue: &mut BinaryHeap<Reverse<Event>>, events: usize, rng: &mut StdRng) -> u64 {
    let mut digest = 0;
    for _ in 0..events {
        let Some(Reverse(event)) = queue.pop() else { break };
        digest = note(digest, &event);
        queue.push(Reverse(next(&event, rng)));
    }
    digest
}

fn run_buckets(queue: &mut BucketQueue<Event>, events: usize, rng: &mut StdRng) -> u64 {
    let (mut digest, mut done) = (0, 0);
    while let Some(bucket) = queue.first().filter(|_| done < events) {
        let mut waiting = queue.take(bucket);
        waiting.sort_unstable();
        for event in waiting.drain(..) {
            if done < events {
                digest = note(digest, &event);
                queue.push(next(&event, rng));
                done += 1;
            }
        }
        queue.recycle(waiting);
    }
    digest
}

/// What follows from an event: mostly a packet to somebody, else a wake-up of the same node.
fn next(event: &Event, rng: &mut StdRng) -> Event {
    if rng.random_range(0..10) == 0 {
        return wake_up(event.at, event.to, rng);
    }
    let at = event.at + rng.random_range(WIDTH..3 * WIDTH);
    Event { at, to: rng.random(), from: event.to, seq: event.seq.wrapping_add(1), what: event.what }
}

/// A wake-up in 1 to 1,800 seconds.
fn wake_up(now: u64, node: u32, rng: &mut StdRng) -> Event {
    Event { at: now + rng.random_range(1_000_000..1_800_000_000), to: node, from: 0, seq: 0, what: [7; 5] }
}

fn note(digest: u64, event: &Event) -> u64 {
    digest.rotate_left(5) ^ event.at ^ u64::from(event.to) << 32
}

/// The largest resident size of this process in bytes, from /proc; 0 where the system does not tell.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
