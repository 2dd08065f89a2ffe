#!/usr/bin/env python3
"""Puts the same loads on kadnode and on other implementations of discv4, in turn, and prints one table.

    cargo build --release
    benches/compare/run.py [BINARY] [--runs N] [--count N] [--only LOAD] [--json FILE]

The load is that of `kadnode bench`, pinned to core 0; the targets have core 1 (geth as it is by default has both). All
run in a network namespace of their own, in which there is nothing but loopback; that takes root. The others are installed
first where they are missing. What is being measured is said on standard error, the table is on standard output.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

sys.dont_write_bytecode = True  # a run leaves nothing in the tree

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/interop"))

from harness import CheckFailed, DeadlineExceeded, Processes, free_of_newline
from peers import ETHEREUMJS_VERSION, GETH_VERSION, InstallError, install_devp2p, install_ethereumjs
from targets import GENERATOR_CORE, TARGET_CORE, Target, on_cores, start

INSIDE = "KADNODE_COMPARE_INSIDE"
TARGETS = ["kadnode", "geth", "geth, 1 core", "ethereumjs"]
MORE_TARGETS = ["kadnode, 2 cores"]
DROPPED = ["runt", "bad-hash", "zero-signature", "bad-signature", "wrong-type", "expired", "unsolicited"]
BENCH_TIMEOUT = 400  # seconds; the longest wait is geth's check of its nodes, one each 3 s
FLOOR_TIMEOUT = 900  # seconds, most of them for compiling
REST = 0.5  # seconds between two loads
SATURATION = 3  # seconds of a load of twice what the target can do

Values = dict[str, float]


class Bench:
    """`kadnode bench` with what all runs of it have in common."""

    def __init__(self, binary: pathlib.Path, processes: Processes, count: int):
        self.binary, self.processes, self.count, self.seed = binary, processes, count, 0

    def start(self, name: str) -> Target:
        return start(name, self.binary, self.processes)

    def requests(self, target: Target) -> int:
        return max(int(self.count * target.share), 100)

    def __call__(self, target: Target, mode: str, *more: str, count: int | None = None) -> dict:
        self.seed += 1  # nobody remembers the identities of an earlier load
        count = count or self.requests(target)
        command = [str(self.binary), "bench", target.contact.enode(), "--json", "--mode", mode, "--count", str(count),
                   "--pid", str(target.pid), "--seed", str(self.seed), *more]
        time.sleep(REST)
        with on_cores({GENERATOR_CORE}):
            code, out, err = self.processes.run(command, BENCH_TIMEOUT)
        if code != 0:
            raise CheckFailed(f"`kadnode bench --mode {mode}` ended with code {code}: {free_of_newline(err)}")
        return json.loads(out)


# The loads. Each returns the rows of the table that it fills.


def answered(mode: str) -> Callable[[Bench, Target], Values]:
    def load(bench: Bench, target: Target) -> Values:
        result = bench(target, mode)
        if mode == "findnode" and result["nodes_per_answer"] < 15.9:
            raise CheckFailed(f"{result['nodes_per_answer']:.1f} nodes in an answer to FINDNODE, not 16")
        if result["loss"] > 0.01:
            raise CheckFailed(f"{100 * result['loss']:.1f} % of the requests were lost")
        return {f"{mode} cpu": result["cpu_us_per_answer"], f"{mode} rate": result["answers_per_second"]}

    return load


def dropped(mode: str) -> Callable[[Bench, Target], Values]:
    def load(bench: Bench, target: Target) -> Values:
        result = bench(target, mode)
        if result["answers"] or result["bursts_worked_off"] < result["bursts"]:
            raise CheckFailed(f"{result['answers']} answers, {result['bursts_worked_off']} of {result['bursts']} bursts")
        return {f"{mode} cpu": result["cpu_us_per_packet"]}

    return load


def latency(bench: Bench, target: Target) -> Values:
    result = bench(target, "ping", "--window", "1", count=max(bench.requests(target) // 4, 100))
    return {"p50": result["latency_us"]["p50"], "p99": result["latency_us"]["p99"]}


def saturation(bench: Bench, target: Target) -> Values:
    peak = bench(target, "ping")["answers_per_second"]
    values: Values = {}
    for timeout in (1000, 500):
        flood = ["--rate", str(round(2 * peak)), "--timeout", str(timeout)]
        try:
            result = bench(target, "ping", *flood, count=round(2 * peak * SATURATION))
            values[f"flood {timeout}"] = 100 * result["answers_per_second"] / peak
            if timeout == 1000:
                values["flood p50"] = result["latency_us"]["p50"] / 1000
        except CheckFailed:
            values[f"flood {timeout}"] = 0.0  # it answered before, and nothing in time now
    return values


def memory(bench: Bench, target: Target) -> Values:
    """On a target of its own, since what it has done before would count."""
    target = bench.start(target.name)
    try:
        time.sleep(2)
        idle, idle_anonymous = target.resident()
        # 200 nodes for a table that is full; a window that divides the identities, so that each keeps its address.
        count = round(100_000 * target.share)
        more = ["--identities", str(count // 10), "--window", "50", "--nodes", "200", "--warm-up", "5"]
        bench(target, "new-keys", *more, count=count)
        after, after_anonymous = target.resident()
        return {"idle": idle, "idle anonymous": idle_anonymous, "after": after, "after anonymous": after_anonymous}
    finally:
        target.process.kill()


LOADS: dict[str, Callable[[Bench, Target], Values]] = {
    "ping": answered("ping"),
    "findnode": answered("findnode"),
    "new-keys": answered("new-keys"),
    **{mode: dropped(mode) for mode in DROPPED},
    "latency": latency,
    "saturation": saturation,
    "memory": memory,
}

ROWS = [
    ("ping cpu", "PING answered, CPU us"),
    ("findnode cpu", "FINDNODE answered with 16 nodes, CPU us"),
    ("new-keys cpu", "PING from new identities answered, CPU us"),
    *((f"{mode} cpu", f"{mode} dropped, CPU us") for mode in DROPPED),
    ("ping rate", "PINGs answered a second"),
    ("findnode rate", "FINDNODEs answered a second"),
    ("new-keys rate", "PINGs from new identities answered a second"),
    ("p50", "latency of PING at window 1, p50, us"),
    ("p99", "latency of PING at window 1, p99, us"),
    ("flood 1000", "twice the peak: answers within 1 s, % of the peak"),
    ("flood 500", "twice the peak: answers within 0.5 s, % of the peak"),
    ("flood p50", "twice the peak: latency of those within 1 s, p50, ms"),
    ("idle", "memory (VmRSS) idle, MB"),
    ("after", "memory (VmRSS) after 100,000 PINGs of 10,000 identities, and 200 nodes, MB"),
    ("idle anonymous", "of that anonymous (RssAnon) idle, MB"),
    ("after anonymous", "of that anonymous (RssAnon) after, MB"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares kadnode with other implementations of discv4 under load.")
    parser.add_argument("binary", nargs="?", type=pathlib.Path, default=ROOT / "target/release/kadnode",
                        help="the kadnode to measure, and to measure with (default: target/release/kadnode)")
    parser.add_argument("--runs", type=int, default=5, help="runs, of which the medians are shown (default: 5)")
    parser.add_argument("--count", type=int, default=20_000, help="requests of a load (default: 20000)")
    parser.add_argument("--only", choices=[*LOADS, "dropped"], action="append",
                        help="this load alone; can be given several times")
    parser.add_argument("--target", choices=TARGETS + MORE_TARGETS, action="append",
                        help=f"this target; can be given several times (default: {'; '.join(TARGETS)})")
    parser.add_argument("--pure", action="store_true", help="the binary signs by k256: compare it with the floor of that")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures of all runs to a file")
    parser.add_argument("--deadline", type=int, default=7200, help="seconds for everything (default: 7200)")
    options = parser.parse_args()
    if not 1 <= options.runs <= 100 or not 100 <= options.count <= 1_000_000:
        parser.error("--runs is from 1 to 100, and --count from 100 to 1000000")
    options.binary = options.binary.resolve()
    options.features = ["--no-default-features", "--features", "cli"] if options.pure else []
    options.target = options.target or TARGETS
    problem = missing(options)
    if problem:
        print(f"compare: {problem}", file=sys.stderr)
        return 2
    if os.environ.get(INSIDE) != "1":
        sys.stdout.flush()
        os.environ[INSIDE] = "1"
        # The same process in a network namespace of its own: nothing can leave the machine.
        os.execvp("unshare", ["unshare", "--net", sys.executable, os.path.abspath(__file__), *sys.argv[1:]])
    interfaces = [name for _, name in socket.if_nameindex()]
    if interfaces != ["lo"]:
        print(f"compare: the network namespace is not empty: {', '.join(interfaces)}", file=sys.stderr)
        return 2
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, stdin=subprocess.DEVNULL)
        return run(options)
    except (CheckFailed, DeadlineExceeded, OSError, subprocess.SubprocessError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1


def missing(options: argparse.Namespace) -> str | None:
    if not os.access(options.binary, os.X_OK):
        return f"there is no {options.binary}: build it with `cargo build --release`"
    try:
        if any(name.startswith("geth") for name in options.target):
            install_devp2p()
        if "ethereumjs" in options.target:
            install_ethereumjs()
    except InstallError as error:
        return str(error)
    if not {GENERATOR_CORE, TARGET_CORE} <= os.sched_getaffinity(0):
        return f"it takes two cores, numbers {GENERATOR_CORE} and {TARGET_CORE}"
    return None


def run(options: argparse.Namespace) -> int:
    def deadline(*_) -> None:
        raise DeadlineExceeded(f"everything has had its {options.deadline} s")

    def stop(*_) -> None:
        raise SystemExit(130)

    signal.signal(signal.SIGALRM, deadline)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.alarm(options.deadline)
    only = [load for name in options.only or LOADS for load in (DROPPED if name == "dropped" else [name])]
    runs: list[dict[str, Values]] = []
    floors: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="kadnode-compare-") as temporary:
        processes = Processes(pathlib.Path(temporary))
        bench = Bench(options.binary, processes, options.count)
        try:
            for number in range(1, options.runs + 1):
                # The speed of the machine changes with what its neighbours do, so each run has a floor of its own.
                floors.append(measure_floor(options.features))
                runs.append(one_run(f"run {number} of {options.runs}", bench, options.target, only))
        finally:
            signal.alarm(0)
            processes.kill_all()
    medians = {name: median([run[name] for run in runs]) for name in options.target}
    if options.json:
        figures = {"count": options.count, "floors": floors, "medians": medians, "runs": runs}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(table(options, medians, runs, floors))
    return 0


def one_run(label: str, bench: Bench, names: list[str], loads: list[str]) -> dict[str, Values]:
    """Each load on each target in turn; the targets are new."""
    targets = [bench.start(name) for name in names]
    values: dict[str, Values] = {name: {} for name in names}
    for load in loads:
        for target in targets:
            try:
                found = LOADS[load](bench, target)
                said = ", ".join(f"{row} {value:.2f}" for row, value in found.items())
                values[target.name].update(found)
            except CheckFailed as error:
                said = f"no figure: {error}"
            print(f"{label}: {target.name}: {said}", file=sys.stderr, flush=True)
    for target in targets:
        target.process.kill()
    return values


def measure_floor(features: list[str]) -> dict:
    """What the parts of an answer cost alone, by `benches/floor.rs`."""
    command = ["cargo", "bench", "--offline", *features, "--bench", "floor", "--", "--json"]
    with on_cores({TARGET_CORE}):
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=FLOOR_TIMEOUT)
    if done.returncode != 0:
        raise CheckFailed(f"`{' '.join(command)}` failed: {free_of_newline(done.stderr)}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def median(runs: list[Values]) -> Values:
    rows = {row: [run[row] for run in runs if row in run] for row, _ in ROWS}
    return {row: statistics.median(values) for row, values in rows.items() if values}


def table(options: argparse.Namespace, medians: dict[str, Values], runs: list[dict[str, Values]],
          floors: list[dict]) -> str:
    """Markdown: a row for each figure, a column for each target, and kadnode's share of what geth needs."""
    names = options.target
    geths = [name for name in names if name.startswith("geth")] if "kadnode" in names else []
    version = subprocess.run([options.binary, "--version"], capture_output=True, text=True).stdout.strip()
    head = [f"{version}, devp2p {GETH_VERSION}, @ethereumjs/devp2p {ETHEREUMJS_VERSION}; medians of {options.runs}",
            *names, *(f"kadnode / {name}" for name in geths)]
    lines = [head, ["---", *("---:" for _ in head[1:])]]
    for row, label in ROWS:
        values = [medians[name].get(row) for name in names]
        if any(value is not None for value in values):
            own = medians.get("kadnode", {}).get(row)
            lines.append([label, *map(figure, values), *(ratio(own, medians[name].get(row)) for name in geths)])
    for row, what in (("ping cpu", "PING"), ("findnode cpu", "FINDNODE")):
        for key, label in ((f"{what.lower()}_floor_us", "the floor"), ("recover_us", "recover alone")):
            multiples = [multiple(name, row, key, runs, floors) for name in names]
            if any(multiple != "-" for multiple in multiples):
                cost = statistics.median(floor[key] for floor in floors)
                label = f"{what}: multiple of {label} ({floors[0]['backend']}, {cost:.1f} us)"
                lines.append([label, *multiples, *("" for _ in geths)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def multiple(name: str, row: str, key: str, runs: list[dict[str, Values]], floors: list[dict]) -> str:
    """The median over the runs of a figure over that run's floor."""
    multiples = [run[name][row] / floor[key] for run, floor in zip(runs, floors) if row in run[name]]
    return f"{statistics.median(multiples):.2f}" if multiples else "-"


def figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def ratio(value: float | None, other: float | None) -> str:
    return "-" if value is None or not other else f"{value / other:.2f}"


if __name__ == "__main__":
    sys.exit(main())
