#!/usr/bin/env python3
"""A wide-area network on one machine: two network namespaces, and a relay between them that delays and loses packets.

    benches/compare/relay.py --check       measures the network with probes, idle and under load

Each namespace has one address, on a TUN device that ends here. A packet from one to the other takes `delay`, plus or
minus `jitter` (each packet for itself, so that packets overtake one another), and is lost with the probability `loss`;
what happens to the nth packet of a direction follows from the seed. It takes root, and nothing can leave the machine:
the namespaces have no other device than loopback.

As a program of its own it prints where the namespaces are and relays until its standard input ends; `Relay` runs it so.
"""

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
DEVICE = "wan0"
NEAR, FAR = "10.77.0.1", "10.77.0.2"
MAX_PACKET = 65536
MAX_ON_THE_WAY = 100_000  # packets; further ones are lost, as in a router whose queue is full
START_TIMEOUT = 10  # seconds

LIBC = ctypes.CDLL(None, use_errno=True)


class Relay:
    """The two namespaces and the relay between them, for as long as the `with` block lasts."""

    def __init__(self, delay: float = 50, jitter: float = 10, loss: float = 1, seed: int = 1):
        """Delay and jitter in milliseconds each way, the loss in per cent."""
        self.settings = [f"--delay={delay}", f"--jitter={jitter}", f"--loss={loss}", f"--seed={seed}"]

    def __enter__(self) -> "Relay":
        self.child = subprocess.Popen([sys.executable, os.path.abspath(__file__), *self.settings],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = bool(select.select([self.child.stdout], [], [], START_TIMEOUT)[0])
        self.namespaces = self.child.stdout.readline().split() if ready else []
        if len(self.namespaces) != 2:
            self.__exit__()
            raise OSError("the relay did not start; it needs root, /dev/net/tun and `ip`")
        return self

    def __exit__(self, *_) -> None:
        self.child.stdin.close()
        try:
            self.child.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def near(self, command: list[str]) -> list[str]:
        """The command that runs `command` in the first namespace, whose address is NEAR."""
        return [*inside(self.namespaces[0]), *command]

    def far(self, command: list[str]) -> list[str]:
        """The command that runs `command` in the second namespace, whose address is FAR."""
        return [*inside(self.namespaces[1]), *command]


def inside(namespace: str) -> list[str]:
    return ["nsenter", f"--net={namespace}", "--"]


# The relay.


def relay(options: argparse.Namespace) -> None:
    ends = [open_end(NEAR, FAR), open_end(FAR, NEAR)]
    print(*(f"/proc/{os.getpid()}/fd/{namespace}" for namespace, _ in ends), flush=True)
    tuns = [tun for _, tun in ends]
    ways = {tun: (other, random.Random(f"{options.seed} {way}"))
            for way, (tun, other) in enumerate(zip(tuns, reversed(tuns)))}
    delay, jitter, loss = options.delay / 1000, options.jitter / 1000, options.loss / 100
    on_the_way: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait = max(0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        readable = select.select([*tuns, sys.stdin], [], [], wait)[0]
        if sys.stdin in readable and not os.read(sys.stdin.fileno(), 4096):
            return
        for tun in readable:
            if tun == sys.stdin:
                continue
            packet = read_packet(tun)
            # The kernel sends IPv6 packets of its own, which belong to nobody's traffic.
            if not packet or packet[0] >> 4 != 4:
                continue
            count += 1
            other, chance = ways[tun]
            lost, late = chance.random() < loss, chance.uniform(-jitter, jitter)
            if not lost and len(on_the_way) < MAX_ON_THE_WAY:
                at = time.monotonic() + max(0, delay + late)
                heapq.heappush(on_the_way, (at, count, other, packet))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, _, other, packet = heapq.heappop(on_the_way)
            with contextlib.suppress(OSError):  # a full device, or one that is down, loses packets as well
                os.write(other, packet)


def read_packet(tun: int) -> bytes:
    try:
        return os.read(tun, MAX_PACKET)
    except OSError:
        return b""


def open_end(address: str, peer: str) -> tuple[int, int]:
    """Moves to a new network namespace with the device in it. Returns the namespace and the device."""
    if LIBC.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace can be made; it takes root")
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    for command in (["link", "set", "lo", "up"],
                    ["address", "add", address, "peer", peer, "dev", DEVICE],
                    ["link", "set", DEVICE, "up"]):
        subprocess.run(["ip", *command], check=True, stdin=subprocess.DEVNULL)
    return namespace, tun


# The check: an echo at the far end, and probes from the near end.

ECHO = """
import socket, sys
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind((sys.argv[1], 0))
print(echo.getsockname()[1], flush=True)
while True:
    data, sender = echo.recvfrom(2048)
    echo.sendto(data, sender)
"""


def check() -> None:
    """Prints round trips for several rates of probes."""
    print("| probes a second | probes | lost | median | p90 | longest |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    with Relay() as network:
        echo = subprocess.Popen(network.far([sys.executable, "-c", ECHO, FAR]), stdout=subprocess.PIPE, text=True)
        try:
            port = int(echo.stdout.readline())
            for rate, number in [(10, 100), (300, 3000), (1000, 5000)]:
                done = subprocess.run(network.near([sys.executable, os.path.abspath(__file__), "--probe", FAR,
                                                    str(port), str(rate), str(number)]),
                                      stdout=subprocess.PIPE, text=True, check=True, timeout=60)
                print(done.stdout, end="", flush=True)
        finally:
            echo.kill()
            echo.wait()


def probe(host: str, port: int, rate: int, number: int) -> None:
    """Sends probes at a rate, waits a second for the last ones, and prints a row about their round trips."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((host, port))
        start, sent, trips = time.monotonic(), 0, []
        end = start + number / rate + 1
        while len(trips) < number and time.monotonic() < end:
            while sent < number and time.monotonic() >= start + sent / rate:
                sender.send(struct.pack("d", time.monotonic()).ljust(100))
                sent += 1
            due = start + sent / rate if sent < number else end
            if select.select([sender], [], [], max(0, due - time.monotonic()))[0]:
                sent_at = struct.unpack_from("d", sender.recv(2048))[0]
                trips.append(time.monotonic() - sent_at)
    trips.sort()
    median, p90, longest = (trips[min(int(len(trips) * share), len(trips) - 1)] * 1000 for share in (0.5, 0.9, 1))
    lost = 100 * (1 - len(trips) / number)
    print(f"| {rate} | {number} | {lost:.1f} % | {median:.1f} ms | {p90:.1f} ms | {longest:.1f} ms |")


def main() -> int:
    parser = argparse.ArgumentParser(description="A wide-area network between two network namespaces.")
    parser.add_argument("--delay", type=float, default=50, help="milliseconds each way (default: 50)")
    parser.add_argument("--jitter", type=float, default=10, help="milliseconds more or less (default: 10)")
    parser.add_argument("--loss", type=float, default=1, help="per cent of packets lost (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="decides which are lost, and the jitter (default: 1)")
    parser.add_argument("--check", action="store_true", help="measure the network and end")
    parser.add_argument("--probe", nargs=4, metavar=("HOST", "PORT", "RATE", "NUMBER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.check:
            check()
        elif options.probe:
            host, *numbers = options.probe
            probe(host, *map(int, numbers))
        else:
            relay(options)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"relay: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
