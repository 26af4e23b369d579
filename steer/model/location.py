"""Where a model's files are: the built-in `pocket`, a local folder, or a Hub repository in the local cache."""

from __future__ import annotations

from pathlib import Path

from steer.errors import ModelError

POCKET = Path(__file__).parent / "pocket" / "weights"
FACTS = ("*.json", "*.jinja", "tokenizer*", "merges.txt")  # what tokens and shapes need, a few MB at most
WEIGHTS = (*FACTS, "*.safetensors")  # never pickles


def folder_of(id: str, revision: str | None = None, weights: bool = True, local_files_only: bool = False) -> Path:
    """The local folder of a model; a Hub repository is downloaded to Hugging Face's cache where it is missing.

    Without `weights` only configuration and tokenizer are asked for. Raises ModelError with what was looked for.
    """
    if id == "pocket":
        return _existing(POCKET, "the built-in model has no weights in this installation")
    if _is_path(id):
        return _existing(Path(id).expanduser(), f"model {id!r}: no such folder")
    return _hub_folder(id, revision, list(WEIGHTS if weights else FACTS), local_files_only)


def is_hub_id(id: str) -> bool:
    """Whether an id would be looked for on the Hub: it is neither `pocket` nor a folder."""
    return id != "pocket" and not _is_path(id)


def _is_path(id: str) -> bool:
    return id.startswith((".", "/", "~")) or id.count("/") > 1 or Path(id).is_dir()


def _existing(folder: Path, problem: str) -> Path:
    if not folder.is_dir():
        raise ModelError(f"{problem} (looked for {folder})")
    return folder


def _hub_folder(id: str, revision: str | None, files: list[str], local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download  # 0.2 s, and only Hub ids need it
    from huggingface_hub.errors import HFValidationError

    wanted = f"model {id!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        found = snapshot_download(id, revision=revision, allow_patterns=files, local_files_only=local_files_only)
        return Path(found)
    except (OSError, HFValidationError) as error:  # Hub errors and missing cache entries are OSErrors
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{wanted} is neither 'pocket' nor a folder, and could not be had from the Hugging Face Hub: {reason}"
        ) from error
