"""geth's conformance suite for discv4, run against kadnode."""

import pathlib
import re

from harness import CheckFailed, Processes, Report, free_of_newline
from kadnode import Kadnode
from peers import devp2p_test

TESTS = 15
RUN_TIMEOUT = 60  # seconds; a run takes 2.2, most of it spent on waiting for answers that must not come
STOP_TIMEOUT = 2  # seconds from SIGTERM to the end, as the command line promises


def check_conformance(report: Report, binary: pathlib.Path, processes: Processes, runs: int) -> None:
    """Several runs against one kadnode with nothing but a listen address, then one against a new kadnode."""
    node = Kadnode(binary, processes, log=False)

    def ready() -> str:
        node.wait_ready(10)
        return node.contact.enode()

    report.check("conformance: kadnode starts", ready)
    for number in range(1, runs + 1):
        report.check(f"conformance: run {number} of {runs}", lambda: suite(node, processes))
    report.check("conformance: kadnode ends when it is asked to", lambda: stop(node))

    fresh = Kadnode(binary, processes, log=False)

    def run_fresh() -> str:
        fresh.wait_ready(10)
        return suite(fresh, processes)

    report.check("conformance: run against a new process", run_fresh)
    fresh.process.kill()


def require(node: Kadnode) -> None:
    if node.contact is None:
        raise CheckFailed("kadnode has not started")


def suite(node: Kadnode, processes: Processes) -> str:
    require(node)
    code, output = devp2p_test(processes, node.contact.enode(), RUN_TIMEOUT)
    passed = re.findall(r"^-- OK (\S+)", output, re.MULTILINE)
    failed = re.findall(r"^-- FAIL (\S+)", output, re.MULTILINE)
    total = re.search(r"^(\d+)/(\d+) tests passed", output, re.MULTILINE)
    if not node.process.running():
        raise CheckFailed(f"kadnode ended with code {node.process.child.returncode} during the run")
    if failed:
        raise CheckFailed(f"{len(passed)} of {TESTS} tests; failed: {', '.join(failed)}: {reasons(output)}")
    if code != 0 or len(passed) != TESTS or total is None or total.groups() != (str(TESTS), str(TESTS)):
        raise CheckFailed(f"exit code {code}, {len(passed)} of {TESTS} tests: {free_of_newline(output)}")
    return f"{len(passed)} of {TESTS} tests"


def reasons(output: str) -> str:
    """What the suite says about its failures: the indented lines."""
    return " | ".join(line.strip() for line in output.splitlines() if line.startswith(" "))


def stop(node: Kadnode) -> str:
    require(node)
    code, seconds = node.process.stop(STOP_TIMEOUT)
    if code is None:
        raise CheckFailed(f"it still ran {seconds:.1f} s after SIGTERM")
    if code != 0:
        raise CheckFailed(f"exit code {code} after SIGTERM")
    return f"exit code 0, {seconds * 1000:.0f} ms after SIGTERM"
