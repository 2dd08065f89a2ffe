#!/usr/bin/env python3
"""Times lookups from a cold start: `devp2p discv4 resolve` of go-ethereum and `kadnode resolve`, of the same nodes.

    cargo build --release --example network --bin kadnode
    benches/compare/lookups.py [BINARY...] [--wan]

A network of kadnodes, a share of them dead, runs in one process (examples/network.rs). Both programs are given the same
bootnode and the same enode URL, the key of a live node with an address where nobody answers, so that the node has to be
looked up. A time is that of a whole process, from its start to its end. Everything is in network namespaces of its own,
which takes root; devp2p is installed first where it is missing. With --wan the programs are in another namespace than
the network, and a relay between the two delays packets and loses some (relay.py).
"""

import argparse
import contextlib
import math
import os
import pathlib
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

sys.dont_write_bytecode = True  # a run leaves nothing in the tree

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/interop"))

from contacts import Contact, contact_from_enode, contact_from_enr
from harness import CheckFailed, Processes, complete_lines, die_with_parent, wait_for
from peers import GETH_VERSION, InstallError, devp2p_path, install_devp2p
from relay import FAR, NEAR, Relay

LOOPBACK = "127.0.0.1"
INSIDE = "KADNODE_LOOKUPS_INSIDE"
START_TIMEOUT = 90  # seconds; the network gives itself 60 to settle
RESOLVE_TIMEOUT = 60

Command = Callable[[str], list[str]]


class Network:
    """The nodes to look for."""

    def __init__(self, command: list[str], out: pathlib.Path):
        self.out = out
        with open(out, "wb") as stdout:
            self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, preexec_fn=die_with_parent)
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self) -> None:
        def ready() -> bool:
            lines = complete_lines(self.out)
            return bool(lines) and lines[-1].startswith("silent")

        wait_for(lambda: ready() or self.child.poll() is not None, time.monotonic() + START_TIMEOUT)
        if not ready():
            raise CheckFailed(f"the network did not form within {START_TIMEOUT} s: {self.out.read_text().strip()}")
        self.formed, *nodes, self.silent = complete_lines(self.out)
        self.live = [contact_from_enode(line.split()[1]) for line in nodes if line.startswith("live")]

    def stop(self) -> str:
        """Ends it and returns what it says at the end."""
        self.child.stdin.close()
        self.child.wait(10)
        return complete_lines(self.out)[-1]

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()


class Program:
    """One of the programs, with what it did so far."""

    def __init__(self, name: str, command: Command):
        self.name, self.command = name, command
        self.times: list[float] = []
        self.found = 0

    def resolve(self, processes: Processes, url: str, target: Contact) -> None:
        start = time.monotonic()
        process = processes.start(self.name, self.command(url))
        pidfd = os.pidfd_open(process.child.pid)  # waiting with a timeout is exact by it
        try:
            ended = select.select([pidfd], [], [], RESOLVE_TIMEOUT)[0]
            self.times.append(time.monotonic() - start)
        finally:
            os.close(pidfd)
            process.kill()
        if ended:
            self.found += names(process.out.read_text(errors="replace"), target)

    def row(self, others: float) -> str:
        times = sorted(self.times)
        p90 = times[math.ceil(0.9 * len(times)) - 1]
        median = statistics.median(times)
        cells = [self.name, f"{self.found} of {len(times)}", seconds(median), seconds(p90), seconds(times[-1]),
                 f"{median / others:.3f}"]
        return f"| {' | '.join(cells)} |"


def names(out: str, target: Contact) -> bool:
    """Whether the first word is a record of the target, with its true port."""
    first = out.split()[0] if out.split() else ""
    try:
        return contact_from_enr(first) == target
    except (ValueError, KeyError):
        return False


def seconds(time: float) -> str:
    return f"{time * 1000:.0f} ms" if time < 1 else f"{time:.2f} s"


