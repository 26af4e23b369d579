"""Processes that begin with everything loaded: forked from the test, so that a hundred of them cost little."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Child:
    """A process forked off this one."""

    pid: int

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code; -9 if it was killed."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def start(work: Callable[[], int]) -> Child:
    """Do `work` in a child, which ends with the exit code that it gives back; 70 for an error that nobody caught."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Child(pid)
    code = 70
    try:
        code = work()
    except BaseException:  # a child never returns into the test runner
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
