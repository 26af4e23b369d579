"""The command line: parsing and printing only. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steer.collecting import paused
from steer.errors import NothingFailed, SpecError, SteerError, TranscoderError, UsageError
from steer.report.visible import log_text

if TYPE_CHECKING:
    from rich.console import Console

    from steer.analysis.analyse import Analysis
    from steer.analysis.snapshots import Update
    from steer.analysis.suite import Ended
    from steer.discovery.block import Found
    from steer.execution.loaded import Loaded
    from steer.execution.ray_engine import RayEngine
    from steer.execution.reuse import Standing
    from steer.execution.shards import Shard
    from steer.gate.gate import Subject
    from steer.pipeline import Collected, Finished, FinishedShard, Prepared, Selection

app = typer.Typer(
    name="steer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Write a YAML file; get evidence that a feature causes what it is said to cause.",
)
discover_app = typer.Typer(no_args_is_help=True, help="Find features to edit: a table, and a features block.")
app.add_typer(discover_app, name="discover")


class _Features(typer.core.TyperGroup):
    """`steer features 3/411` is `steer features show 3/411`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named or not args else ["show", *args])


features_app = typer.Typer(
    cls=_Features, no_args_is_help=True, help="Show what features are (`steer features 3/411`), or read a graph's."
)
app.add_typer(features_app, name="features")
transcoders_app = typer.Typer(help="List published transcoders (`steer transcoders`), or look into a folder.")
app.add_typer(transcoders_app, name="transcoders")
export_app = typer.Typer(no_args_is_help=True, help="Say an experiment in another tool's words.")
app.add_typer(export_app, name="export")

File = Annotated[Path, typer.Argument(help="An experiment file (YAML).")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Overrides a value: generation.max_new_tokens=80. Repeatable.")
]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="Runs a part of the plan: condition=clamped,dose=10. Repeatable.")
]
Contains = Annotated[str | None, typer.Option("-k", help="Runs the prompts or conditions whose name contains this.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Runs the first N prompts.")]
Results = Annotated[
    Path, typer.Option("--results", help="The folder that runs are written to, and earlier results are taken from.")
]
Kept = Annotated[Path, typer.Option("--results", help="The folder in which `latest` and `reference` are looked up.")]
ModelId = Annotated[str, typer.Option("--model", help="Model id or folder.")]
TranscoderId = Annotated[str, typer.Option("--transcoder", help="Transcoder id or folder.")]
Layers = Annotated[str | None, typer.Option("--layers", help="2, 0:3 (3 is left out), or several with commas.")]
GroupName = Annotated[str | None, typer.Option("--name", help="What the group is called in the features block.")]
Write = Annotated[Path | None, typer.Option("--write", help="Writes the features block to this YAML file, too.")]
Shortcuts = Annotated[
    bool,
    typer.Option(
        "--shortcuts/--no-shortcuts",
        help="Runs of each trial only the blocks and positions that it can change; or all of everything. The same "
        "numbers but for rounding.",
    ),
]
ShardOf = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="i/n",
        help="Runs the i-th of n parts, in a run folder of its own; `steer merge` puts them together.",
    ),
]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="local|ray", help="What runs the batches: this process, or Ray actors.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="With --engine ray: how many actors; else as many as fit.")
]
NumGpus = Annotated[
    float | None,
    typer.Option("--num-gpus", min=0, help="With --engine ray: GPUs of an actor; else 1, or 0 if device is cpu."),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="With --engine ray: a cluster (ray://HOST:10001, HOST:6379, auto); else its own."),
]


