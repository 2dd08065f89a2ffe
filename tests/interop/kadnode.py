"""A running kadnode, and its one-shot commands."""

import json
import pathlib

from contacts import Contact, contact_from_enode, contact_from_enr
from harness import CheckFailed, Processes, free_of_newline


class Kadnode:
    """`kadnode run`. Its log, as JSON on standard error, tells what its table holds."""

    def __init__(self, binary: pathlib.Path, processes: Processes, bootnodes: pathlib.Path | None = None,
                 log: bool = True):
        command = [str(binary), "--ephemeral", "--listen", "127.0.0.1:0"]
        if bootnodes is not None:
            command += ["--bootnodes", str(bootnodes)]
        if log:
            command += ["--log-format", "json", "-v"]
        self.process = processes.start("kadnode", command)
        self.contact: Contact | None = None

    def wait_ready(self, timeout: float) -> None:
        self.enode, self.enr = self.process.wait_lines(2, timeout)[:2]
        self.contact = contact_from_enode(self.enode)
        if contact_from_enr(self.enr) != self.contact:
            raise CheckFailed(f"the two lines of kadnode name different nodes: {self.enode} and {self.enr}")

    def table(self) -> dict[str, Contact]:
        """The nodes that its table holds now, by public key, as the log tells it."""
        held: dict[str, Contact] = {}
        for line in self.process.err.read_text(errors="replace").splitlines():
            event = log_event(line)
            if event.get("message") == "node added":
                contact = contact_from_enode(event["enode"])
                held[contact.key] = contact
            elif event.get("message") == "node removed":
                held.pop(contact_from_enode(event["enode"]).key, None)
        return held


def log_event(line: str) -> dict:
    """One line of the log; empty for what is not JSON, and for a line that is only half written."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def kadnode_command(binary: pathlib.Path, processes: Processes, *arguments: str, timeout: float = 15) -> str:
    """Runs a command that ends by itself and returns what it printed on standard output."""
    code, out, err = processes.run([str(binary), *arguments], timeout)
    if code != 0:
        raise CheckFailed(f"`kadnode {arguments[0]}` ended with code {code}: {free_of_newline(err or out)}")
    return out
