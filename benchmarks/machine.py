"""What the numbers were measured on."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from steer.execution import provenance

OTHERS = ("nnsight", "pyvene")


def described(device: str) -> dict[str, Any]:
    """Processor, what computes, threads, the commit, and the versions of all that takes part."""
    return {
        "processor": processor(),
        **provenance.machine(torch.get_num_threads()),
        "arithmetic": provenance.arithmetic(device),
        "code": provenance.git(Path(__file__).parent),
        "packages": {**provenance.packages(), **{name: _version(name) for name in OTHERS}},
    }


def processor() -> str:
    """Its name, as Linux knows it."""
    found = re.search(r"model name\s*:\s*(.+)", _read(Path("/proc/cpuinfo")))
    return found[1] if found else platform.machine()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
