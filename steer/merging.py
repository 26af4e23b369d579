"""The shards of a run become one run: their journals together, then tables, verdicts and report as of one piece."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.analysis.sides import manifest_changes
from steer.analysis.snapshots import chosen_update
from steer.errors import ResultsError, UsageError
from steer.execution.execute import Executed, Tally, problems, recall
from steer.execution.folder import RunFolder, open_folder, peak_memory
from steer.execution.journal import Entry, Journal, encoded, entries
from steer.execution.manifest import read_manifest
from steer.execution.tables import write_tables
from steer.experiment.load import load
from steer.files import replacing
from steer.pipeline import Finished, Prepared, Selection, asked, concluded, gate_notes, prepare

ENDED = ("complete", "failed")
OF_THE_RUN = ("axes", "columns", "device", "dtype", "model", "transcoder", "packages", "machine", "environment")
"""What a manifest says that is the same for every shard."""
MEANT = ("experiment", "device", "dtype", "model", "transcoder", "packages", "machine", "seeds")
"""What is said of shards that do not fit together."""
SHOWN = 4
"""How many differences, or missing trials, an error names."""


@dataclass(frozen=True)
class ShardRun:
    """The run folder of a shard."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def index(self) -> int:
        return int(self.manifest["shard"]["index"])

    @property
    def of(self) -> int:
        return int(self.manifest["shard"]["of"])

    @property
    def meaning(self) -> tuple[str, str]:
        """What shards have in common that are parts of one run."""
        return self.manifest["shard"]["whole"], self.manifest["shard"]["cut"]

    def __str__(self) -> str:
        return f"shard {self.index}/{self.of} ({self.path})"


def merge(given: Sequence[Path], results: Path, command: Sequence[str]) -> Finished:
    """One run from all of its shards: their folders, or the experiment file for its newest shards in `results`.

    UsageError where a shard is missing, is not finished or is of another experiment, environment or plan; ResultsError
    where one is damaged.
    """
    runs = found(given, results)
    _check(runs)
    prepared = _prepared(runs[0], given)
    part = runs[0].manifest["shard"]
    update = chosen_update(None, _selection(part).partial, bool(part["set"]), os.environ)
    experiment = prepared.experiment
    with open_folder(results, experiment.spec.name, part["whole"], experiment.hash, fresh=True) as folder:
        _write_journal(folder, prepared, runs)
        return concluded(prepared, folder, _executed(folder, prepared, runs, command), update)


# --- which shards -------------------------------------------------------------------------------------------------


def found(given: Sequence[Path], results: Path) -> list[ShardRun]:
    """The shards that are meant, in their order. UsageError."""
    if len(given) == 1 and given[0].is_file():
        return _newest(given[0], results)
    runs = [ShardRun(path, read_manifest(path)) for path in given]
    others = [str(run.path) for run in runs if "shard" not in run.manifest]
    if others:
        raise UsageError(f"not a shard, but a run of one piece: {', '.join(others)}")
    return sorted(runs, key=lambda run: run.index)


def _newest(path: Path, results: Path) -> list[ShardRun]:
    """The shards of a file that were begun last: of each index one of the newest shard's run, if there is one."""
    home = results / load(path).spec.name
    folders = (folder for folder in home.glob("2*") if (folder / "manifest.json").is_file())
    runs = [ShardRun(folder, manifest) for folder in folders if "shard" in (manifest := read_manifest(folder))]
    runs.sort(key=lambda run: run.manifest["created"])
    if not runs:
        raise UsageError(f"no shards of {path} in {home}; `steer run {path} --shard 1/2` makes the first of two")
    last = runs[-1]
    fitting = sorted(runs, key=lambda run: run.meaning == last.meaning)  # of one age class the newest comes last
    newest = {run.index: run for run in fitting if run.of == last.of}
    return [newest[index] for index in sorted(newest)]


def _check(runs: Sequence[ShardRun]) -> None:
    """Everything that keeps shards from being one run, at once. UsageError."""
    wrong = [
        f"{run} is not finished (status {run.manifest.get('status')}); its command goes on with it"
        for run in runs
        if run.manifest.get("status") not in ENDED
    ]
    wrong += _strangers(runs)
    n = runs[0].of
    there = Counter(run.index for run in runs)
    wrong += [f"shard {i}/{n} is given {count} times" for i, count in sorted(there.items()) if count > 1]
    missing = [f"{i}/{n}" for i in range(1, n + 1) if i not in there]
    wrong += [f"missing: shard {', '.join(missing)}"] if missing else []
    if wrong:
        raise UsageError("\n".join(["these shards are not one run:", *wrong]))


def _strangers(runs: Sequence[ShardRun]) -> Iterator[str]:
    """The shards that are not of the first one's run, and what is different."""
    first = runs[0]
    for run in runs[1:]:
        if run.of != first.of:
            yield f"{run} is one of {run.of} and {first} is one of {first.of}"
        elif run.meaning != first.meaning:
            yield f"{run} and {first} differ in {_difference(first, run)}"


