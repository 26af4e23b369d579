"""Runs of one experiment on Ray clusters, one address after the other, in one process that has not imported Ray before.

    python -m tests.execution.joining EXPERIMENT RESULTS ADDRESS=WORKERS...

Results of an address are in RESULTS/0, RESULTS/1, ...; a run that was begun there goes on.
"""

import sys
from contextlib import closing
from pathlib import Path

from steer import pipeline
from steer.execution.loaded import Loaded
from steer.execution.ray_engine import Cluster, RayEngine
from tests.execution.lab import rows_of, without_plots


def main(experiment: Path, results: Path, addresses: list[str]) -> None:
    loaded = Loaded()
    for i, (address, _, workers) in enumerate(text.partition("=") for text in addresses):
        cluster = Cluster(address, int(workers))
        with rows_of(7), without_plots(), closing(RayEngine(cluster, print)) as engine:
            prepared = pipeline.prepare(experiment)
            pipeline.run(
                prepared,
                results / str(i),
                command=["steer"],
                progress=lambda n: None,
                loaded=loaded,
                engine=engine,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
