"""The programs that kadnode is tested against: which versions, where they are, how to install and run them."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from contacts import Contact, contact_from_enr
from harness import CheckFailed, Processes, free_of_newline

HERE = pathlib.Path(__file__).resolve().parent

# The newest released version when this was written; it needs Go 1.25 or newer.
GETH_VERSION = "v1.17.10"
GETH_TOOL = "github.com/ethereum/go-ethereum/cmd/devp2p"
ETHEREUMJS_VERSION = json.loads((HERE / "package.json").read_text())["dependencies"]["@ethereumjs/devp2p"]

# Compiling devp2p from nothing took 3 minutes on two cores; a slow machine gets several times that.
GETH_INSTALL_TIMEOUT = 20 * 60
ETHEREUMJS_INSTALL_TIMEOUT = 5 * 60


class InstallError(Exception):
    """A peer could not be installed; the text says which and why."""


def cache_dir() -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "kadnode-interop"


def devp2p_path() -> pathlib.Path:
    return cache_dir() / f"devp2p-{GETH_VERSION}" / "devp2p"


def ethereumjs_dir() -> pathlib.Path:
    return cache_dir() / f"ethereumjs-devp2p-{ETHEREUMJS_VERSION}"


# Installing. Both write beside the final place and move into it last, so that what is there is complete.


def install_devp2p() -> str:
    target = devp2p_path()
    if devp2p_works(target):
        return f"devp2p {GETH_VERSION} is installed"
    need("go", "Go 1.25 or newer", f"devp2p {GETH_VERSION}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as work:
        env = dict(os.environ, GOBIN=work)
        install_command(f"devp2p {GETH_VERSION}", ["go", "install", f"{GETH_TOOL}@{GETH_VERSION}"],
                        GETH_INSTALL_TIMEOUT, env=env)
        os.replace(os.path.join(work, "devp2p"), target)
    if not devp2p_works(target):
        raise InstallError(f"devp2p {GETH_VERSION} was installed and does not run")
    return f"devp2p {GETH_VERSION} installed"


def install_ethereumjs() -> str:
    target = ethereumjs_dir()
    name = f"@ethereumjs/devp2p {ETHEREUMJS_VERSION}"
    if ethereumjs_works(target):
        return f"{name} is installed"
    need("node", "Node.js 18 or newer", name)
    need("npm", "npm", name)
    cache_dir().mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(dir=cache_dir()))
    try:
        for file in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(HERE / file, work / file)
        install_command(name, ["npm", "ci", "--ignore-scripts"], ETHEREUMJS_INSTALL_TIMEOUT, cwd=work)
        work.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        os.replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not ethereumjs_works(target):
        raise InstallError(f"{name} was installed and cannot be loaded")
    return f"{name} installed"


def devp2p_works(path: pathlib.Path) -> bool:
    return path.is_file() and runs([str(path), "discv4", "test", "--help"])


def ethereumjs_works(path: pathlib.Path) -> bool:
    lock = path / "package-lock.json"
    if not lock.is_file() or lock.read_bytes() != (HERE / "package-lock.json").read_bytes():
        return False
    script = "process.exit(typeof require('@ethereumjs/devp2p').DPT === 'function' ? 0 : 1)"
    return runs(["node", "-e", script], env=node_env(path))


def runs(command: list[str], env: dict[str, str] | None = None) -> bool:
    try:
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def need(program: str, what: str, for_what: str) -> None:
    if shutil.which(program) is None:
        raise InstallError(f"{for_what} needs {what}, and there is no `{program}` in PATH")


def install_command(name: str, command: list[str], timeout: float, **options) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=timeout, **options)
    except subprocess.TimeoutExpired:
        raise InstallError(f"{name} could not be installed: no end of `{' '.join(command)}` in {timeout:.0f} s")
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise InstallError(f"{name} could not be installed: `{' '.join(command)}` ended with code "
                           f"{done.returncode}:\n{tail}")


def node_env(path: pathlib.Path) -> dict[str, str]:
    return dict(os.environ, NODE_PATH=str(path / "node_modules"))


# Running.


class GethListener:
    """`devp2p discv4 listen`: geth's discovery node. It prints its record once it listens."""

    def __init__(self, processes: Processes, bootnode: str, env: dict[str, str] | None = None):
        command = [str(devp2p_path()), "discv4", "listen", "-bootnodes", bootnode, "-addr", "127.0.0.1:0"]
        self.process = processes.start("devp2p listen", command, env)

    def wait_ready(self, timeout: float) -> None:
        self.enr = self.process.wait_lines(1, timeout)[0]
        self.contact: Contact = contact_from_enr(self.enr)


class DptNode:
    """The DPT of @ethereumjs/devp2p, run by dpt.cjs, which prints its peers whenever they change."""

    def __init__(self, processes: Processes, bootnode: str):
        self.process = processes.start("ethereumjs DPT", ["node", str(HERE / "dpt.cjs"), bootnode],
                                       env=node_env(ethereumjs_dir()))

    def wait_ready(self, timeout: float) -> None:
        first = json.loads(self.process.wait_lines(1, timeout)[0])
        self.contact = Contact(first["id"], "127.0.0.1", first["port"])

    def peers(self) -> dict[str, Contact]:
        """The nodes in its table now, by public key."""
        last = json.loads(self.process.lines()[-1])
        return {p["id"]: Contact(p["id"], p["address"], p["udpPort"]) for p in last.get("peers", [])}


def devp2p(processes: Processes, subcommand: str, *arguments: str, timeout: float, bootnode: str = "") -> str:
    """Runs one devp2p command that ends by itself and returns what it printed. It always gets a list of
    bootstrap nodes, if need be an empty one, since the tool would use the public ones otherwise."""
    command = [str(devp2p_path()), "discv4", subcommand, "-bootnodes", bootnode, "-addr", "127.0.0.1:0", *arguments]
    code, out, err = processes.run(command, timeout)
    if code != 0:
        raise CheckFailed(f"devp2p {subcommand} ended with code {code}: {free_of_newline(err or out)}")
    return out


def devp2p_test(processes: Processes, enode: str, timeout: float) -> tuple[int, str]:
    """geth's conformance suite. Its second address must differ from the first: a test of the suite proves an
    endpoint from the first and asks from the second."""
    command = [str(devp2p_path()), "discv4", "test", "-remote", enode, "-listen1", "127.0.0.1", "-listen2", "127.0.0.2"]
    code, out, err = processes.run(command, timeout)
    return code, out + err


def main() -> int:
    try:
        print(install_devp2p(), flush=True)
        print(install_ethereumjs(), flush=True)
    except InstallError as error:
        print(f"interop peers: {error}", file=sys.stderr)
        return 1
    return 0
