"""Where transcoders are: the built-in ones, a local folder, a release of the registry, or a Hub repository.

A set on the Hub may hold hundreds of GB in many variants. Of a release only its pinned variant is fetched, of any set
only the files of the layers in use (all, where nobody says which), and what was fetched is shown as a folder of links
that holds these files and nothing else: the same request finds the same folder, whatever else is in the cache.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from steer.errors import TranscoderError
from steer.files import cache_folder
from steer.model.location import folder_of as model_folder
from steer.model.location import is_hub_id
from steer.transcoder.registry import Release, release_of, require_release

FACTS = ("config.yaml", "config.json", "cfg.json", "statistics.safetensors", "examples.json*")
CONFIGS = (  # beside them may lie a JSON file for every feature
    "*config.json",
    "*cfg.json",
    "*hyperparams.json",
    "*activation_scaler.json",
)
WEIGHTS = ("*.safetensors", "*.npz", "*.pt", "*blocks.*.pkl", "*blocks.*.pkl.gz")  # a pickle is read, never run
OF_A_LAYER = (
    "*layer_{}.*",
    "*layer_{}/*",
    "*layer_{}_*",
    "*W_enc_{}.*",
    "*W_dec_{}.*",
    "*layers.{}.*",
    "*blocks.{}.*",
    "h.{}.*",
)
MAX_LAYERS = 128  # no published set has more; layers that are not in use are left out by name


@dataclass(frozen=True)
class Source:
    """A repository of the Hub at a revision (None: its newest)."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository + (f" at revision {self.revision!r}" if self.revision else "")


def transcoder_folder(
    id: str, revision: str | None = None, layers: Collection[int] | None = None, local_files_only: bool = False
) -> Path:
    """The local folder of `pocket`, a folder, a release's name or a Hub id, with the files of `layers` (None: all).

    What is missing is downloaded to Hugging Face's cache. TranscoderError with what was looked for.
    """
    if id == "pocket":
        return model_folder(id) / "transcoder"
    if not is_hub_id(id):
        return _existing(Path(id).expanduser())
    release = known_release(id, revision)
    if release is not None and release.files:
        return _pinned(release, revision, layers, local_files_only)
    source = Source(release.id if release else id, revision or (release.revision if release else None))
    return _repository(source, layers, local_files_only)


def known_release(id: str, revision: str | None = None) -> Release | None:
    """The release that an id means; None for another repository of the Hub, and for what is no id of the Hub.

    A revision belongs to the repository that is named, so with one a repository that only points at a release's files
    is itself. TranscoderError for a name without an owner that is no release's.
    """
    if not is_hub_id(id):
        return None
    found = release_of(id) if "/" in id else require_release(id)
    another = found is not None and "/" in id and revision is not None and id.lower() != found.id.lower()
    return None if another else found


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise TranscoderError(f"transcoder {str(folder)!r}: no such folder")
    return folder


# --- releases with pinned files -------------------------------------------------------------------------------


def _pinned(release: Release, revision: str | None, layers: Collection[int] | None, local: bool) -> Path:
    """The files that a release pins, of the layers in use."""
    source = Source(release.id, revision or release.revision)
    wanted = [layer for layer in range(release.layers or 0) if layers is None or layer in layers]
    patterns = [pattern for layer in wanted for pattern in release.files_of(layer)]
    snapshot = _snapshot(source, patterns, local)
    there = _files(snapshot)
    _require([one for one in patterns if not any(_matches(file, [one]) for file in there)], source, snapshot)
    return _view(source, snapshot, {file: snapshot / file for file in there if _matches(file, patterns)})


# --- other repositories ---------------------------------------------------------------------------------------


def _repository(source: Source, layers: Collection[int] | None, local: bool) -> Path:
    """A repository's own files, or those that its circuit-tracer config points at."""
    facts = _snapshot(source, FACTS, local)
    if entries := _entries(facts / "config.yaml"):
        return _pointed_at(source, facts, entries, layers, local)
    unused = () if layers is None else sorted(set(range(MAX_LAYERS)) - set(layers))
    left_out = [pattern.format(layer) for layer in unused for pattern in OF_A_LAYER]
    wanted = (*FACTS, *CONFIGS, *WEIGHTS)
    snapshot = _snapshot(source, wanted, local, left_out)
    kept = [file for file in _files(snapshot) if _matches(file, wanted) and not _matches(file, left_out)]
    weights = [file for file in kept if _matches(file, WEIGHTS) and not _matches(file, FACTS)]
    _require([] if weights else WEIGHTS, source, snapshot)
    return snapshot if layers is None else _view(source, snapshot, {file: snapshot / file for file in kept})


