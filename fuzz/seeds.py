#!/usr/bin/env python3
"""Writes the seeds that are made of published things into fuzz/corpus: the packets of EIP-8 (from the tests of the wire
format), the record of EIP-778 (from the tests of records), the lines of bootnodes.txt, and spellings of them.

The other files in fuzz/corpus were found by the fuzzers; see fuzz/README.md.
"""

import base64
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
# Hash, signature and type stand before the payload.
HEADER = 32 + 65 + 1


def write(target, name, content):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def packets():
    text = (ROOT / "src/proto/wire/tests.rs").read_text()
    found = re.findall(r'^    "([0-9a-f]{200,})",$', text, re.MULTILINE)
    assert len(found) == 5, "the five packets of EIP-8 are no longer where they were"
    for number, packet in enumerate(map(bytes.fromhex, found), 1):
        write("packet_open", f"eip_8_{number}", packet)
        write("message", f"eip_8_{number}", packet[HEADER:])


def contacts():
    text = (ROOT / "bootnodes.txt").read_text()
    lines = [line for line in text.splitlines() if line.startswith("en")]
    urls = [line for line in lines if line.startswith("enode:")]
    records = [line for line in lines if line.startswith("enr:")]
    records += re.findall(r'EXAMPLE: &str = "(enr:[^"]+)"', (ROOT / "src/proto/identity/record.rs").read_text())
    assert len(records) == 6 and len(urls) == 4
    for number, record in enumerate(records, 1):
        base = record.removeprefix("enr:")
        write("record", f"text_{number}", record.encode())
        write("record", f"bytes_{number}", base64.urlsafe_b64decode(base + "=" * (-len(base) % 4)))
    key = urls[0][: urls[0].index("@") + 1]
    urls += [
        key + rest
        for rest in (
            "127.0.0.1:0?discport=31301",
            "[2a00::1]:30303?discport=30304",
            "[::ffff:1.2.3.4]:1",
            "boot_1.example.org.:30303",
            "1.2.3:30303",
            "1.2.3.4:70000?port=1",
        )
    ]
    for number, url in enumerate(urls, 1):
        write("enode", f"url_{number}", url.encode())
    write("bootnodes", "shipped", text.encode())
    odd = ["\ufeff" + urls[0], "# a comment", "", f"  {records[0]}\t# the rest", f"{urls[1]}#x", "enr:abc", "x" * 1100]
    write("bootnodes", "odd", "\r\n".join(odd + urls[4:]).encode() + b"\n\xff\xfe")


packets()
contacts()
