"""The nodes that are compared, each with the cores that it may use."""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from contacts import Contact
from harness import Process, Processes
from kadnode import Kadnode
from peers import DptNode, GethListener

GENERATOR_CORE, TARGET_CORE = 0, 1
START_TIMEOUT = 15  # seconds for a process to say that it listens

# The DPT of ethereumjs needs a bootstrap node. Nobody answers at this one.
NOBODY = "enode://" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798" \
                      "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8" + "@127.0.0.1:9"


@dataclass
class Target:
    """A running node."""

    name: str
    process: Process
    contact: Contact
    share: float  # of the requests that others get: a slow one would take an hour for all of them

    @property
    def pid(self) -> int:
        return self.process.child.pid

    def resident(self) -> tuple[float, float]:
        """The memory that it takes now, in MB: all, and without the pages of its program and libraries."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        kilobytes = dict(re.findall(r"^(\w+):\s*(\d+) kB$", status, re.MULTILINE))
        return tuple(int(kilobytes[name]) * 1024 / 1e6 for name in ("VmRSS", "RssAnon"))


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(name: str, binary: pathlib.Path, processes: Processes) -> Target:
    """Starts a node that knows nobody, and waits until it listens."""
    one, both = {TARGET_CORE}, {GENERATOR_CORE, TARGET_CORE}
    with on_cores(both if name in ("geth", "kadnode, 2 cores") else one):
        if name.startswith("kadnode"):
            empty = processes.directory / "empty.txt"
            empty.touch()
            node = Kadnode(binary, processes, empty, log=False)
        elif name == "ethereumjs":
            node = DptNode(processes, NOBODY)
        else:
            env = dict(os.environ, GOMAXPROCS="1") if name == "geth, 1 core" else None
            node = GethListener(processes, "", env)
    node.wait_ready(START_TIMEOUT)
    return Target(name, node.process, node.contact, 0.05 if name == "ethereumjs" else 1)