def _entries(config: Path) -> list[str]:
    """The files that a circuit-tracer config lists, a layer each; empty where it lists none."""
    if not config.is_file():
        return []
    try:
        written: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TranscoderError(f"{config}: not YAML: {str(error).splitlines()[0]}") from error
    listed = written.get("transcoders") if isinstance(written, dict) else None
    named = [one.get("filepath") if isinstance(one, dict) else one for one in listed or ()]
    return [one for one in named if isinstance(one, str)]


def _pointed_at(source: Source, facts: Path, entries: list[str], layers: Collection[int] | None, local: bool) -> Path:
    """The listed files of the layers in use, each under its path within its repository, beside the config."""
    wanted = [entry for layer, entry in enumerate(entries) if layers is None or layer in layers]
    links = {file: facts / file for file in _files(facts) if _matches(file, FACTS)}
    by_source: dict[Source, list[str]] = {}
    for entry in wanted:
        owner, file = _entry(entry, source)
        by_source.setdefault(owner, []).append(file)
    for owner, files in by_source.items():
        folder = _snapshot(owner, files, local)
        _require([file for file in files if not (folder / file).is_file()], owner, folder)
        links |= {file: folder / file for file in files}
    return _view(source, facts, links)


def _entry(written: str, source: Source) -> tuple[Source, str]:
    """`hf://owner/name/path?revision=r`, or a path in the config's own repository."""
    match = re.fullmatch(r"hf://([^/]+/[^/]+)/([^?]+)(?:\?revision=(.+))?", written)
    if match is None:
        return source, written
    own = match[1] == source.repository and match[3] is None
    return (source if own else Source(match[1], match[3])), match[2]


# --- Hugging Face's cache -------------------------------------------------------------------------------------


def _snapshot(source: Source, files: Iterable[str], local: bool, left_out: Iterable[str] = ()) -> Path:
    """The cached repository after what was asked for has been downloaded, as far as it could be."""
    from huggingface_hub import snapshot_download  # 0.2 s, and only Hub ids need it
    from huggingface_hub.errors import HFValidationError

    try:
        found = snapshot_download(
            source.repository,
            revision=source.revision,
            allow_patterns=list(files),
            ignore_patterns=list(left_out),
            local_files_only=local,
        )
        return Path(found)
    except (OSError, HFValidationError) as error:  # Hub errors and missing cache entries are OSErrors
        reason = str(error).strip().splitlines()[0]
        raise TranscoderError(
            f"transcoder {source} is no folder here, and could not be had from the Hugging Face Hub: {reason}; "
            f"looked for {_listed(files)}"
        ) from error


def _require(missing: Collection[str], source: Source, snapshot: Path) -> None:
    if missing:
        raise TranscoderError(
            f"transcoder {source}: {_listed(missing)} could not be had: not in the repository, or not in the cache "
            f"({snapshot}) and the Hugging Face Hub cannot be asked"
        )


def _matches(file: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in patterns)


def _listed(files: Iterable[str]) -> str:
    names = list(files)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _files(snapshot: Path) -> list[str]:
    return sorted(file.relative_to(snapshot).as_posix() for file in _below(snapshot))


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _below(path)
        elif path.is_file():
            yield path


def _view(source: Source, snapshot: Path, links: Mapping[str, Path]) -> Path:
    """A folder, called like the repository, that holds links to these files and nothing else."""
    content = "\n".join(f"{file} {target.resolve()}" for file, target in sorted(links.items()))
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    owner, name = source.repository.split("/", 1)
    folder = cache_folder() / "transcoders" / f"{owner}--{name}@{snapshot.name}" / digest / name
    try:
        for file, target in links.items():
            _link(folder / file, target)
    except OSError as error:
        raise TranscoderError(
            f"{folder}: cannot be written ({error.strerror}); links to the weights go there"
        ) from error
    return folder


def _link(link: Path, target: Path) -> None:
    if link.exists():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)  # one whose target is gone
    with suppress(FileExistsError):  # another process was faster
        link.symlink_to(target)
