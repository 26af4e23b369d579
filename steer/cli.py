"""The command line: parsing and printing only. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steer.errors import SpecError, SteerError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from steer.analysis.analyse import Analysis
    from steer.pipeline import Finished, Prepared

app = typer.Typer(
    name="steer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Write a YAML file; get evidence that a feature causes what it is said to cause.",
)
features_app = typer.Typer(no_args_is_help=True, help="Statistics, top examples and promoted tokens of features.")

File = Annotated[Path, typer.Argument(help="An experiment file (YAML).")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Overrides a value: generation.max_new_tokens=80.")]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="Keeps part of the plan: condition=clamped,dose=10. Repeatable.")
]
Contains = Annotated[str | None, typer.Option("-k", help="Keeps prompts or conditions whose name contains this.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Keeps the first N prompts.")]
Results = Annotated[Path, typer.Option("--results", help="The folder that runs are written to.")]


@app.command()
def run(
    experiment: File,
    set_: Set = None,
    only: Only = None,
    contains: Contains = None,
    limit: Limit = None,
    results: Results = Path("results"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prints the plan and stops.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Starts anew, also where a run could be resumed.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="An experiment without expectations is an error.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=1, help="Processes; one, for now.")] = 1,
) -> None:
    """Run an experiment: tables, plots, verdicts and a report."""
    from steer import pipeline

    prepared = pipeline.prepare(experiment, set_ or (), _selection(only, contains, limit))
    _print_warnings(prepared)
    if strict and not prepared.experiment.spec.expectations:
        raise UsageError(f"{experiment}: --strict, and the file has no expectations")
    _print_plan(prepared)
    if dry_run:
        return
    try:
        with pipeline.terminated_as_interrupted(), _progress(len(prepared.plan.trials)) as advance:
            selection = _selection(only, contains, limit)
            finished = pipeline.run(prepared, results, fresh, ["steer", *sys.argv[1:]], advance, selection)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    _print_finished(finished)
    raise typer.Exit(finished.exit_code)


@app.command()
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
            print(f"{path}: error: {_plain(str(error))}", file=sys.stderr)
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
    """Judge and draw a finished run again: tables in, verdicts, plots and page out."""
    from steer.analysis.analyse import analyse
    from steer.analysis.tables import read_manifest
    from steer.report.report import report as write

    analysis = analyse(run)
    page = write(run, analysis)
    _print_verdicts(analysis)
    manifest = read_manifest(run)
    for problem in manifest.get("problems", []):
        print(f"problem: {_plain(problem)}", file=sys.stderr)
    print(f"report: {page}")
    if manifest.get("status") != "complete":
        raise typer.Exit(3)
    raise typer.Exit(int(any(verdict.verdict != "pass" for verdict in analysis.verdicts)))


@app.command()
def features(
    feature: Annotated[list[str], typer.Argument(help="layer/index, as in 3/411.")],
    model: Annotated[str, typer.Option("--model", help="Model id or folder.")] = "pocket",
    transcoder: Annotated[str, typer.Option("--transcoder", help="Transcoder id or folder.")] = "pocket",
    examples: Annotated[int, typer.Option("--examples", min=0, help="How many top examples.")] = 5,
) -> None:
    """Show what features are: statistics, top examples, the tokens their decoder vectors promote."""
    from steer.pipeline import transcoder_folder_of
    from steer.transcoder.show import describe_features

    for text in describe_features(feature, model, transcoder_folder_of(transcoder, None), examples):
        print(_plain(text))


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


def _selection(only: list[str] | None, contains: str | None, limit: int | None) -> Any:
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


def _print_plan(prepared: Prepared) -> None:
    from steer.pipeline import outline

    size = outline(prepared, os.cpu_count() or 1)
    print(f"{prepared.experiment.spec.name}: {prepared.experiment.question}")
    print(
        f"plan: {size.trials:,} trials in {size.batches} batches ({size.prompts} prompts, {size.conditions} conditions,"
        f" {size.tokens:,} tokens), about {_duration(size.seconds)}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(1, seconds):.0f} s"


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = _console()
    if not console.is_terminal:
        yield _Lines(total)
        return
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("trials", total=total)
        yield lambda n: progress.advance(task, n)


class _Lines:
    """Progress where there is no terminal: a line every tenth."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.started = total, 0, time.monotonic()

    def __call__(self, n: int) -> None:
        before, self.done = self.done, self.done + n
        if before * 10 // self.total != self.done * 10 // self.total:
            seconds = time.monotonic() - self.started
            bar = "#" * (self.done * 20 // self.total)
            print(f"trials [{bar:<20}] {self.done:,}/{self.total:,}  {seconds:.0f} s", flush=True)


def _print_finished(finished: Finished) -> None:
    counts = ", ".join(f"{count:,} {name}" for name, count in finished.counts.items())
    print(f"trials: {counts}")
    _print_verdicts(finished.analysis)
    for problem in finished.problems[:10]:
        print(f"problem: {_plain(problem)}", file=sys.stderr)
    if len(finished.problems) > 10:
        print(f"problem: and {len(finished.problems) - 10} more, in the manifest", file=sys.stderr)
    print(f"tables: {finished.folder}")
    print(f"report: {finished.report}")


def _print_verdicts(analysis: Analysis) -> None:
    from steer.analysis.expectations import verdict_text

    for verdict in analysis.verdicts:
        print(_plain(verdict_text(verdict)))


def _plain(text: str) -> str:
    """Text that may come from a model, safe for a terminal or a CI log: no control characters, no `::` commands."""
    visible = "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return re.sub(r"(?m)^(\s*):(?=:)", r"\1: ", visible)


def main() -> None:
    """Run the command line; exit codes 0, 1, 2, 3 and 130 as the README has them."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        app()
    except SystemExit as ended:  # usage errors end here with 2, Ctrl-C with 130
        code = ended.code if isinstance(ended.code, int) else 0
        if code == 130:
            print("interrupted; the same command resumes", file=sys.stderr)
        return code
    except SpecError as error:
        from steer.experiment.problems import render

        print(render(error.problems), file=sys.stderr)  # type: ignore[arg-type]
        return error.exit_code
    except SteerError as error:
        print(f"error: {_plain(str(error))}", file=sys.stderr)
        return error.exit_code
    except Exception:  # noqa: BLE001 - Python would end with 1, which here means "an expectation failed"
        import traceback

        traceback.print_exc()
        print("internal error; what had finished is in the journal", file=sys.stderr)
        return 3
    return 0
