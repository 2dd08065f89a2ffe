"""Reads enode URLs and node records, as much of them as the tests need."""

import base64
import re
from dataclasses import dataclass

FIELD = 2**256 - 2**32 - 977  # the prime field of secp256k1


@dataclass(frozen=True)
class Contact:
    """A node: its public key as 128 hex digits, and where it is."""

    key: str
    host: str
    port: int

    def enode(self, port: int | None = None) -> str:
        return f"enode://{self.key}@{self.host}:{self.port if port is None else port}"


def contact_from_enode(url: str) -> Contact:
    match = re.fullmatch(r"enode://([0-9a-fA-F]{128})@([^:\s]+):(\d+)(?:\?discport=(\d+))?", url)
    if match is None:
        raise ValueError(f"not an enode URL: {url!r}")
    return Contact(match[1].lower(), match[2], int(match[4] or match[3]))


def contacts_in(text: str) -> set[Contact]:
    """Every node that a text names by an enode URL or a record."""
    enodes = re.findall(r"enode://[0-9a-fA-F]{128}@[0-9.]+:\d+(?:\?discport=\d+)?", text)
    records = re.findall(r"enr:[\w-]+", text)
    return {contact_from_enode(url) for url in enodes} | {contact_from_enr(record) for record in records}


def contact_from_enr(text: str) -> Contact:
    record = record_from_enr(text)
    host = ".".join(str(byte) for byte in record[b"ip"])
    return Contact(uncompressed(record[b"secp256k1"]), host, int.from_bytes(record[b"udp"], "big"))


def record_from_enr(text: str) -> dict[bytes, bytes]:
    """The key and value pairs of a node record. The signature is not checked."""
    if not text.startswith("enr:"):
        raise ValueError(f"not a node record: {text!r}")
    body = text[len("enr:"):]
    items, rest = rlp(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    if rest or not isinstance(items, list) or len(items) < 2 or len(items) % 2:
        raise ValueError(f"not a node record: {text!r}")
    return dict(zip(items[2::2], items[3::2]))


def uncompressed(key: bytes) -> str:
    """The 64 bytes of a public key that is given in its 33-byte form, as hex digits."""
    x = int.from_bytes(key[1:], "big")
    y = pow(x**3 + 7, (FIELD + 1) // 4, FIELD)
    if y % 2 != key[0] % 2:
        y = FIELD - y
    return f"{x:064x}{y:064x}"


def rlp(data: bytes):
    """Decodes one RLP item and returns it with the bytes behind it."""
    head = data[0]
    if head < 0x80:
        return data[:1], data[1:]
    base = 0xC0 if head >= 0xC0 else 0x80
    length, start = head - base, 1
    if length > 55:
        start = 1 + length - 55
        length = int.from_bytes(data[1:start], "big")
    body, rest = data[start:start + length], data[start + length:]
    if base == 0x80:
        return body, rest
    items = []
    while body:
        item, body = rlp(body)
        items.append(item)
    return items, rest