@app.command()
def run(
    experiments: Annotated[list[Path], typer.Argument(help="Experiment files, and folders of them.")],
    set_: Set = None,
    only: Only = None,
    contains: Contains = None,
    limit: Limit = None,
    results: Results = Path("results"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prints the plan and stops; nothing is written.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begins a new run and takes no earlier result, finished or not.")
    ] = False,
    retry: Annotated[
        str | None,
        typer.Option(
            "--retry", metavar="failed", help="Runs the failed trials of the newest run again, and no others."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Says why trials run whose results are not taken from earlier runs.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="An experiment without expectations is an error.")] = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Writes all verdicts to this JUnit XML file.")] = None,
    update_snapshots: Annotated[
        str | None,
        typer.Option(
            metavar="new|all|none",
            help="Which values of `snapshot: true` to record: new (the default), all, or none (the default in CI; and "
            "always of a part of the plan, or with --set).",
        ),
    ] = None,
    shortcuts: Shortcuts = True,
    shard: ShardOf = None,
    engine: EngineName = "local",
    workers: Workers = None,
    num_gpus: NumGpus = None,
    address: Address = None,
) -> None:
    """Run experiments: tables, plots, verdicts and a report of each; all files are checked before anything loads.

    Runs go to RESULTS/NAME/; `latest` there is the newest one that ran whole (not with --only, -k or --limit). A run
    that was stopped goes on by the same command, and finished trials are taken from earlier runs where they would be
    the same (a shard takes none). Ends with 0 where all expectations hold, 1 where one fails or is inconclusive, 2
    where the command or a file is wrong, 3 where a run did not complete, 130 where it was interrupted.
    """
    from steer import pipeline
    from steer.analysis.snapshots import chosen_update
    from steer.analysis.suite import suite_exit_code

    if junit and (junit.is_dir() or not junit.parent.is_dir()):
        raise UsageError(f"--junit {junit}: not a file in a folder that exists")
    if retry not in (None, "failed") or (retry and fresh):
        raise UsageError(f"--retry {retry}: expected --retry failed, without --fresh")
    selection = _selection(only, contains, limit)
    update = chosen_update(update_snapshots, selection.partial, bool(set_), os.environ)
    if shard and update_snapshots:
        raise UsageError("--update-snapshots: a shard has no verdicts; `steer merge` records as `steer run` does")
    part = _shard(shard)
    start = _Start(results, fresh, retry is not None, explain, update, selection, set_ or [], part)
    require = _engine(engine, workers, num_gpus, address)
    with paused():
        collected = _collected(experiments, set_ or (), selection, strict)
    ready = [replace(prepared, shortcuts=shortcuts) for prepared in collected.ready]
    if dry_run:
        for prepared in ready:
            _print_warnings(prepared)
            _print_plan(prepared, part)
            _print_gate(prepared, fetch=False)
            _print_foreseen(prepared, start)
        raise typer.Exit(0 if ready else 2)
    ended = list(collected.skipped)
    try:
        with pipeline.terminated_as_interrupted(), require(ready) as runs_batches:
            for one in _run_each(ready, start, runs_batches):
                ended.append(one)
    except KeyboardInterrupt:
        _tell(ended, junit)
        raise typer.Exit(130) from None
    _tell(ended, junit)
    raise typer.Exit(suite_exit_code(ended))


def _collected(given: Sequence[Path], overrides: Sequence[str], selection: Selection, strict: bool) -> Collected:
    """The experiments of files and folders, all checked; what is left out is said."""
    from steer.experiment.find import experiment_files
    from steer.pipeline import collect, collect_one

    found = experiment_files(given)
    alone = len(given) == 1 and given[0].is_file()
    collected = collect_one(given[0], overrides, selection) if alone else collect(found.files, overrides, selection)
    silent = [one.experiment.path for one in collected.ready if not one.experiment.spec.expectations]
    if strict and silent:
        raise UsageError("; ".join(f"{path}: --strict, and the file has no expectations" for path in silent))
    notes = [f"{path} has no `name:`, so it is a base for other files and not run" for path in found.unnamed]
    for note in (*notes, *(f"{one.path} is skipped: {one.skipped}" for one in collected.skipped)):
        print(f"note: {log_text(note)}", file=sys.stderr)
    return collected


@dataclass(frozen=True)
class _Start:
    """What earlier runs count for, what is recorded, and which part of the experiments runs."""

    results: Path
    fresh: bool
    retry: bool
    explain: bool
    update: Update
    selection: Selection
    overrides: Sequence[str]
    shard: Shard | None


def _shard(text: str | None) -> Shard | None:
    from steer.execution.shards import written_shard

    return None if text is None else written_shard(text)


_Engine = Callable[[Sequence["Prepared"]], AbstractContextManager["RayEngine | None"]]
"""From the experiments to what runs their batches; None is this process."""


def _engine(name: str, workers: int | None, num_gpus: float | None, address: str | None) -> _Engine:
    """What `--engine` asks for. UsageError, and RunError where no cluster answers, before anything loads."""
    if name not in ("local", "ray"):
        raise UsageError(f"--engine {name}: not one of local, ray")
    if name == "local":
        if (workers, num_gpus, address) != (None, None, None):
            raise UsageError("--workers, --num-gpus and --address are for --engine ray")
        return lambda ready: nullcontext()
    if find_spec("ray") is None:
        raise UsageError("--engine ray: Ray is not installed; pip install 'steer[ray]' brings it")
    if address is not None:
        from steer.execution.ray_address import entry

        entry(address, os.environ)  # whoever mistypes it should not wait for the model
    return lambda ready: closing(_ray_engine(ready, workers, num_gpus, address))


def _ray_engine(
    ready: Sequence[Prepared], workers: int | None, num_gpus: float | None, address: str | None
) -> RayEngine:
    from steer.execution.ray_engine import Cluster, RayEngine

    needs_one = any(prepared.experiment.spec.model.device != "cpu" for prepared in ready)
    gpus = num_gpus if num_gpus is not None else float(needs_one)
    return RayEngine(Cluster(address, workers, gpus), lambda note: print(f"note: {log_text(note)}", file=sys.stderr))