def _difference(one: ShardRun, other: ShardRun) -> str:
    changes = manifest_changes(one.manifest, other.manifest)
    said = [f"{change.key} ({change.old} and {change.new})" for change in changes if change.key.split(".")[0] in MEANT]
    if said:
        return ", ".join(said[:SHOWN])
    if one.manifest["experiment_hash"] != other.manifest["experiment_hash"]:
        return "the content of a file that the experiment reads"
    return "how the plan was cut into batches"


def _prepared(run: ShardRun, given: Sequence[Path]) -> Prepared:
    """The experiment as the shards ran it. UsageError where its file is gone or is another now."""
    path = given[0] if given[0].is_file() else Path(run.manifest["experiment_path"])
    part = run.manifest["shard"]
    if not path.is_file():
        raise UsageError(f"{path}, which {run} ran, is not here; merge where it is")
    prepared = prepare(path, part["set"], _selection(part))
    if prepared.experiment.hash != run.manifest["experiment_hash"]:
        raise UsageError(f"{path}, or a file that it reads, has been changed since {run} ran")
    return prepared


def _selection(part: Mapping[str, Any]) -> Selection:
    stated = part["selection"]
    only = {key: tuple(values) for key, values in stated["only"].items()}
    return Selection(only, stated["contains"], stated["limit"])


# --- one run out of them ------------------------------------------------------------------------------------------


def _write_journal(folder: RunFolder, prepared: Prepared, runs: Sequence[ShardRun]) -> None:
    """Every trial of the plan once; a baseline that several shards ran as the first has it, whose own it is.

    ResultsError (exit code 3) for trials that none has.
    """
    known: dict[str, Entry] = {}
    for run in reversed(runs):
        known |= {entry.trial_id: entry for entry in entries(run.path / "journal.jsonl")}
    missing = [trial for trial in prepared.plan.trials if trial.id not in known]
    if missing:
        named = ", ".join(f"{trial.id} ({trial.condition}, prompt {trial.prompt.id})" for trial in missing[:SHOWN])
        lines = f"{len(missing)} trials are in no shard's journal: {named}"
        raise ResultsError(f"{lines}; the journals are damaged, or not those that the shards wrote", exit_code=3)
    with replacing(folder.journal) as stream:
        for trial in prepared.plan.trials:
            stream.write(encoded(known[trial.id].read()))


def _executed(folder: RunFolder, prepared: Prepared, runs: Sequence[ShardRun], command: Sequence[str]) -> Executed:
    """What executing the plan in one piece would have come to."""
    plan, part = prepared.plan, runs[0].manifest["shard"]
    tally = Tally(planned=len(plan.trials), run=len(plan.trials))
    for run in runs:
        tally.fired.update(run.manifest["shard"]["calls"])
        tally.expected |= set(run.manifest["shard"]["calls"])
    lengths = {prompt.id: prepared.tokens.encode(prompt.text) for prompt in plan.prompts}
    with Journal(folder.journal) as journal:
        recall(plan.trials, journal, tally)
        rows = write_tables(folder.path, plan, journal, lengths, prepared.tokens)
    before = folder.manifest()
    manifest = {
        **asked(prepared, part["whole"], command, _selection(part), gate_notes(prepared.experiment)),
        **{key: runs[0].manifest[key] for key in OF_THE_RUN},
        "status": "started",
        "run_id": folder.run_id,
        "created": before["created"],
        "fresh": before["fresh"],
        "merged": [_told(run) for run in runs],
        "git": runs[0].manifest["git"],
        "counts": tally.counts,
        "taken_from": {},
        "halved_batches": sum(run.manifest["halved_batches"] for run in runs),
        "hooks": {"expected": len(tally.calls), "fired": sum(map(bool, tally.calls.values()))},
        "tables": rows,
        "peak_memory_bytes": max(peak_memory(), *(run.manifest["peak_memory_bytes"] for run in runs)),
        "timings": {key: _sum(run.manifest["timings"][key] for run in runs) for key in ("trials_s", "tables_s")},
    }
    manifest["warnings"] = [*manifest["warnings"], *_warnings(runs)]
    folder.write_manifest(manifest)  # what the analysis reads
    return Executed(tally, tuple(problems(plan, tally)), manifest)


def _sum(seconds: Iterable[float]) -> float:
    return round(sum(seconds), 3)


def _told(run: ShardRun) -> dict[str, Any]:
    kept = ("run_id", "machine", "git", "counts", "timings", "created", "finished")
    return {"shard": f"{run.index}/{run.of}", **{key: run.manifest[key] for key in kept}}


def _warnings(runs: Sequence[ShardRun]) -> Iterator[str]:
    """What the shards had to say, and that they did not run the same code."""
    first = runs[0].manifest
    yield from dict.fromkeys(text for run in runs for text in run.manifest["warnings"] if text not in first["warnings"])
    commits = dict.fromkeys(str(run.manifest["git"].get("commit")) for run in runs)
    if len(commits) > 1:
        yield f"the shards ran at different commits: {', '.join(commits)}"
