"""The command line with batches of seven rows and a journal that takes its time, so that a kill finds it at work."""

import time

from steer.execution import batches
from steer.execution.journal import Journal

batches.ROWS = 7
_append = Journal.append


def _slow_append(self: Journal, record: dict[str, object]) -> None:
    time.sleep(0.02)
    _append(self, record)


Journal.append = _slow_append  # type: ignore[method-assign]

if __name__ == "__main__":
    from steer.cli import main

    main()
