"""What a run came from: code, versions, hardware. No secrets, no environment variables, no host name."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "transformers", "transformer-lens", "tokenizers", "safetensors", "numpy", "scipy", "pandas", "pyarrow",
    "pydantic", "PyYAML", "matplotlib", "steer",
)  # fmt: skip
HUB_COMMIT = re.compile(r"(?:/snapshots/|@)([0-9a-f]{40})(?:/|$)")
"""In Hugging Face's cache, and in the folder of links that stands for the files of a transcoder."""
NUMERIC = ("torch", "transformers", "transformer-lens", "tokenizers", "regex")


def packages() -> dict[str, str]:
    """Installed versions of what a number may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {"python": platform.python_version(), **found}


def numeric_packages() -> tuple[tuple[str, str], ...]:
    """Those of the packages that a trial's numbers come from."""
    return tuple(sorted((name, version(name)) for name in NUMERIC))


def arithmetic(device: str) -> str:
    """What computes on a device, as far as its rounding depends on it: the processor's vector units, or the GPU."""
    import torch

    onednn = ", oneDNN" if torch.backends.mkldnn.is_available() else ""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{torch.backends.cpu.get_cpu_capability()}{onednn}" if device == "cpu" else platform.machine()


def git(folder: Path) -> dict[str, Any]:
    """Commit of the repository that holds `folder`, and whether it has uncommitted changes; empty outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def hub_commit(path: Path | None) -> dict[str, str]:
    """The commit of the Hub repository whose cached files lie at a path, as `revision`; empty for other folders."""
    match = HUB_COMMIT.search(path.as_posix()) if path is not None else None
    return {"revision": match[1]} if match else {}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no git, or a repository that does not answer: the manifest then has no commit
    return done.stdout.strip() if done.returncode == 0 else ""


def machine(threads: int) -> dict[str, Any]:
    """What the run ran on."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "implementation": sys.implementation.name,
    }


def file_hash(path: Path) -> str:
    """sha256 of a file; hex."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