def _run_each(ready: Sequence[Prepared], start: _Start, engine: RayEngine | None) -> Iterator[Ended]:
    """One experiment after the other, models shared; one that cannot run does not stop those after it."""
    from steer import pipeline

    with paused():
        from steer.execution.loaded import Loaded, weights

    loaded = Loaded()
    for i, prepared in enumerate(ready):
        _print_warnings(prepared)
        _print_plan(prepared, start.shard)
        started = time.monotonic()
        try:
            _print_gate(prepared, fetch=True)
            finished = _run_one(prepared, start, loaded, engine)
            yield pipeline.ended(prepared, finished, time.monotonic() - started)
        except NothingFailed as error:
            yield _nothing_failed(prepared, error, alone=len(ready) == 1)
        except Exception as error:  # noqa: BLE001 - an internal error of one experiment is not one of the others
            yield _not_run(prepared, error, time.monotonic() - started)
        loaded.keep({weights(later.experiment, later.plan) for later in ready[i + 1 :]})


def _run_one(prepared: Prepared, start: _Start, loaded: Loaded, engine: RayEngine | None) -> Finished | FinishedShard:
    """A run or a shard, with its progress and what it came to."""
    from steer import pipeline

    common: dict[str, Any] = {
        "command": ["steer", *sys.argv[1:]],
        "fresh": start.fresh,
        "selection": start.selection,
        "loaded": loaded,
        "retry": start.retry,
        "told": partial(_print_standing, explain=start.explain),
        "engine": engine,
    }
    if start.shard is not None:
        with _progress(len(pipeline.share_of(prepared, start.shard).plan.trials)) as advance:
            part = pipeline.run_shard(
                prepared, start.shard, start.results, progress=advance, overrides=start.overrides, **common
            )
        _print_shard(part)
        return part
    with _progress(len(prepared.plan.trials)) as advance:
        finished = pipeline.run(prepared, start.results, progress=advance, update=start.update, **common)
    _print_finished(finished)
    return finished


def _nothing_failed(prepared: Prepared, error: NothingFailed, alone: bool) -> Ended:
    from steer.analysis.suite import Ended

    if alone:
        return _not_run(prepared, error, 0.0)
    print(f"note: {prepared.experiment.path} is skipped: {error}", file=sys.stderr)
    return Ended(prepared.experiment.spec.name, prepared.experiment.path, skipped=str(error))


def _not_run(prepared: Prepared, error: Exception, seconds: float) -> Ended:
    from steer.analysis.suite import Ended

    spec, path = prepared.experiment.spec, prepared.experiment.path
    code = _print_error(error)
    what = str(error) if isinstance(error, SteerError) else f"internal error: {error!r}"
    return Ended(spec.name, path, problems=(what,), code=code, seconds=seconds)


def _tell(ended: Sequence[Ended], junit: Path | None) -> None:
    """The table of several experiments, the JUnit file, and what GitHub Actions shows."""
    from steer.analysis.junit import junit_of_all
    from steer.files import Appending, write_atomic
    from steer.report.github import error_lines, on_github, step_summary
    from steer.report.outcomes import outcome_table

    if len(ended) > 1:
        print(f"\n{outcome_table(ended)}")
    if junit:
        write_atomic(junit, junit_of_all(ended))
    if on_github(os.environ):
        for line in error_lines(ended, Path(os.environ.get("GITHUB_WORKSPACE", "."))):
            print(line)
        if page := os.environ.get("GITHUB_STEP_SUMMARY"):
            with closing(Appending(Path(page))) as summary:
                summary.append(step_summary(ended).encode())


@app.command()
@paused()
def check(
    experiments: Annotated[list[Path], typer.Argument(help="Experiment files (YAML).")],
    set_: Set = None,
    format_: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    strict: Annotated[bool, typer.Option("--strict", help="An experiment without expectations is an error.")] = False,
) -> None:
    """Check experiment files without loading a model: every problem at once."""
    from steer.experiment.problems import errors, render, render_json
    from steer.pipeline import check_file

    if format_ not in ("text", "json"):
        raise UsageError(f"--format {format_}: not one of text, json")
    failed = False
    for path in experiments:
        try:
            experiment, problems = check_file(path, set_ or ())
            failed |= strict and not experiment.spec.expectations
        except SpecError as error:
            problems = error.problems  # type: ignore[assignment]
        except SteerError as error:  # no such model or transcoder; the other files are checked all the same
            print(f"{path}: error: {log_text(str(error))}", file=sys.stderr)
            failed = True
            continue
        failed |= bool(errors(problems))
        if format_ == "json":
            print(render_json(problems))
        elif problems:
            print(render(problems))
        if not errors(problems) and format_ == "text":
            print(f"{path}: ok" + (", but it expects nothing" if not experiment.spec.expectations else ""))
    raise typer.Exit(2 if failed else 0)


