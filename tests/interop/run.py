#!/usr/bin/env python3
"""Runs kadnode against the other implementations of discv4, go-ethereum's and ethereumjs's, and in a LAN of its own.

    tests/interop/install.py                      installs them, once
    tests/interop/run.py [BINARY] [--runs N]      runs every check against a release build

The run takes place in a network namespace of its own, in which there is nothing but loopback, so that no packet can
leave the machine; that takes root. The closing line is `N passed, N failed`; the exit code is 0 when nothing failed.
"""

import argparse
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # a run leaves nothing in the tree

from conformance import check_conformance
from harness import DeadlineExceeded, Processes, Report
from lan import check_lan
from network import check_network
from peers import GETH_VERSION, ETHEREUMJS_VERSION, devp2p_path, devp2p_works, ethereumjs_dir, ethereumjs_works

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMESPACE = ["unshare", "--net"]
INSIDE = "KADNODE_INTEROP_INSIDE"


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs kadnode against other implementations of discv4.")
    parser.add_argument("binary", nargs="?", type=pathlib.Path, default=ROOT / "target/release/kadnode",
                        help="the kadnode to test (default: target/release/kadnode)")
    parser.add_argument("--runs", type=int, default=10, help="runs of geth's conformance suite (default: 10)")
    parser.add_argument("--only", choices=["conformance", "network", "lan"], help="a part of the checks, for development")
    parser.add_argument("--deadline", type=int, default=420, help="seconds for the whole run (default: 420)")
    parser.add_argument("--keep", type=pathlib.Path, help="where to keep the output of all processes")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be 1 or more")

    problem = missing_program(options.binary, options.only)
    if problem:
        print(f"interop: {problem}", file=sys.stderr)
        return 2
    if os.environ.get(INSIDE) != "1":
        enter_namespace()
    interfaces = [name for _, name in socket.if_nameindex()]
    if interfaces != ["lo"]:
        print(f"interop: the network namespace is not empty: {', '.join(interfaces)}", file=sys.stderr)
        return 2
    loopback_up()
    return run(options)


def missing_program(binary: pathlib.Path, only: str | None) -> str | None:
    if not os.access(binary, os.X_OK):
        return f"there is no {binary}: build it with `cargo build --release`"
    for program, package in (("unshare", "util-linux"), ("nsenter", "util-linux"), ("ip", "iproute2")):
        if shutil.which(program) is None:
            return f"there is no `{program}` in PATH (Debian package {package})"
    if only == "lan":
        return None
    if not devp2p_works(devp2p_path()):
        return f"devp2p {GETH_VERSION} is not installed: run tests/interop/install.py"
    if not ethereumjs_works(ethereumjs_dir()):
        return f"@ethereumjs/devp2p {ETHEREUMJS_VERSION} is not installed: run tests/interop/install.py"
    return None


def enter_namespace() -> None:
    """Starts this program anew, as the same process, in a network namespace of its own. Does not return. Where that
    cannot be made, `unshare` says so and ends with an error: there is no run without it."""
    sys.stdout.flush()
    os.environ[INSIDE] = "1"
    os.execvp(NAMESPACE[0], [*NAMESPACE, sys.executable, os.path.abspath(__file__), *sys.argv[1:]])


def loopback_up() -> None:
    """What `ip link set lo up` does."""
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, get_flags, request))[1]
        fcntl.ioctl(control, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def run(options: argparse.Namespace) -> int:
    def stop(*_) -> None:
        raise SystemExit(130)

    def deadline(*_) -> None:
        raise DeadlineExceeded(f"the whole run has had its {options.deadline} s")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, deadline)
    signal.alarm(options.deadline)

    binary = options.binary.resolve()
    report = Report(sys.stdout)
    with tempfile.TemporaryDirectory(prefix="kadnode-interop-") as temporary:
        directory = options.keep or pathlib.Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        processes = Processes(directory.resolve())
        try:
            if options.only in (None, "conformance"):
                check_conformance(report, binary, processes, options.runs)
            if options.only in (None, "network"):
                check_network(report, binary, processes, processes.directory)
            if options.only in (None, "lan"):
                check_lan(report, binary, processes, processes.directory)
        except DeadlineExceeded as error:
            report.over = True
            report.say("the run", False, str(error), time.monotonic())
        finally:
            signal.alarm(0)
            processes.kill_all()
    return report.summary()


if __name__ == "__main__":
    sys.exit(main())
