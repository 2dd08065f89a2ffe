"""One network of kadnodes, geth's nodes and ethereumjs's nodes on loopback, and what each can do with the others."""

import json
import pathlib
import time

from contacts import Contact, contact_from_enr, contacts_in
from harness import CheckFailed, Processes, Report, silent_port, wait_for
from kadnode import Kadnode, kadnode_command
from peers import DptNode, GethListener, devp2p

KADNODES, GETHS, DPTS = 10, 3, 3
START_TIMEOUT = 15  # seconds for a process to say that it listens
CONVERGENCE = 30  # seconds from the start of the last node until the tables must be complete
CRAWL = "20s"


class Network:
    """The running nodes. The first kadnode is the bootstrap node of all the others."""

    def __init__(self, binary: pathlib.Path, processes: Processes, directory: pathlib.Path):
        self.binary, self.processes, self.directory = binary, processes, directory
        self.kadnodes: list[Kadnode] = []
        self.geths: list[GethListener] = []
        self.dpts: list[DptNode] = []

    def start(self) -> str:
        boot = Kadnode(self.binary, self.processes)
        boot.wait_ready(START_TIMEOUT)
        bootnodes = self.directory / "bootnodes.txt"
        bootnodes.write_text(boot.enode + "\n")
        kadnodes = [boot] + [Kadnode(self.binary, self.processes, bootnodes) for _ in range(KADNODES - 1)]
        geths = [GethListener(self.processes, boot.enode) for _ in range(GETHS)]
        dpts = [DptNode(self.processes, boot.enode) for _ in range(DPTS)]
        for node in kadnodes[1:] + geths + dpts:
            node.wait_ready(START_TIMEOUT)
        self.started = time.monotonic()
        self.kadnodes, self.geths, self.dpts = kadnodes, geths, dpts
        return f"{len(kadnodes)} kadnodes, {len(geths)} geth nodes, {len(dpts)} ethereumjs nodes"

    def require(self) -> None:
        if not self.dpts:
            raise CheckFailed("there is no network")
        ended = [node.process.name for node in self.nodes() if not node.process.running()]
        if ended:
            raise CheckFailed(f"nodes of the network have ended: {', '.join(ended)}")

    def nodes(self) -> list:
        return self.kadnodes + self.geths + self.dpts

    def label(self, key: str) -> str:
        for kind, nodes in (("kadnode", self.kadnodes), ("geth", self.geths), ("ethereumjs", self.dpts)):
            for number, node in enumerate(nodes):
                if node.contact.key == key:
                    return f"{kind} {number}"
        return key[:16]

    # The checks, which need a network that has started. Each returns its figures or raises.

    def tables_complete(self) -> str:
        """Every kadnode holds every other node."""
        everyone = [node.contact for node in self.nodes()]
        until = self.started + CONVERGENCE
        seconds: dict[int, float] = {}

        def complete() -> bool:
            for number, node in enumerate(self.kadnodes):
                if number not in seconds and not missing(node.table(), node.contact, everyone):
                    seconds[number] = time.monotonic() - self.started
            return len(seconds) == len(self.kadnodes)

        if not wait_for(complete, until, 0.25):
            self.raise_for_missing(len(seconds), everyone)
        return (f"{len(seconds)} of {len(self.kadnodes)} kadnodes hold all {len(everyone) - 1} others, "
                f"the last {max(seconds.values()):.1f} s after the start")

    def tables_still_complete(self) -> str:
        """Nothing that the other checks do makes a kadnode lose a live node."""
        everyone = [node.contact for node in self.nodes()]
        good = sum(not missing(node.table(), node.contact, everyone) for node in self.kadnodes)
        if good < len(self.kadnodes):
            self.raise_for_missing(good, everyone)
        return f"{good} of {len(self.kadnodes)} kadnodes, {time.monotonic() - self.started:.0f} s after the start"

    def raise_for_missing(self, good: int, everyone: list[Contact]) -> None:
        gaps = []
        for number, node in enumerate(self.kadnodes):
            lacks = missing(node.table(), node.contact, everyone)
            if lacks:
                gaps.append(f"kadnode {number} lacks {', '.join(self.label(key) for key in lacks)}")
        raise CheckFailed(f"{good} of {len(self.kadnodes)} kadnodes hold everyone; {'; '.join(gaps)}")

    def dpt_knows_kadnodes(self) -> str:
        """ethereumjs dials back whoever pings it, so each DPT comes to hold the kadnodes."""
        kadnodes = [node.contact for node in self.kadnodes]
        wait_for(lambda: all(not missing(dpt.peers(), dpt.contact, kadnodes) for dpt in self.dpts),
                 self.started + CONVERGENCE)
        held = [len(kadnodes) - len(missing(dpt.peers(), dpt.contact, kadnodes)) for dpt in self.dpts]
        figures = f"{', '.join(map(str, held))} of {len(kadnodes)} kadnodes in the three tables"
        if min(held) < len(kadnodes):
            raise CheckFailed(figures)
        return figures

    def geth_ping(self) -> str:
        out = self.devp2p("ping", self.kadnodes[1].enode)
        if "responded to ping" not in out:
            raise CheckFailed(out.strip())
        return out.strip()

    def geth_requestenr(self) -> str:
        for number, node in enumerate(self.kadnodes):
            record = self.devp2p("requestenr", node.enode).strip()
            if record != node.enr:
                raise CheckFailed(f"kadnode {number} answered {record} and had printed {node.enr}")
        return f"{len(self.kadnodes)} of {len(self.kadnodes)} kadnodes answered the record that they had printed"

    def geth_resolve(self, target: Contact) -> str:
        """Only the key of the node is right: the port is one where nobody answers."""
        through = self.kadnodes[2]
        with silent_port() as port:
            out = self.devp2p("resolve", target.enode(port), bootnode=through.enode, timeout=60).strip()
        if not out.startswith("enr:") or contact_from_enr(out) != target:
            raise CheckFailed(f"{self.label(target.key)} is at port {target.port}; the answer was {out}")
        return f"{self.label(target.key)} found at port {target.port} through {self.label(through.contact.key)}"

    def geth_crawl(self) -> str:
        file = self.directory / "crawl.json"
        self.devp2p("crawl", "-timeout", CRAWL, str(file), bootnode=self.kadnodes[3].enode, timeout=60)
        found = {}
        for entry in json.loads(file.read_text()).values():
            if entry.get("score", 0) > 0 and entry["record"].startswith("enr:"):
                contact = contact_from_enr(entry["record"])
                found[contact.key] = contact
        wanted = [node.contact for node in self.kadnodes + self.geths]
        lacks = missing(found, None, wanted)
        if lacks:
            raise CheckFailed(f"{len(wanted) - len(lacks)} of {len(wanted)} nodes with a record; it lacks "
                              f"{', '.join(self.label(key) for key in lacks)}")
        return f"{len(wanted)} of {len(wanted)} nodes with a record, in a crawl of {CRAWL}"

    def kadnode_ping(self, target: Contact) -> str:
        out = self.kadnode("ping", target.enode())
        return f"{self.label(target.key)} answered: {one_line(out)}"

    def kadnode_enr(self) -> str:
        geth = self.geths[0]
        out = self.kadnode("enr", geth.contact.enode())
        if geth.enr not in out.split():
            raise CheckFailed(f"geth had printed {geth.enr}; the answer was {one_line(out)}")
        return "the record that geth had printed"

    def kadnode_lookup(self) -> str:
        target, through = self.kadnodes[4].contact, self.geths[1].contact
        out = self.kadnode("lookup", target.key, "--bootnode", through.enode(), "--json")
        found = contacts_in(json.dumps(json_values(out)))
        if target not in found:
            raise CheckFailed(f"{self.label(target.key)} at port {target.port} is not in the answer: {one_line(out)}")
        return f"{self.label(target.key)} found through {self.label(through.key)}, {len(found)} nodes in the answer"

    def kadnode_resolve(self) -> str:
        target, through = self.geths[2], self.kadnodes[5]
        with silent_port() as port:
            out = self.kadnode("resolve", target.contact.enode(port), "--bootnode", through.enode)
        if target.contact not in contacts_in(out):
            raise CheckFailed(f"geth 2 is at port {target.contact.port}; the answer was {one_line(out)}")
        return f"geth 2 found at port {target.contact.port} through {self.label(through.contact.key)}"

    def devp2p(self, subcommand: str, *arguments: str, timeout: float = 20, bootnode: str = "") -> str:
        return devp2p(self.processes, subcommand, *arguments, timeout=timeout, bootnode=bootnode)

    def kadnode(self, *arguments: str) -> str:
        return kadnode_command(self.binary, self.processes, *arguments)