@app.command()
def show(
    experiment: File,
    set_: Set = None,
    prompts: Annotated[int, typer.Option("--prompts", min=0, help="How many prompts to show token by token.")] = 3,
) -> None:
    """Show what a file means: the resolved experiment, the trials, the tokens with their positions."""
    import yaml

    from steer import pipeline

    prepared = pipeline.prepare(experiment, set_ or ())
    print(yaml.safe_dump(prepared.experiment.resolved, sort_keys=False, allow_unicode=True, width=120))
    _print_warnings(prepared)
    _print_plan(prepared)
    for prompt in prepared.plan.prompts[:prompts]:
        encoded = prepared.tokens.encode(prompt.text)
        print(f"\n{prompt.id}: {len(encoded.ids)} tokens")
        for position, id in enumerate(encoded.ids):
            print(f"  {position:4d} {position - len(encoded.ids):5d}  {id:7d}  {prepared.tokens.token(id)!r}")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder, wherever it was copied to.")]) -> None:
    """Judge and draw a finished run again, from its tables; no model is loaded.

    Writes summary.csv, choices.csv, expectations.json, junit.xml, plots/ and report.html in that folder anew; snapshots
    are compared with what is recorded beside the experiment, where it is there, and never recorded. Ends with 0 or 1 as
    `steer run` does, 2 where this is not a run folder or one without tables, 3 where the run is damaged or incomplete.
    """
    from steer.analysis.analyse import analyse
    from steer.analysis.tables import read_manifest
    from steer.execution.manifest import seal
    from steer.report.report import report as write

    analysis = analyse(run)
    page = write(run, analysis)
    seal(run)
    _print_verdicts(analysis)
    manifest = read_manifest(run)
    for problem in manifest.get("problems", []):
        print(f"problem: {log_text(problem)}", file=sys.stderr)
    print(f"report: {page}")
    if manifest.get("status") != "complete":
        raise typer.Exit(3)
    raise typer.Exit(int(any(verdict.verdict != "pass" for verdict in analysis.verdicts)))


@app.command()
def merge(
    given: Annotated[list[Path], typer.Argument(help="All shards' run folders, or the experiment file.")],
    results: Results = Path("results"),
) -> None:
    """Put the shards of a run together: tables, plots, verdicts and a report, as of a run of one piece.

    Given the experiment file, the newest shards of its name in RESULTS are taken. Shards of other experiments, models
    or machines do not mix, and none may be missing. Ends as `steer run` does.
    """
    from steer.merging import merge

    finished = merge(given, results, ["steer", *sys.argv[1:]])
    _print_finished(finished)
    raise typer.Exit(finished.exit_code)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="The run to compare with: a run folder, `latest` or `reference`.")],
    new: Annotated[str, typer.Argument(help="The run that is compared, the same way.")],
    name: Annotated[
        str | None, typer.Option("--name", help="The experiment whose `latest` and `reference` are meant.")
    ] = None,
    results: Kept = Path("results"),
    atol: Annotated[
        float | None,
        typer.Option(
            "--atol",
            min=0,
            help="Tolerance of what has no snapshot: by default 0.02 for rates and probabilities, else 0.05.",
        ),
    ] = None,
    controls: Annotated[bool, typer.Option("--controls", help="Judges the controls too.")] = False,
    completions: Annotated[int, typer.Option("--completions", min=0, help="How many changed ones to print.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Prints everything as JSON and nothing else.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Also writes a page there.")] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Ends with 0 whatever differs; a side that is missing is 2.")
    ] = False,
) -> None:
    """Compare two runs: manifests, measurements with intervals, completions; differences are new minus old.

    A side is a run folder (results/golden-gate/latest), or the word `latest` (RESULTS/NAME/latest) or `reference`
    (RESULTS/reference/NAME), as in `steer diff reference latest --name golden-gate`. Ends with 1 where a difference
    over prompts exceeds its tolerance (a snapshot's own where there is one) and its 95 % interval excludes 0; changed
    completions alone never fail. Ends with 2 where a side is missing, is not a run folder or has nothing in common
    with the other, 3 where it is damaged.
    """
    from steer.analysis.diff import Tolerances
    from steer.analysis.diff import diff as compare
    from steer.analysis.sides import find_sides
    from steer.files import write_atomic
    from steer.report.diff_page import diff_page
    from steer.report.diff_text import diff_json, diff_text

    found = compare(*find_sides(old, new, results, name), Tolerances(atol, controls))
    print(diff_json(found) if as_json else log_text(diff_text(found, completions)))
    if html is not None:
        write_atomic(html, diff_page(found))
        print(f"page: {html}", file=sys.stderr)
    raise typer.Exit(int(bool(found.moved) and not report_only))


