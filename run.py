"""`python run.py EXPERIMENT.yaml ...` is `steer run EXPERIMENT.yaml ...`."""

import sys

from steer.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["run"]
    main()
