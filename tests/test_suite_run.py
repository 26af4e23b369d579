"""Several experiment files in one command, on a tiny model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from steer.errors import ModelError
from steer.execution.loaded import Loaded
from steer.model.language_model import LanguageModel
from tests.intervention.world import write_transcoders
from tests.test_pipeline import steer

SMALL = """\
# Does adding a random feature to a random model change anything?
version: 1
name: tiny
model: {{id: {model}}}
transcoder: {{id: {transcoders}}}
features: {{group: [0/3, 1/8]}}
prompts:
  - {{id: one, text: "He saw a carrot and had to grab it,"}}
  - {{id: two, text: "User: who are you"}}
  - {{id: three, text: "the rabbit said to the bridge"}}
generation: {{max_new_tokens: 2}}
conditions:
  pushed: {{interventions: [{{op: add, feature: group, value: 4}}]}}
measurements:
  kl: {{type: kl}}
expectations:
  - {{id: headline, measurement: kl, where: {{condition: pushed}}, min: 1.0e-9}}
"""
PASSES = SMALL.replace("tiny", "passes")
FAILS = SMALL.replace("tiny", "fails").replace("min: 1.0e-9", "max: 1.0e-12")
UNDECIDED = SMALL.replace("tiny", "undecided").replace("1.0e-9", "1.0e-9, confidence: 0.95")
SILENT = SMALL[: SMALL.index("expectations:")].replace("tiny", "silent")
UNFIT = SMALL.replace("tiny", "unfit").replace("feature: group", "feature: 2/1, layers: [0, 0]")
NOTHING = SMALL.replace("tiny", "nothing").replace(
    "op: add, feature: group, value: 4", "op: scale, feature: group, factor: 1"
)
FAR = SMALL.replace("tiny", "far").replace("{{id: {model}}}", "{{id: someone/not-in-any-cache}}") + "needs: [hub]\n"


class Folder:
    """A folder of experiments that is worked in."""

    def __init__(self, path: Path, write: Callable[[Path, str], None]) -> None:
        self.path, self._write = path, write

    def put(self, **files: str) -> None:
        for name, text in files.items():
            self._write(self.path / f"{name}.yaml", text)

    def runs(self, name: str) -> list[Path]:
        return sorted((self.path.parent / "results" / name).glob("2*"))


@pytest.fixture(scope="module")
def transcoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transcoders(tmp_path_factory.mktemp("transcoders"), "jumprelu", n_layers=3, d_model=32)


@pytest.fixture
def folder(
    tiny_folder: Callable[[str], Path], transcoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Folder]:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)
    model = tiny_folder("llama")
    yield Folder(
        tmp_path / "experiments",
        lambda path, text: path.write_text(text.format(model=model, transcoders=transcoders)) and None,
    )


def words(out: str) -> dict[str, list[str]]:
    """The summary table: experiment -> the words of its line."""
    table = out[out.rindex("\nexperiment ") :].splitlines()[2:]
    return {line.split()[0]: line.split()[1:] for line in table if line and not line.startswith("::")}


def test_a_folder_runs_whole_and_the_worst_verdict_is_the_exit_code(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put(a=PASSES, b=FAILS, c=UNDECIDED, d=SILENT, far=FAR)
    (folder.path / "notes.yaml").write_text("name: other\nkind: of file\n")
    page = folder.path.parent / "summary.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder.path.parent))
    loads: list[str] = []
    load = LanguageModel.load.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        LanguageModel, "load", classmethod(lambda c, id, *a, **k: loads.append(id) or load(c, id, *a, **k))
    )
    assert steer("run", "experiments", "--junit", "all.xml") == 1
    out, err = capsys.readouterr()
    assert len(loads) == 1  # four experiments, one model
    table = words(out)
    assert {name: line[:4] for name, line in table.items()} == {
        "far": ["-", "-", "-", "skipped"],
        "passes": ["1", "0", "0", "pass"],
        "fails": ["0", "1", "0", "fail"],
        "undecided": ["0", "0", "1", "inconclusive"],
        "silent": ["0", "0", "0", "expects"],
    }
    assert Path(table["passes"][-1]).is_file()
    assert "far.yaml is skipped: it needs the Hugging Face Hub; HF_HUB_OFFLINE is set" in err
    suites = ElementTree.parse("all.xml").getroot()
    assert suites.attrib == {"tests": "4", "failures": "2", "errors": "0", "skipped": "1"}
    annotations = [line for line in out.splitlines() if line.startswith("::")]
    assert [line[: line.index(",title")] for line in annotations] == [
        "::error file=experiments/b.yaml,line=17",
        "::error file=experiments/c.yaml,line=17",
    ]
    assert page.read_text().startswith("before\n### steer\n") and "| passes |" in page.read_text()


def test_every_problem_of_every_file_is_told_before_anything_runs(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.put(a=PASSES, b=FAILS.replace("op: add", "op: ad"), c=SILENT.replace("kl: {{type: kl}}", "kl: {{tpye: kl}}"))
    (folder.path / "d.yaml").write_text("name: broken\nconditions: {a: [}\n")
    assert steer("run", "experiments") == 2
    err = capsys.readouterr().err
    assert all(f"experiments/{name}.yaml:" in err for name in "bcd") and "nothing was loaded" in err
    assert not (folder.path.parent / "results").exists()


def test_one_experiment_that_cannot_run_does_not_stop_the_others(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put(a=SMALL.replace("tiny", "first"), b=NOTHING, c=PASSES)
    refused = iter([ModelError("no such weights")])
    opened = Loaded.transcoders

    def open_or_refuse(self: Loaded, *wanted: object) -> object:
        for error in refused:
            raise error
        return opened(self, *wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(Loaded, "transcoders", open_or_refuse)
    assert steer("run", "experiments/a.yaml", "experiments/b.yaml", "experiments/c.yaml") == 3
    table = words(capsys.readouterr().out)
    assert [table[name][3] for name in ("first", "nothing", "passes")] == ["did", "incomplete", "pass"]
    assert table["first"][-3:] == ["no", "such", "weights"]


def test_two_files_of_one_name_are_refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.put(a=PASSES, b=PASSES)
    assert steer("run", "experiments", "--dry-run") == 2
    assert "experiments/b.yaml:3:7: error: the name 'passes' is that of experiments/a.yaml" in capsys.readouterr().err


def test_a_selection_leaves_out_files_that_have_nothing_of_it_and_set_is_for_all(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.put(a=PASSES, b=SILENT.replace("pushed", "pulled"))
    assert steer("run", "experiments", "--dry-run", "--only", "condition=pulled") == 0
    out, err = capsys.readouterr()
    assert "silent:" in out and "passes:" not in out and "a.yaml is skipped: not selected" in err
    assert steer("run", "experiments", "--dry-run", "--set", "generation.max_new_tokens=0") == 2
    assert capsys.readouterr().err.count("--set generation.max_new_tokens") == 2
    assert steer("run", "experiments", "--dry-run", "-k", "neither") == 2


def test_an_interruption_ends_the_whole_command(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: object) -> None:
        raise KeyboardInterrupt

    folder.put(a=PASSES, b=SILENT)
    monkeypatch.setattr(Loaded, "model", interrupt)
    assert steer("run", "experiments") == 130
    assert "the same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["nowhere/all.xml", "experiments"])
def test_a_junit_file_that_cannot_be_written_is_refused_before_anything_runs(folder: Folder, where: str) -> None:
    folder.put(a=PASSES)
    assert steer("run", "experiments", "--junit", where) == 2
    assert not os.path.exists("results")  # noqa: PTH110


def test_a_folder_without_experiments_ends_with_2(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert steer("run", "experiments") == 2
    assert "no experiment in it" in capsys.readouterr().err