@features_app.command("show")
def show_features(
    feature: Annotated[list[str], typer.Argument(help="layer/index, as in 3/411, or a Neuronpedia id.")],
    model: Annotated[str, typer.Option("--model", help="Model id or folder.")] = "pocket",
    transcoder: Annotated[str, typer.Option("--transcoder", help="Transcoder id or folder.")] = "pocket",
    examples: Annotated[int, typer.Option("--examples", min=0, help="How many top examples.")] = 5,
) -> None:
    """Show what features are: statistics, top examples, the tokens their decoder vectors promote."""
    from steer.experiment.feature_ids import written_feature
    from steer.transcoder.location import transcoder_folder
    from steer.transcoder.show import describe_features

    layers = {read.layer for text in feature if (read := written_feature(text))}
    for text in describe_features(feature, model, transcoder_folder(transcoder, layers=layers), examples):
        print(log_text(text))


@features_app.command("from-graph")
def features_from_graph(
    graph: Annotated[Path, typer.Argument(help="A graph of circuit-tracer or Neuronpedia (JSON).")],
    out: Annotated[Path | None, typer.Option("--out", help="Writes the features block to this file.")] = None,
) -> None:
    """Turn the supernodes of an attribution graph into a features block, a group each, with what is written on them."""
    from steer.discovery import from_graph
    from steer.files import write_atomic

    block = from_graph.features_from_graph(graph, _command())
    if out is None:
        print(log_text(block), end="")
    else:
        write_atomic(out, block)
        print(f"features: {out}")


@transcoders_app.callback(invoke_without_command=True)
def transcoders(context: typer.Context) -> None:
    """List published transcoders; a name can stand under `transcoder: {id: ...}`."""
    from steer.discovery.table import aligned
    from steer.transcoder.listing import HEADER, release_rows

    if context.invoked_subcommand is None:
        print(aligned(HEADER, release_rows()))


@transcoders_app.command("show")
def show_release(name: Annotated[str, typer.Argument(help="A release's name, or its Hub id.")]) -> None:
    """Show what is known of a release, and what to mind."""
    from steer.transcoder.listing import release_lines
    from steer.transcoder.registry import require_release

    print("\n".join(release_lines(require_release(name))))


@transcoders_app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="A folder, `pocket`, or a Hub id whose files are in the local cache.")],
) -> None:
    """Tell what a folder holds: layout, layers, widths, hook points, arithmetic, size; no weight is read."""
    from steer.transcoder.contents import contents
    from steer.transcoder.location import transcoder_folder

    print(log_text("\n".join(contents(transcoder_folder(path, local_files_only=True)))))


@export_app.command()
def neuronpedia(
    experiment: File,
    set_: Set = None,
    run: Annotated[Path | None, typer.Option("--run", help="A run of this file: it knows activations.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A folder for requests.json and refused.json.")] = None,
) -> None:
    """Write steer requests for the conditions that Neuronpedia can run, and say why for those that it cannot."""
    from steer.export.neuronpedia import exported
    from steer.export.written import export_json, summary, write_export

    made = exported(experiment, set_ or (), run)
    if out is None:
        print(export_json(made))
        print(summary(made), file=sys.stderr)
    else:
        write_export(made, out)
        print(summary(made))


@discover_app.command()
def contrast(
    positive: Annotated[Path | None, typer.Option("--positive", help="Prompts with what is looked for.")] = None,
    negative: Annotated[Path | None, typer.Option("--negative", help="Prompts without it.")] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="A column of --negative: its values count once each, and all are beaten."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="One file of prompts, for --each.")] = None,
    each: Annotated[
        str | None, typer.Option("--each", help="A column of --prompts: a contrast for each value against the others.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Keeps this value of --each. Repeatable.")] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="Makes prompts of columns: 'User: {question}\\nAssistant:'.")
    ] = None,
    positions: Annotated[
        str, typer.Option("--positions", help="As in an experiment file: all, last, '1:', '{text: \"User:\"}'.")
    ] = "all",
    reduce: Annotated[str, typer.Option("--reduce", help="Several positions of a prompt: max or mean.")] = "max",
    layers: Layers = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many features.")] = 12,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="--top counts for each layer.")] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="Keeps features that another group has as strongly.")
    ] = False,
    name: GroupName = None,
    write: Write = None,
    model: ModelId = "pocket",
    transcoder: TranscoderId = "pocket",
) -> None:
    """Rank features by how much more active they are on some prompts than on others (JSON lines or CSV)."""
    from steer.transcoder.location import transcoder_folder

    sets = positive is not None and negative is not None and prompts is None and each is None and not only
    single = prompts is not None and each is not None and positive is None and negative is None and group is None
    if not sets and not single:
        raise UsageError("expected --positive and --negative (and --group), or --prompts and --each (and --only)")
    if reduce not in ("max", "mean"):
        raise UsageError(f"--reduce {reduce}: not one of max, mean")

    from steer.discovery.inputs import open_engine
    from steer.discovery.show_contrast import Options, contrast_each, contrast_sets

    options = Options(_lines(template), positions, layers, reduce, top, per_layer, shared, name)  # type: ignore[arg-type]
    engine = open_engine(model, transcoder_folder(transcoder))
    if prompts and each:
        found = contrast_each(engine, prompts, each, only or [], options, _command())
    else:
        assert positive and negative
        found = contrast_sets(engine, positive, negative, group, options, _command())
    _print_found(found, write)


