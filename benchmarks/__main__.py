"""What does steering cost?

    python -m benchmarks [NAME...] [--rounds N] [--device cuda] [--contenders NAME...] [--results FOLDER]

runs the comparisons that are named (W1 W2 W3 W4 W5 pocket-W1 pocket-W2 pocket-scaling scaling; all but the last, if
none is), each in a process of its own on one thread, writes benchmarks/results/NAME.json and puts the table in
benchmarks/README.md together anew. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import suite, table
from benchmarks.world import ROOT

HERE = "STEER_BENCHMARKS_HERE"
"""Set in the process that is to do the work."""


def main() -> None:
    given = parsed(sys.argv[1:])
    if HERE in os.environ:
        work(given)
        return
    names = given.names or suite.USUAL
    failed = [name for name in names if not in_a_process(name, sys.argv[1:], given.names)]
    if given.results == table.RESULTS:
        table.write()
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(suite.NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--contenders", nargs="*", default=[], help="these alone")
    parser.add_argument("--results", type=Path, default=table.RESULTS)
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(suite.NAMES)):
        parser.error(f"no comparison is called {', '.join(unknown)}; there are: {', '.join(suite.NAMES)}")
    return given


def in_a_process(name: str, arguments: Sequence[str], names: Sequence[str]) -> bool:
    """Whether one comparison came to its end."""
    options = [argument for argument in arguments if argument not in names]
    quiet = {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", HERE: "1"}
    command = [sys.executable, "-m", "benchmarks", name, *options]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **quiet}, check=False).returncode == 0


def work(given: argparse.Namespace) -> None:
    """The comparisons, in this process."""
    torch.set_num_threads(1)
    for name in given.names:
        found = suite.run(name, given.rounds, given.device, given.contenders)
        suite.save(found, given.results, given.device)
        print(suite.told(found), flush=True)


if __name__ == "__main__":
    main()
