"""Commands in sessions of their own: begun, stopped in mid-run, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from steer.execution.journal import entries

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Session:
    """A command that leads a session, and the file of what it says; a pipe would be held by what it leaves behind."""

    process: subprocess.Popen[bytes]
    said: Path

    def members(self) -> dict[int, str]:
        """The command lines of its processes."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.getsid(int(path.name)) == self.process.pid:
                    found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        return {pid: line for pid, line in found.items() if line}

    def end(self) -> None:
        """Whatever is left of it."""
        while members := self.members():
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()

    def code(self) -> int:
        """Its exit code."""
        return self.process.wait(timeout=300)


def begin(said: Path, *module_and_arguments: object, environ: Mapping[str, str] = os.environ) -> Session:
    """`python -m` a module, with the project on its path."""
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, module_and_arguments)],
            env={**environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )
    return Session(process, said)


def stop_in_mid_run(session: Session, results: Path, number: int) -> int:
    """The exit code of a run that gets a signal when its first trials are in the journal."""
    while session.process.poll() is None and not _begun(results):
        time.sleep(0.02)
    session.process.send_signal(number)
    return session.code()


def _begun(results: Path) -> bool:
    return any(list(entries(path)) for path in (results / "tiny").glob("2*/journal.jsonl"))


def eventually(holds: Callable[[], bool]) -> None:
    """Within two minutes, which is long even on a machine that has other work."""
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