def missing(held: dict[str, Contact], oneself: Contact | None, wanted: list[Contact]) -> list[str]:
    """The keys of the wanted nodes, other than oneself, that are not held at their true place."""
    return [contact.key for contact in wanted if contact != oneself and held.get(contact.key) != contact]


def one_line(text: str) -> str:
    return " | ".join(text.strip().splitlines())[:300]


def json_values(text: str) -> list:
    """What a command printed: one JSON value, or one on each line."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def check_network(report: Report, binary: pathlib.Path, processes: Processes, directory: pathlib.Path) -> None:
    network = Network(binary, processes, directory)
    check = report.check_with(network.require)
    report.check("network: all nodes start", network.start)
    check("network: the tables of the kadnodes", network.tables_complete)
    check("network: the tables of the ethereumjs nodes", network.dpt_knows_kadnodes)
    check("devp2p ping", network.geth_ping)
    check("devp2p requestenr", network.geth_requestenr)
    check("devp2p resolve of a geth node", lambda: network.geth_resolve(network.geths[0].contact))
    check("devp2p resolve of a kadnode", lambda: network.geth_resolve(network.kadnodes[9].contact))
    check("devp2p crawl", network.geth_crawl)
    check("kadnode ping of a geth node", lambda: network.kadnode_ping(network.geths[0].contact))
    check("kadnode ping of an ethereumjs node", lambda: network.kadnode_ping(network.dpts[0].contact))
    check("kadnode enr", network.kadnode_enr)
    check("kadnode lookup", network.kadnode_lookup)
    check("kadnode resolve", network.kadnode_resolve)
    check("network: the tables of the kadnodes at the end", network.tables_still_complete)
