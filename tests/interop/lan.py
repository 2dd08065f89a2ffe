"""Kadnodes in one LAN that are told nothing but `--lan`: a network namespace for each, and a bridge between them."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from contacts import Contact, contact_from_enode
from harness import CheckFailed, Process, Processes, Report, free_of_newline, wait_for
from kadnode import Kadnode, log_event

NODES = 3
PORT = 30303  # the default, which every node can have in a namespace of its own
START_TIMEOUT = 15  # seconds for a process to say that it listens, and for a namespace to be there
MUTUAL = 3  # seconds from the start of the last node until each must hold all others
MOVED = 60  # seconds for a known node at a new address: its old place must have failed a check first
NOTICED = 15  # seconds until a node has noticed that its host has another address; it looks every five
ENDED = 1.5  # seconds that an end may take


class Namespace:
    """A network namespace, which lives as long as a process that only sleeps in it."""

    def __init__(self, processes: Processes):
        self.holder = processes.start("namespace", ["unshare", "--net", "sleep", "infinity"])
        self.path = f"/proc/{self.holder.child.pid}/ns/net"
        own = os.readlink("/proc/self/ns/net")
        if not wait_for(lambda: self.is_other_than(own), time.monotonic() + START_TIMEOUT, 0.01):
            raise CheckFailed(f"no namespace: {free_of_newline(self.holder.err.read_text())}")
        self.ip("link", "set", "lo", "up")

    def is_other_than(self, own: str) -> bool:
        return self.holder.running() and os.readlink(self.path) != own

    def command(self, command: list[str]) -> list[str]:
        return ["nsenter", f"--net={self.path}", *command]

    def ip(self, *arguments: str) -> str:
        done = subprocess.run(self.command(["ip", *arguments]), capture_output=True, text=True, timeout=10)
        if done.returncode != 0:
            raise CheckFailed(f"`ip {' '.join(arguments)}`: {free_of_newline(done.stderr)}")
        return done.stdout


class Host(Namespace):
    """A namespace that is plugged into the bridge of another one."""

    def __init__(self, processes: Processes, switch: Namespace, number: int):
        super().__init__(processes)
        port = f"port{number}"
        switch.ip("link", "add", "name", port, "type", "veth",
                  "peer", "name", "eth0", "netns", str(self.holder.child.pid))
        switch.ip("link", "set", port, "master", "br0", "up")
        self.ip("link", "set", "eth0", "up")
        self.address = ""
        self.move(f"10.66.0.{number}")
        if not wait_for(lambda: "state UP" in self.ip("link", "show", "eth0"), time.monotonic() + START_TIMEOUT, 0.02):
            raise CheckFailed("eth0 does not come up")

    def move(self, address: str) -> None:
        self.ip("addr", "flush", "dev", "eth0")
        self.ip("addr", "add", f"{address}/24", "dev", "eth0")
        # By the way out a node sees which address is its own.
        self.ip("route", "add", "default", "dev", "eth0")
        self.address = address


class LanNode(Kadnode):
    """`kadnode --lan` on a host, with the log that tells what it does."""

    def __init__(self, binary: pathlib.Path, processes: Processes, host: Namespace, address: str, *more: str):
        self.host, self.address = host, address
        options = ["--log-format", "json", "-v", *(more or ("--ephemeral",))]
        self.process = processes.start("kadnode", host.command([str(binary), "--lan", *options]))
        self.contact = None

    def wait_ready(self, timeout: float) -> None:
        # It listens on all addresses and does not know which of them is its own: what it prints is right but for that.
        printed = contact_from_enode(self.process.wait_lines(1, timeout)[0])
        self.contact = Contact(printed.key, self.address, printed.port)

    def log(self, level: str | None = None) -> list[str]:
        """The messages so far, those of one level or all."""
        events = map(log_event, self.process.err.read_text(errors="replace").splitlines())
        return [event["message"] for event in events if "message" in event and level in (None, event.get("level"))]


class Lan:
    def __init__(self, binary: pathlib.Path, processes: Processes, directory: pathlib.Path):
        self.binary, self.processes, self.directory = binary, processes, directory
        self.hosts: list[Host] = []
        self.nodes: list[LanNode] = []

    def build(self) -> str:
        switch = Namespace(self.processes)
        switch.ip("link", "add", "name", "br0", "type", "bridge")
        switch.ip("link", "set", "br0", "up")
        self.hosts = [Host(self.processes, switch, number + 1) for number in range(NODES)]
        return f"{NODES} namespaces on one bridge"

    def require(self) -> None:
        if len(self.hosts) < NODES:
            raise CheckFailed("there is no LAN")

    def start(self, number: int, *more: str) -> LanNode:
        host = self.hosts[number]
        return LanNode(self.binary, self.processes, host, host.address, *more)

    def find_one_another(self) -> str:
        self.nodes = [self.start(number) for number in range(NODES)]
        started = time.monotonic()
        figures = self.wait_mutual(started, MUTUAL)
        for node in self.nodes:
            said = node.log("INFO")
            if said.count("looking for nodes in the LAN (mDNS)") != 1:
                raise CheckFailed(f"it does not say once that it looks for nodes in the LAN: {said}")
            if not wait_for(lambda: found_in(node.log("INFO")) == 1, started + MUTUAL, 0.02):
                raise CheckFailed(f"it names {found_in(node.log('INFO'))} nodes of the LAN at level info, and not one")
            if any("mainnet" in message for message in node.log()):
                raise CheckFailed("it asks the public bootnodes, which it was not told of")
            if node.log("WARN"):
                raise CheckFailed(f"it warns: {node.log('WARN')}")
        return figures

    def killed_and_back(self) -> str:
        """A new node, as an ephemeral one is, at another address of the same host."""
        self.nodes.pop().process.kill()
        self.hosts[2].move("10.66.0.77")
        self.nodes.append(self.start(2))
        return self.wait_mutual(time.monotonic(), MUTUAL)

    def same_node_elsewhere(self) -> str:
        """One with its key: the others have to take it to its new place. It finds them at once."""
        data = ("--data-dir", str(self.directory / "lan-node"))
        self.nodes.pop().process.stop(START_TIMEOUT)
        self.nodes.append(self.start(2, *data))
        self.wait_mutual(time.monotonic(), MUTUAL)
        self.nodes.pop().process.kill()
        self.hosts[2].move("10.66.0.88")
        self.nodes.append(self.start(2, *data))
        started = time.monotonic()
        self.nodes[2].wait_ready(START_TIMEOUT)
        others = [node.contact for node in self.nodes[:2]]
        if not wait_for(lambda: not lacks(self.nodes[2], others), started + MUTUAL, 0.02):
            raise CheckFailed(f"it lacks {lacks(self.nodes[2], others)}")
        finds = time.monotonic() - started
        return f"it holds the others after {finds:.2f} s, and each is known to each: {self.wait_mutual(started, MOVED)}"

    def moves_while_it_runs(self) -> str:
        """A laptop in another network: it notices, and proves itself anew before anybody asks."""
        node = self.nodes[2]
        self.hosts[2].move("10.66.0.99")
        moved = time.monotonic()
        node.address = "10.66.0.99"
        if not wait_for(lambda: f"this host has another address now: {node.address}" in node.log("INFO"),
                        moved + NOTICED, 0.02):
            raise CheckFailed("it does not notice")
        noticed = time.monotonic() - moved
        return f"noticed after {noticed:.2f} s; {self.wait_mutual(moved, MOVED)}"

    def clean_end(self) -> str:
        """It says goodbye, and the others forget what they have announced of it."""
        code, seconds = self.nodes[2].process.stop(START_TIMEOUT)
        if code != 0 or seconds > ENDED:
            raise CheckFailed(f"it ended with code {code} after {seconds:.2f} s")
        others = self.nodes[:2]
        if not wait_for(lambda: all("gone from the LAN" in node.log() for node in others), time.monotonic() + MUTUAL):
            raise CheckFailed("the others do not hear its goodbye")
        return f"code 0 after {seconds:.2f} s, and the others know that it is gone"

    def loopback_alone(self) -> str:
        """Nodes that are bound to 127.0.0.1 of one host find one another as well, and nobody else hears of them."""
        host = Namespace(self.processes)
        options = ("--ephemeral", "--listen", "127.0.0.1:0")
        self.nodes = [LanNode(self.binary, self.processes, host, "127.0.0.1", *options) for _ in range(NODES)]
        return self.wait_mutual(time.monotonic(), MUTUAL)

    def no_network(self) -> str:
        """One sentence, and the node runs on."""
        host = Namespace(self.processes)
        return self.warns(host, "no network interface but loopback takes part in multicast")

    def port_taken(self) -> str:
        host = Host(self.processes, self.switch_of_its_own(), 9)
        hog = self.processes.start("hog", host.command(["python3", "-c", HOG]))
        hog.wait_lines(1, START_TIMEOUT)
        return self.warns(host, "UDP port 5353 is held by another program that does not share it")

    def switch_of_its_own(self) -> Namespace:
        switch = Namespace(self.processes)
        switch.ip("link", "add", "name", "br0", "type", "bridge")
        switch.ip("link", "set", "br0", "up")
        return switch

    def warns(self, host: Namespace, expected: str) -> str:
        node = LanNode(self.binary, self.processes, host, "127.0.0.1")
        node.wait_ready(START_TIMEOUT)
        if not wait_for(lambda: node.log("WARN"), time.monotonic() + START_TIMEOUT, 0.05):
            raise CheckFailed("it does not warn")
        warnings = node.log("WARN")
        code, seconds = node.process.stop(START_TIMEOUT)
        if len(warnings) != 1 or expected not in warnings[0]:
            raise CheckFailed(f"it warns: {warnings}")
        if code != 0 or seconds > ENDED:
            raise CheckFailed(f"it ended with code {code} after {seconds:.2f} s")
        return warnings[0]

    def wait_mutual(self, started: float, seconds: float) -> str:
        for node in self.nodes:
            node.wait_ready(START_TIMEOUT)
        everyone = [node.contact for node in self.nodes]
        if not wait_for(lambda: not any(lacks(node, everyone) for node in self.nodes), started + seconds, 0.01):
            gaps = [f"node {number} lacks {gap}" for number, node in enumerate(self.nodes)
                    if (gap := lacks(node, everyone))]
            raise CheckFailed(f"after {seconds} s: {'; '.join(gaps)}")
        return f"{len(everyone)} nodes hold one another after {time.monotonic() - started:.2f} s"


# Takes the mDNS port without sharing it, and says so.
HOG = """
import socket, time
taken = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
taken[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
for one, anywhere in zip(taken, ("0.0.0.0", "::")):
    one.bind((anywhere, 5353))
print("taken", flush=True)
time.sleep(600)
"""


def found_in(messages: list[str]) -> int:
    return sum(message.startswith("found a node in the LAN") for message in messages)


def lacks(node: LanNode, everyone: list[Contact]) -> list[str]:
    """The addresses of the others that it does not hold."""
    held = node.table()
    return [contact.host for contact in everyone if contact != node.contact and held.get(contact.key) != contact]


def check_lan(report: Report, binary: pathlib.Path, processes: Processes, directory: pathlib.Path) -> None:
    lan = Lan(binary, processes, directory)
    report.check("lan: a LAN", lan.build)
    check = report.check_with(lan.require)
    check("lan: nodes find one another", lan.find_one_another)
    check("lan: killed, and back at another address", lan.killed_and_back)
    check("lan: the same node at another address", lan.same_node_elsewhere)
    check("lan: a node that moves while it runs", lan.moves_while_it_runs)
    check("lan: an end in order", lan.clean_end)
    check("lan: loopback alone", lan.loopback_alone)
    check("lan: without a network", lan.no_network)
    check("lan: with the port taken", lan.port_taken)
