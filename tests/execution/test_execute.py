"""What is found out when a session is opened, and what fails in a run without failing it all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from steer.errors import ModelError
from steer.execution import execute
from steer.execution.memory import trim
from tests.execution.lab import SMALL, Lab, make_lab
from tests.project import tables

Folder = Callable[[str], Path]
LONG = "the rabbit had a habit " * 60
HALF = SMALL.replace("id: {model}", "id: {model}, dtype: float16")


@pytest.fixture
def lab(tmp_path: Path, tiny_folder: Folder) -> Lab:
    return make_lab(tmp_path, tiny_folder)


def test_prompts_that_leave_no_room_in_the_context_are_named_before_anything_runs(lab: Lab) -> None:
    longer = SMALL.replace("User: who are you", LONG).replace("the rabbit said", LONG)
    with pytest.raises(ModelError, match=r"reads 256 tokens, 3 of them for .*: prompts two \(\d{3} tokens\), three \("):
        lab.run(longer)
    assert not lab.results.exists()


def test_what_may_be_generated_counts_as_context(lab: Lab) -> None:
    with pytest.raises(ModelError, match=r"256 tokens, 250 of them for what is generated: prompts one \(\d+ tokens\)"):
        lab.run(SMALL.replace("max_new_tokens: 3", "max_new_tokens: 250"))


def test_a_donor_that_is_too_long_is_shown(lab: Lab) -> None:
    donated = SMALL.replace("unit: max_act", f'unit: donor_act, donor: {{{{text: "{LONG}", position: 0}}}}')
    with pytest.raises(Exception, match=r"the text 'the rabbit had a habit .*' \.\.\. is \d+ tokens; .* reads 256"):
        lab.run(donated)


@pytest.mark.parametrize(
    ("architecture", "reads", "why"),
    [("pythia", "hook_resid_mid", "side by side"), ("olmo2", "ln2.hook_normalized", "")],
)
def test_a_transcoder_that_reads_where_the_model_has_no_point_is_refused(
    tmp_path: Path, tiny_folder: Folder, architecture: str, reads: str, why: str
) -> None:
    lab = make_lab(tmp_path, tiny_folder, architecture)
    config = json.loads((lab.transcoders / "config.yaml").read_text())
    (lab.transcoders / "config.yaml").write_text(json.dumps(config | {"feature_input_hook": reads}))
    with pytest.raises(
        ModelError, match=rf"no hook point 'blocks\.0\.{reads}'; .*{why}.*block 0 .*has: .*mlp\.hook_in"
    ):
        lab.run()
    assert not lab.results.exists()


def test_an_edit_that_overflows_float16_fails_its_trials_and_no_others(lab: Lab) -> None:
    ran = lab.run(HALF.replace("dose: [2, 4]", "dose: [2, 1000000]").replace("dose: 4", "dose: 2"))
    manifest = json.loads((ran.folder / "manifest.json").read_text())
    assert ran.exit_code == 3 and manifest["status"] == "failed"
    assert "overflowed" in manifest["problems"][0]
    found = tables(ran.folder)
    assert set(found["trials"].dose.dropna()) == {2.0}
    numbers = found["measurements"][["baseline", "intervened", "effect"]].astype(float)
    assert len(numbers) and numbers.abs().max().max() < float("inf")


def test_a_model_that_overflows_by_itself_says_so(tmp_path: Path, tiny_folder: Folder) -> None:
    lab = make_lab(tmp_path / "lab", tiny_folder)
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "huge")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] *= 1e5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    lab.model = folder
    ran = lab.run(HALF)
    problems = json.loads((ran.folder / "manifest.json").read_text())["problems"]
    assert ran.counts["failed"] == ran.counts["planned"]
    assert "overflowed: its logits are no longer finite (float16 ends at 6.55e+04)" in problems[0]


def test_unused_memory_goes_back_after_every_fourth_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(execute, "run_in_memory", lambda batch, *_: [(batch, done.append(batch))])
    monkeypatch.setattr(execute, "trim", lambda: done.append("trim"))
    parts = [part for part, _ in execute.run_here(list("abcdefghi"), None, {})]  # type: ignore[arg-type]
    assert parts == list("abcdefghi")
    assert "".join(done) == "abcdtrimefghtrimi"


def test_where_the_c_library_cannot_be_asked_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    trim()
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("asked"))
    trim()
