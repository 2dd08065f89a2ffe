#!/usr/bin/env python3
"""Copies those inputs from fuzz/found into fuzz/corpus that add most to what the corpus covers: fuzz/keep.py TARGET...

fuzz/run.sh has to have run before. At most 48 inputs of a target and 60 kB of them are kept.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
MOST_FILES = 48
MOST_BYTES = 60_000


def features(target, inputs):
    """The features that libFuzzer sees in each input."""
    host = next(line for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines() if "host: " in line)
    program = FUZZ / "target" / host.removeprefix("host: ") / "release" / target
    with tempfile.TemporaryDirectory() as scratch:
        control, out, given = (Path(scratch) / name for name in ("control", "out", "given"))
        out.mkdir()
        given.mkdir()
        for index, path in enumerate(inputs):
            shutil.copy(path, given / f"{index:06}")
        merge = [program, "-set_cover_merge=1", f"-merge_control_file={control}", out, given]
        subprocess.run(merge, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = control.read_text().splitlines()
    # The number of files, of those of the first directory, and their paths; then FT, index and features of each.
    count = int(lines[0])
    index = [int(Path(path).name) for path in lines[2 : 2 + count]]
    found = [set() for _ in inputs]
    for words in (line.split() for line in lines[2 + count :]):
        if words[0] == "FT":
            found[index[int(words[1])]] = set(words[2:])
    return found


def keep(target):
    corpus = FUZZ / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    there = sorted(corpus.iterdir())
    inputs = there + sorted((FUZZ / "found" / target).iterdir())
    found = features(target, inputs)
    covered = set().union(*found[: len(there)])
    rest = set(range(len(there), len(inputs)))
    files, size, number = len(there), sum(path.stat().st_size for path in there), 0
    while files < MOST_FILES and rest:
        # A long input has to add more than a short one.
        worth = {at: len(found[at] - covered) / (10_000 + inputs[at].stat().st_size) for at in rest}
        best = max(sorted(rest), key=worth.__getitem__)
        rest.remove(best)
        if not found[best] - covered:
            break
        if size + inputs[best].stat().st_size > MOST_BYTES:
            continue
        while (corpus / f"found_{number:02}").exists():
            number += 1
        shutil.copy(inputs[best], corpus / f"found_{number:02}")
        covered |= found[best]
        files, size = files + 1, size + inputs[best].stat().st_size
    everything = len(set().union(*found))
    print(f"{target}: {files} inputs, {size} bytes, with {len(covered)} of {everything} features")


if len(sys.argv) < 2:
    sys.exit("usage: fuzz/keep.py TARGET...")
for name in sys.argv[1:]:
    if not (FUZZ / "found" / name).is_dir():
        sys.exit(f"fuzz/keep.py: there is no fuzz/found/{name}: run fuzz/run.sh first")
    keep(name)