@discover_app.command()
def attribute(
    prompt: Annotated[str, typer.Argument(help="One prompt; \\n is a line break.")],
    target: Annotated[str, typer.Option("--target", help="The next token to explain, with its space: ' Austin'.")],
    foil: Annotated[str | None, typer.Option("--foil", help="The token to compare with; else the mean logit.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many features.")] = 20,
    trace: Annotated[bool, typer.Option("--trace", help="One step further back: what feeds these features.")] = False,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Ablates with attention patterns and norm denominators frozen.")
    ] = False,
    graph: Annotated[Path | None, typer.Option("--graph", help="Writes nodes and edges to this JSON file.")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draws the graph (.svg or .png).")] = None,
    name: GroupName = None,
    write: Write = None,
    model: ModelId = "pocket",
    transcoder: TranscoderId = "pocket",
) -> None:
    """Rank features by what they add to a logit directly; the best are then ablated one by one."""
    from steer.discovery.graph import Asked
    from steer.discovery.inputs import open_engine
    from steer.discovery.show_attribute import Question, show_attribution
    from steer.transcoder.location import transcoder_folder

    engine = open_engine(model, transcoder_folder(transcoder), patterns=True)
    question = Question(Asked(_lines(prompt) or "", target, foil), top, trace, freeze, graph, picture)
    _print_found(show_attribution(engine, question, name or "found", _command()), write)