def measure(options: argparse.Namespace, directory: pathlib.Path) -> None:
    processes = Processes(directory)
    with contextlib.ExitStack() as stack:
        at, address, near, far = LOOPBACK, LOOPBACK, list, list
        if options.wan:
            relay = stack.enter_context(Relay(options.delay, options.jitter, options.loss, options.seed))
            at, address, near, far = FAR, NEAR, relay.near, relay.far
        network = Network(far([str(options.network), f"--nodes={options.nodes}", f"--dead={options.dead}",
                               f"--listen-ip={at}", f"--seed={options.seed}"]), directory / "network.out")
        stack.callback(network.kill)
        stack.callback(processes.kill_all)
        boot = network.live[0].enode()
        devp2p = [str(devp2p_path()), "discv4", "resolve", "--bootnodes", boot, "--addr", f"{address}:0"]
        programs = [Program(f"devp2p {GETH_VERSION}", lambda url: near([*devp2p, url]))]
        for binary in options.binaries:
            name = "kadnode" if len(options.binaries) == 1 else str(binary)
            programs.append(Program(name, lambda url, binary=binary: near(
                [str(binary), "resolve", url, "--bootnode", boot])))
        targets = random.Random(options.seed).choices(network.live[1:], k=options.targets)
        silent = network.silent.split()[1]
        for target in targets:
            for program in programs:
                program.resolve(processes, f"enode://{target.key}@{silent}", target)
        describe(options, network)
        print("| program | found | median | p90 | worst | median, of devp2p's |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for program in programs:
            print(program.row(statistics.median(programs[0].times)), flush=True)
        print(f"\nIn the end {network.stop()}.", flush=True)


def describe(options: argparse.Namespace, network: Network) -> None:
    if options.wan:
        between = (f"{options.delay:g} ms each way, {options.jitter:g} ms more or less, {options.loss:g} % of packets "
                   "lost between asker and nodes")
    else:
        between = "on loopback"
    print(f"\n{options.nodes} nodes, {options.dead * 100:g} % of them dead, {between}; tables {network.formed}\n")


@contextlib.contextmanager
def kept_or_temporary(directory: pathlib.Path | None) -> Iterator[pathlib.Path]:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="kadnode-lookups-") as temporary:
        yield pathlib.Path(temporary)


def main() -> int:
    release = ROOT / "target/release"
    parser = argparse.ArgumentParser(description="Times lookups from a cold start, beside go-ethereum's.")
    parser.add_argument("binaries", nargs="*", type=pathlib.Path, metavar="BINARY", default=[release / "kadnode"],
                        help="a kadnode, or several (default: target/release/kadnode)")
    parser.add_argument("--network", type=pathlib.Path, default=release / "examples/network",
                        help="the program that runs the network (default: target/release/examples/network)")
    parser.add_argument("--targets", type=int, default=20, help="lookups of each program (default: 20)")
    parser.add_argument("--nodes", type=int, default=200, help="nodes of the network (default: 200)")
    parser.add_argument("--dead", type=float, default=0.2, help="the share of them that is dead (default: 0.2)")
    parser.add_argument("--seed", type=int, default=1, help="decides the nodes, the targets and the relay (default: 1)")
    parser.add_argument("--wan", action="store_true", help="with a wide-area network between asker and nodes")
    parser.add_argument("--delay", type=float, default=50, help="its milliseconds each way (default: 50)")
    parser.add_argument("--jitter", type=float, default=10, help="its milliseconds more or less (default: 10)")
    parser.add_argument("--loss", type=float, default=1, help="per cent of packets that it loses (default: 1)")
    parser.add_argument("--keep", type=pathlib.Path, help="where to keep the output of all processes")
    options = parser.parse_args()
    if options.targets < 1:
        parser.error("--targets must be 1 or more")
    options.binaries = [binary.resolve() for binary in options.binaries]
    for program in [*options.binaries, options.network]:
        if not os.access(program, os.X_OK):
            print(f"lookups: there is no {program}: build it with `cargo build --release --bin kadnode --example "
                  "network`", file=sys.stderr)
            return 2
    try:
        install_devp2p()
    except InstallError as error:
        print(f"lookups: {error}", file=sys.stderr)
        return 2
    if os.environ.get(INSIDE) != "1":
        os.environ[INSIDE] = "1"
        # The same process in a network namespace of its own: nothing can leave the machine.
        os.execvp("unshare", ["unshare", "--net", sys.executable, os.path.abspath(__file__), *sys.argv[1:]])
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, stdin=subprocess.DEVNULL)
        with kept_or_temporary(options.keep) as directory:
            measure(options, directory)
    except (CheckFailed, OSError, subprocess.SubprocessError) as error:
        print(f"lookups: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
