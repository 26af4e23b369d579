"""A run in shards, merged, is the run of one piece; what does not fit together is refused, what is missing named."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest

from steer import pipeline
from steer.errors import ResultsError, UsageError
from steer.execution.baselines import awaited, brought
from steer.execution.batches import Batch
from steer.execution.journal import entries
from steer.execution.manifest import damaged, read_manifest
from steer.execution.shards import Shard, share, written_shard
from steer.experiment.trial import Plan, Prompt, Setup, Trial
from steer.merging import merge
from tests.execution.lab import Lab, failing, make_lab, rows_of, without_plots
from tests.project import EXPERIMENT, SMALL, tables
from tests.test_pipeline import steer

# Two prompts and a half fill a batch, so that shards begin in the middle of prompts and of their baselines.
ROWS = 13


@pytest.fixture(scope="module")
def lab(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("shards"), tiny_folder)


def run_shard(lab: Lab, shard: Shard, text: str = EXPERIMENT, **more: Any) -> pipeline.FinishedShard:
    prepared = more.pop("prepared", None) or lab.prepared(text)
    arguments = {"command": ["steer"], "progress": lambda n: None, "loaded": lab.loaded, **more}
    return pipeline.run_shard(prepared, shard, lab.results, **arguments)


def run_shards(lab: Lab, n: int, text: str = EXPERIMENT, **more: Any) -> list[Path]:
    return [run_shard(lab, Shard(i, n), text, **more).folder for i in range(1, n + 1)]


def merged(lab: Lab, given: Sequence[Path]) -> pipeline.Finished:
    with without_plots():
        return merge(given, lab.results, ["steer", "merge"])


def the_same(one: Path, other: Path) -> None:
    """Tables, summary, choices and verdicts, to the last bit."""
    expected = tables(one)
    for name, table in tables(other).items():
        pd.testing.assert_frame_equal(table, expected[name], check_exact=True)
    for name in ("summary.csv", "choices.csv", "expectations.json"):
        assert (one / name).read_text() == (other / name).read_text(), name


# --- whole runs -----------------------------------------------------------------------------------------------


def test_three_shards_merged_are_the_run_of_one_piece_row_for_row(lab: Lab) -> None:
    with rows_of(ROWS):
        whole = lab.run(EXPERIMENT)
        shards = run_shards(lab, 3)
        finished = merged(lab, shards)
    the_same(whole.folder, finished.folder)
    planned = [read_manifest(path)["counts"]["planned"] for path in shards]
    assert sum(planned) > whole.counts["planned"], "no shard had to borrow a baseline"
    assert finished.counts == {**whole.counts, "cached": 0, "run": whole.counts["planned"]}
    assert finished.exit_code == whole.exit_code == 0
    manifest = read_manifest(finished.folder)
    before = read_manifest(whole.folder)
    assert manifest["identity"] == before["identity"] and manifest["hooks"] == before["hooks"]
    assert [part["shard"] for part in manifest["merged"]] == ["1/3", "2/3", "3/3"]
    assert (lab.results / "tiny" / "latest").resolve() == finished.folder.resolve()
    assert damaged(finished.folder) == []


def test_a_shard_has_tables_and_no_verdicts_and_is_never_the_latest(lab: Lab) -> None:
    with rows_of(ROWS):
        (folder, _) = run_shards(lab, 2)
    assert len(tables(folder)["trials"]) == read_manifest(folder)["counts"]["planned"]
    assert not {"expectations.json", "summary.csv", "report.html"} & {path.name for path in folder.iterdir()}
    assert (lab.results / "tiny" / "latest").resolve() != folder.resolve()
    assert tables(folder)["completions"].baseline_text.notna().all()  # borrowed, where it was another's


def test_an_experiment_file_stands_for_its_newest_shards(lab: Lab) -> None:
    with rows_of(ROWS):
        run_shards(lab, 2, fresh=True)
        newest = run_shards(lab, 2, fresh=True)
        finished = merged(lab, [lab.folder / "tiny.yaml"])
    found = [part["run_id"] for part in read_manifest(finished.folder)["merged"]]
    assert found == [path.name for path in newest]


def test_more_shards_than_batches_leave_some_without_trials(lab: Lab) -> None:
    whole = lab.run(SMALL, fresh=True)
    shards = run_shards(lab, 3, SMALL, fresh=True)
    assert sorted(len(tables(path)["trials"]) for path in shards) == [0, 0, whole.counts["planned"]]
    the_same(whole.folder, merged(lab, shards).folder)


def test_a_part_of_an_experiment_with_a_value_set_is_merged_as_it_was_run(lab: Lab) -> None:
    selection, overrides = pipeline.Selection({"condition": ("clamped",)}, None, 2), ("generation.max_new_tokens=2",)
    lab.prepared(EXPERIMENT)
    with rows_of(ROWS):
        prepared = pipeline.prepare(lab.folder / "tiny.yaml", overrides, selection)
        whole = lab.run(prepared=prepared, fresh=True)
        shards = run_shards(lab, 2, prepared=prepared, selection=selection, overrides=overrides)
        finished = merged(lab, shards)
    the_same(whole.folder, finished.folder)
    assert read_manifest(finished.folder)["partial"] is True


def test_a_shard_that_stopped_goes_on_by_itself(lab: Lab) -> None:
    def stop(n: int) -> None:
        if n:
            raise KeyboardInterrupt

    with rows_of(ROWS):
        whole = lab.run(EXPERIMENT, fresh=True)
        first = run_shard(lab, Shard(1, 2), fresh=True)
        with pytest.raises(KeyboardInterrupt):
            run_shard(lab, Shard(2, 2), fresh=True, progress=stop)
        stopped = max((lab.results / "tiny").glob("2*"))
        assert read_manifest(stopped)["status"] == "interrupted" and any(entries(stopped / "journal.jsonl"))
        with pytest.raises(UsageError, match=r"shard 2/2 \(.*\) is not finished \(status interrupted\)"):
            merged(lab, [first.folder, stopped])
        assert run_shard(lab, Shard(2, 2)).folder == stopped
        the_same(whole.folder, merged(lab, [stopped, first.folder]).folder)


def test_failed_trials_of_a_shard_fail_the_merged_run(lab: Lab) -> None:
    with rows_of(ROWS), failing(4):
        whole = lab.run(EXPERIMENT, fresh=True)
        finished = merged(lab, run_shards(lab, 2, fresh=True))
    assert finished.exit_code == whole.exit_code == 3
    assert finished.counts == whole.counts and finished.problems
    expected = tables(whole.folder)
    for name, table in tables(finished.folder).items():
        pd.testing.assert_frame_equal(table, expected[name], check_exact=True)
    assert sorted(finished.problems) == sorted(read_manifest(whole.folder)["problems"])


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shards(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, list[Path]]:
    """A lab of its own with three finished shards."""
    made = make_lab(tmp_path_factory.mktemp("refused"), tiny_folder)
    with rows_of(5):
        return made, run_shards(made, 3, SMALL)


def refusal(lab: Lab, given: Sequence[Path]) -> str:
    before = sorted(lab.results.glob("tiny/*"))
    with rows_of(5), pytest.raises(UsageError) as error:
        merged(lab, given)
    assert sorted(lab.results.glob("tiny/*")) == before
    return str(error.value)


def test_what_is_missing_and_what_is_double_is_named_at_once(shards: tuple[Lab, list[Path]]) -> None:
    lab, (_, second, _) = shards
    said = refusal(lab, [second, second])
    assert "missing: shard 1/3, 3/3" in said and "shard 2/3 is given 2 times" in said


def test_a_run_of_one_piece_is_no_shard(shards: tuple[Lab, list[Path]]) -> None:
    lab, (first, *_) = shards
    assert "not a shard, but a run of one piece" in refusal(lab, [first, lab.run(SMALL).folder])


def test_shards_of_a_file_that_was_changed_between_them_do_not_mix(shards: tuple[Lab, list[Path]]) -> None:
    lab, (first, second, _) = shards
    with rows_of(5):
        other = run_shard(lab, Shard(3, 3), SMALL.replace("dose: [2, 4]", "dose: [2, 3, 4]")).folder
    said = refusal(lab, [first, second, other])
    assert "differ in experiment.sweep.dose" in said and str(other) in said
    lab.prepared(SMALL)
    with rows_of(5):
        longer = run_shard(lab, Shard(3, 4), SMALL).folder
    assert "is one of 4 and" in refusal(lab, [first, second, longer])
    with rows_of(6):
        wider = run_shard(lab, Shard(3, 3), SMALL).folder
    assert "how the plan was cut into batches" in refusal(lab, [first, second, wider])


def test_shards_of_other_weights_do_not_mix(shards: tuple[Lab, list[Path]], tiny_folder: Callable[[str], Path]) -> None:
    lab, (first, second, _) = shards
    elsewhere = Lab(lab.folder.with_name("elsewhere"), tiny_folder("qwen3"), lab.transcoders)
    with rows_of(5):
        foreign = run_shard(elsewhere, Shard(3, 3), SMALL).folder
    said = refusal(lab, [first, second, foreign])
    assert "experiment.model.id" in said and "model.hash" in said


def test_a_file_that_is_another_now_or_is_gone_is_not_merged(shards: tuple[Lab, list[Path]]) -> None:
    lab, given = shards
    lab.prepared(SMALL.replace("max_new_tokens: 3", "max_new_tokens: 4"))
    assert "has been changed since shard 1/3" in refusal(lab, given)
    (lab.folder / "tiny.yaml").unlink()
    assert "is not here; merge where it is" in refusal(lab, given)
    lab.prepared(SMALL)


def test_a_journal_that_lost_a_line_is_not_merged(shards: tuple[Lab, list[Path]], tmp_path: Path) -> None:
    lab, (first, second, third) = shards
    copy = shutil.copytree(second, tmp_path / second.name)
    lost = tables(second)["trials"].query("condition == 'clamped'").trial_id.iloc[0].encode()
    journal = (copy / "journal.jsonl").read_bytes()
    (copy / "journal.jsonl").write_bytes(journal.replace(lost, lost[::-1]))
    lab.prepared(SMALL)
    with rows_of(5), pytest.raises(ResultsError, match="1 trials are in no shard's journal") as error:
        merged(lab, [first, copy, third])
    assert error.value.exit_code == 3


def test_a_file_without_shards_says_how_to_make_them(lab: Lab, tmp_path: Path) -> None:
    lab.prepared(SMALL)
    with pytest.raises(UsageError, match="no shards of .*--shard 1/2"):
        merge([lab.folder / "tiny.yaml"], tmp_path, ["steer"])


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/3", "1/ 3"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected i/n"):
        written_shard(text)


def test_shards_and_their_merging_as_commands(lab: Lab, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lab.prepared(SMALL)
    file, options = lab.folder / "tiny.yaml", ("--results", tmp_path)
    in_one_second = patch("steer.execution.folder.second", return_value="20260102T030405Z")  # names tell no order then
    with rows_of(5), without_plots(), in_one_second:
        assert steer("run", file, "--shard", "1/2", "--dry-run", *options) == 0
        assert not list(tmp_path.iterdir()) and "shard 1/2: " in capsys.readouterr().out
        assert steer("run", file, "--shard", "1/2", *options) == 0
        assert "`steer merge` judges all shards together" in capsys.readouterr().out
        assert steer("merge", file, *options) == 2
        assert "missing: shard 2/2" in capsys.readouterr().err
        assert steer("run", file, "--shard", "2/2", *options) == 0
        assert steer("merge", file, *options) == 0
        assert "pass headline: kl" in capsys.readouterr().out
        failing_bound = file.read_text().replace("min: 0.00001", "max: 0.00001")
        file.write_text(failing_bound)
        for shard in ("1/2", "2/2"):
            assert steer("run", file, "--shard", shard, *options) == 0
        assert steer("merge", file, *options) == 1
    lab.prepared(SMALL)


# --- the arithmetic -------------------------------------------------------------------------------------------


def plan_of(prompts: int, trials: int) -> Plan:
    names = [f"p{i}" for i in range(prompts)]
    made = [
        Trial(f"{name}-{i}", Prompt(name, ""), "baseline" if i == 0 else "c", "none", 0, {}, 0, Setup(), {})
        for name in names
        for i in range(trials)
    ]
    return Plan("x", (), (), (), tuple(made))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("rows", [4, 10, 25])
def test_every_trial_is_one_shards_own_and_every_baseline_is_there(n: int, rows: int) -> None:
    plan = plan_of(12, 10)
    batches = [Batch(plan.trials[i : i + rows]) for i in range(0, len(plan.trials), rows)]
    lengths = {trial.prompt.id: 5 for trial in plan.trials}
    owned: list[str] = []
    for index in range(1, n + 1):
        mine = share(plan, batches, lengths, 3, Shard(index, n))
        there = {(t.prompt.id, t.seed) for t in mine.plan.trials if t.condition == "baseline"}
        assert {(t.prompt.id, t.seed) for t in mine.plan.trials} == there
        known = set(mine.lacking)
        for batch in mine.batches:
            assert awaited(batch) <= known
            known |= brought(batch)
        assert not mine.lacking & there
        ids = {trial.id for trial in mine.plan.trials}
        owned += [t.id for batch in mine.batches for t in batch.trials if t.id in ids and t.condition != "baseline"]
        assert len(mine.batches) <= -(-len(batches) // n) + 2
    assert sorted(owned) == sorted(trial.id for trial in plan.trials if trial.condition != "baseline")