@discover_app.command("attribute-mean")
def attribute_mean(
    prompts: Annotated[Path, typer.Option("--prompts", help="Prompts that end where the answer begins.")],
    target: Annotated[
        str, typer.Option("--target", help="The next token to explain, with its space: ' Austin' or ' {capital}'.")
    ],
    foil: Annotated[
        str | None, typer.Option("--foil", help="The token to compare with, or a column; else the mean logit.")
    ] = None,
    each: Annotated[
        str | None, typer.Option("--each", help="A column: a group of features for each value, above the others.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="Makes prompts of columns: 'User: {question}\\nAssistant:'.")
    ] = None,
    positions: Annotated[
        str, typer.Option("--positions", help="Features at these positions: all, last, '{column: cue}'.")
    ] = "all",
    layers: Layers = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many features.")] = 12,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="--top counts for each layer.")] = False,
    name: GroupName = None,
    write: Write = None,
    model: ModelId = "pocket",
    transcoder: TranscoderId = "pocket",
) -> None:
    """Rank features by what they add to an answer directly, on average over many prompts; then ablate the best."""
    from steer.discovery.inputs import open_engine
    from steer.discovery.show_mean_attribution import Options, show_mean_attribution
    from steer.transcoder.location import transcoder_folder

    options = Options(_lines(template), target, foil, each, positions, layers, top, per_layer, name)
    engine = open_engine(model, transcoder_folder(transcoder), patterns=True)
    _print_found(show_mean_attribution(engine, prompts, options, _command()), write)


@discover_app.command()
def examples(
    feature: Annotated[list[str], typer.Argument(help="layer/index, as in 3/411.")],
    text: Annotated[
        Path | None,
        typer.Option("--text", help="JSON lines or CSV with `text`, or any text; else the stored examples."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many contexts of each feature.")] = 8,
    name: GroupName = None,
    write: Write = None,
    model: ModelId = "pocket",
    transcoder: TranscoderId = "pocket",
) -> None:
    """Show where features fire most strongly, the token marked."""
    from steer.discovery.inputs import open_engine
    from steer.discovery.show_examples import show_examples
    from steer.transcoder.location import transcoder_folder

    engine = open_engine(model, transcoder_folder(transcoder))
    _print_found(show_examples(engine, feature, text, top, name or "found", _command()), write)


@app.command()
def gate(
    experiment: Annotated[
        Path | None, typer.Argument(help="An experiment file, whose pair and layers are gated.")
    ] = None,
    set_: Set = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model id or folder; a release's own if left out.")
    ] = None,
    transcoder: Annotated[str | None, typer.Option("--transcoder", help="Transcoder id, folder or release.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Of the transcoder's repository.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="Its layout, where it is not recognised.")] = None,
    reads: Annotated[str | None, typer.Option("--reads", help="What it reads, where its files do not say.")] = None,
    writes: Annotated[str | None, typer.Option("--writes", help="What it writes, where its files do not say.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 (by default), bfloat16 or float16.")] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu (by default), cuda, cuda:1, mps, xpu or auto.")
    ] = None,
    layers: Layers = None,
    text: Annotated[
        Path | None, typer.Option("--text", help="Reference text: JSON lines or CSV with `text`, or any text.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=200, help="How much of it, at most.")] = 20_000,
    loss_tokens: Annotated[
        int, typer.Option("--loss-tokens", min=200, help="How much of that for the losses, at most.")
    ] = 4_096,
    record: Annotated[
        Path | None, typer.Option("--record", help="Writes the records to this file, too.", show_default=False)
    ] = None,
) -> None:
    """Look whether a transcoder explains a model: unexplained variance, L0, dead features, loss with it spliced in.

    Reads reference text with a BOS and without, at each of the three points that transcoders read at, and says which
    fits. What is found is kept by the weights' hashes, with statistics of every feature: runs look it up. Ends with 0
    where all layers pass, 1 where one fails, 2 where the command is wrong.
    """
    from steer.gate import gate as gating
    from steer.gate.measure import steps
    from steer.gate.records import write_records
    from steer.gate.show import gate_lines

    words = {"id": transcoder, "revision": revision, "format": format_, "reads": reads, "writes": writes}
    subject = _subject(experiment, set_ or (), {"id": model, "dtype": dtype, "device": device}, words)
    pair, chosen = gating.opened(subject, layers)
    with _progress(steps(len(chosen)), "passes") as advance:
        found = gating.gate(pair, chosen, subject, gating.Options(text, tokens, loss_tokens), advance)
    print(log_text("\n".join(gate_lines(found, pair.transcoders.kind))))
    if record is not None:
        write_records(record, found)
        print(f"records: {record}")
    raise typer.Exit(int(any(one.verdict == "fail" for one in found)))


def _subject(
    experiment: Path | None, overrides: Sequence[str], model: dict[str, Any], transcoder: dict[str, Any]
) -> Subject:
    """What is gated: an experiment's pair, or the one that is named. UsageError where it is neither or both."""
    from steer.gate.gate import of_experiment, of_words

    words = {name: value for name, value in (*model.items(), *transcoder.items()) if value is not None}
    if experiment is not None and words:
        raise UsageError("an experiment file says what is gated: change it with --set, or leave the file out")
    if experiment is not None:
        return of_experiment(experiment, overrides)
    if transcoder["id"] is None or overrides:
        raise UsageError("expected an experiment file (with --set), or --transcoder (with --model)")
    return of_words(*({name: value for name, value in one.items() if value is not None} for one in (model, transcoder)))


@app.command()
def schema() -> None:
    """Print the JSON Schema of experiment files, for editors."""
    from steer.experiment.schema import schema_text

    print(schema_text(), end="")


@app.command()
def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("experiment.yaml")) -> None:
    """Write a commented starter file."""
    from steer.experiment.starter import STARTER

    if path.exists():
        raise UsageError(f"{path}: exists already")
    try:
        path.write_text(STARTER, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot write: {error.strerror}") from error
    print(f"{path}: written; `steer check {path}`, then `steer run {path}`")


# --- printing -------------------------------------------------------------------------------------------------


def _selection(only: list[str] | None, contains: str | None, limit: int | None) -> Selection:
    from steer.pipeline import Selection

    return Selection(_filters(only or []), contains, limit)


def _filters(only: list[str]) -> Mapping[str, tuple[str, ...]]:
    """`condition=a,dose=10,dose=5` -> {"condition": ("a",), "dose": ("10", "5")}."""
    filters: dict[str, tuple[str, ...]] = {}
    for part in (part for text in only for part in text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--only {part!r}: expected key=value, as in condition=clamped,dose=10")
        filters[key.strip()] = (*filters.get(key.strip(), ()), value.strip())
    return filters


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _print_warnings(prepared: Prepared) -> None:
    for warning in prepared.warnings:
        print(warning, file=sys.stderr)
    for note in prepared.notes:
        print(f"note: {note}", file=sys.stderr)


def _print_plan(prepared: Prepared, shard: Shard | None = None) -> None:
    from steer.pipeline import outline, share_of

    size = outline(prepared, os.cpu_count() or 1)
    print(f"{prepared.experiment.spec.name}: {prepared.experiment.question}")
    print(
        f"plan: {size.trials:,} trials in {size.batches} batches ({size.prompts} prompts, {size.conditions} conditions,"
        f" {size.tokens:,} tokens), about {_duration(size.seconds)}"
    )
    if shard is not None:
        part = share_of(prepared, shard)
        print(f"shard {shard}: {len(part.plan.trials):,} of these trials in {len(part.batches)} batches")


def _print_gate(prepared: Prepared, fetch: bool) -> None:
    """What is to be said of model and transcoder; whether they were gated is not known before their files are here."""
    from steer.pipeline import gate_notes

    try:
        notes = gate_notes(prepared.experiment, local_files_only=not fetch)
    except TranscoderError as error:
        if fetch:
            raise
        notes = (f"whether this pair was gated will be known when its files are here: {error}",)
    for note in notes:
        print(f"warning: {log_text(note)}", file=sys.stderr)


def _print_foreseen(prepared: Prepared, start: _Start) -> None:
    """What a run would find cached; the model is loaded for it only where there are runs."""
    from steer.pipeline import foresee

    if start.shard is not None:
        print("cached: a shard takes nothing from other runs")
    elif start.explain or start.retry or any(start.results.glob("*/*/journal.jsonl")):
        _print_standing(foresee(prepared, start.results, start.fresh, start.retry), start.explain)


def _print_standing(standing: Standing, explain: bool) -> None:
    print(f"cached: {standing.cached:,} of {standing.planned:,} trials")
    for (condition, control, why), count in standing.why().items() if explain else ():
        print(log_text(f"  {count:,} of {condition}{'' if control == 'none' else f', {control}'} run: {why}"))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(1, seconds):.0f} s"


@contextmanager
def _progress(total: int, what: str = "trials") -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = _console()
    if not console.is_terminal:
        yield _Lines(total, what)
        return
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)


class _Lines:
    """Progress where there is no terminal: a line every tenth."""

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.done, self.started = total, what, 0, time.monotonic()

    def __call__(self, n: int) -> None:
        before, self.done = self.done, self.done + n
        if n and before * 10 // self.total != self.done * 10 // self.total:
            seconds = time.monotonic() - self.started
            bar = "#" * (self.done * 20 // self.total)
            print(f"{self.what} [{bar:<20}] {self.done:,}/{self.total:,}  {seconds:.0f} s", flush=True)


def _print_finished(finished: Finished) -> None:
    _print_counts(finished.counts)
    _print_verdicts(finished.analysis)
    _print_problems(finished.problems)
    print(f"tables: {finished.folder}")
    print(f"report: {finished.report}")


def _print_shard(finished: FinishedShard) -> None:
    _print_counts(finished.counts)
    _print_problems(finished.problems)
    print(f"shard {finished.shard}: {finished.folder} (`steer merge` judges all shards together)")


def _print_counts(counts: Mapping[str, int]) -> None:
    print("trials: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))


def _print_problems(problems: Sequence[str]) -> None:
    for problem in problems[:10]:
        print(f"problem: {log_text(problem)}", file=sys.stderr)
    if len(problems) > 10:
        print(f"problem: and {len(problems) - 10} more, in the manifest", file=sys.stderr)


def _print_verdicts(analysis: Analysis) -> None:
    from steer.analysis.expectations import verdict_text

    for verdict in analysis.verdicts:
        print(log_text(verdict_text(verdict)))
    for note in analysis.notes:
        print(log_text(note))


def _lines(text: str | None) -> str | None:
    """A text of the command line, where a shell leaves `\\n` as it is written."""
    return None if text is None else text.replace("\\n", "\n")


def _command() -> str:
    return shlex.join(["steer", *sys.argv[1:]])


def _print_found(found: Found, write: Path | None) -> None:
    print(log_text(found.text))
    print()
    print(log_text(found.block), end="")
    if write:
        from steer.files import write_atomic

        write_atomic(write, found.block)
        print(f"features: {write}")


def main() -> None:
    """Run the command line; exit codes 0, 1, 2, 3 and 130 as the README has them."""
    for stream in (sys.stdout, sys.stderr):  # a log that is not UTF-8 is no reason for a run to end
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        app()
    except SystemExit as ended:  # usage errors end here with 2, Ctrl-C with 130
        code = ended.code if isinstance(ended.code, int) else 0
        if code == 130:
            print("interrupted; the same command resumes", file=sys.stderr)
        return code
    except Exception as error:  # noqa: BLE001 - Python would end with 1, which here means "an expectation failed"
        return _print_error(error)
    return 0


def _print_error(error: Exception) -> int:
    """Say what is wrong; the exit code that belongs to it."""
    from steer.experiment.problems import render

    match error:
        case SpecError():
            print(render(error.problems), file=sys.stderr)  # type: ignore[arg-type]
        case SteerError():
            print(f"error: {log_text(str(error))}", file=sys.stderr)
        case _:
            import traceback

            print(log_text("".join(traceback.format_exception(error))), end="", file=sys.stderr)
            print("internal error; what had finished is in the journal", file=sys.stderr)
            return 3
    return error.exit_code
