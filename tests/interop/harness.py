"""Child processes, deadlines, and the report: what the checks stand on."""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable


class CheckFailed(Exception):
    """A check's own verdict; the text says what was seen."""


class DeadlineExceeded(Exception):
    """The time for the whole run is over."""


def free_of_newline(text: str) -> str:
    return " | ".join(line.strip() for line in text.strip().splitlines()[-6:])


def wait_for(condition: Callable[[], bool], until: float, step: float = 0.1) -> bool:
    """Waits for a condition until a moment of the monotonic clock; says whether it came true."""
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(step)
    return True


@contextlib.contextmanager
def silent_port():
    """A UDP port of 127.0.0.1 that is taken, and that nobody answers on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


LIBC = ctypes.CDLL(None)  # loaded before any child is made, since a child between fork and exec should do little


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent ends, even if that is killed itself."""
    set_parent_death_signal = 1
    LIBC.prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0)


class Process:
    """A child that goes on running, with its output in files."""

    def __init__(self, name: str, command: list[str], out: pathlib.Path, err: pathlib.Path, env):
        self.name, self.out, self.err = name, out, err
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=env,
                                          start_new_session=True, preexec_fn=die_with_parent)

    def lines(self) -> list[str]:
        """The complete lines on its standard output so far."""
        return complete_lines(self.out)

    def wait_lines(self, count: int, timeout: float) -> list[str]:
        until = time.monotonic() + timeout
        wait_for(lambda: len(self.lines()) >= count or not self.running(), until, 0.02)
        lines = self.lines()
        if len(lines) < count:
            state = "is silent" if self.running() else f"ended with code {self.child.returncode}"
            raise CheckFailed(f"{self.name} {state}: {len(lines)} of {count} lines in {timeout:.0f} s; "
                              f"stderr: {free_of_newline(self.err.read_text(errors='replace'))}")
        return lines

    def running(self) -> bool:
        return self.child.poll() is None

    def stop(self, timeout: float) -> tuple[int | None, float]:
        """Asks it to end. Returns its exit code, None when it did not end, and the seconds that it took."""
        start = time.monotonic()
        self.child.terminate()
        try:
            self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None, time.monotonic() - start
        return self.child.returncode, time.monotonic() - start

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()


def complete_lines(path: pathlib.Path) -> list[str]:
    return path.read_text(errors="replace").rpartition("\n")[0].splitlines()


class Processes:
    """Every child of a run, so that none outlives it."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.started: list[Process] = []

    def start(self, name: str, command: list[str], env=None) -> Process:
        number = len(self.started)
        process = Process(name, command, self.directory / f"{number}.out", self.directory / f"{number}.err", env)
        self.started.append(process)
        return process

    def run(self, command: list[str], timeout: float, env=None) -> tuple[int, str, str]:
        """Runs a command to its end: exit code, standard output, standard error."""
        process = self.start(os.path.basename(command[0]), command, env)
        try:
            process.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"{' '.join(command[:3])}: no end in {timeout:.0f} s")
        finally:
            process.kill()
        out, err = (file.read_text(errors="replace") for file in (process.out, process.err))
        return process.child.returncode, out, err

    def kill_all(self) -> None:
        for process in self.started:
            process.kill()


class Report:
    """Runs checks and says a line about each."""

    def __init__(self, out):
        self.out = out
        self.passed = self.failed = 0
        self.over = False

    def check(self, name: str, body: Callable[[], str]) -> bool:
        """Runs one check. It returns its figures, or raises; whatever it raises is a failure."""
        start = time.monotonic()
        if self.over:
            return self.say(name, False, "not run: the time for the whole run is over", start)
        try:
            return self.say(name, True, body(), start)
        except DeadlineExceeded as error:
            self.over = True
            return self.say(name, False, str(error), start)
        except Exception as error:
            kind = "" if isinstance(error, CheckFailed) else f"{type(error).__name__}: "
            return self.say(name, False, f"{kind}{error}", start)

    def check_with(self, require: Callable[[], None]) -> Callable[[str, Callable[[], str]], bool]:
        """Like `check`, for checks that need something: `require` raises where that is not there."""

        def check(name: str, body: Callable[[], str]) -> bool:
            def with_it() -> str:
                require()
                return body()

            return self.check(name, with_it)

        return check

    def say(self, name: str, good: bool, figures: str, start: float) -> bool:
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        word = "ok  " if good else "FAIL"
        print(f"{word} {name}: {figures} [{time.monotonic() - start:.1f} s]", file=self.out, flush=True)
        return good

    def summary(self) -> int:
        print(f"{self.passed} passed, {self.failed} failed", file=self.out, flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1
