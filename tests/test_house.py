"""The house rules that no linter knows: who may import what, and that the README speaks of what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from steer.experiment import spec
from steer.pipeline import check_file

ROOT = Path(__file__).parents[1]
STAGES = ("experiment", "model", "transcoder", "intervention", "measurement", "execution", "analysis", "report")
EXPERIMENTS = sorted((ROOT / "experiments").glob("[!d]*.yaml"))


@pytest.mark.parametrize(
    "module", ["steer.cli", "steer.pipeline", "steer.gate.trust", "steer.analysis.analyse", "steer.report.report"]
)
def test_planning_and_telling_need_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


CHECKS = {
    "intervention.positions",
    "model.tokens",
}  # a file is checked against tokens and positions; neither needs torch


def test_a_stage_imports_only_stages_above_it() -> None:
    for position, stage in enumerate(STAGES):
        for path in (ROOT / "steer" / stage).rglob("*.py"):
            imported = set(re.findall(r"(?m)^\s*(?:from|import) steer\.([\w.]+)", path.read_text()))
            below = {name for name in imported if name.split(".")[0] in STAGES[position + 1 :]}
            assert below <= (CHECKS if path.name == "checks.py" else set()), f"{path.relative_to(ROOT)}: {below}"


def test_one_module_imports_transformer_lens() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "steer").rglob("*.py")
        for line in path.read_text().splitlines()
        if line.startswith(("import transformer_lens", "from transformer_lens"))
    }
    assert importers == {"steer/model/language_model.py"}


def kinds(union: object, field: str) -> set[str]:
    """The words of a discriminated union."""
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields[field].annotation)[0] for member in members}


def test_every_op_measurement_and_control_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    words = kinds(spec.Intervention, "op") | kinds(spec.Measurement, "type") | kinds(spec.Control, "type")
    assert {word for word in words if f"`{word}`" not in readme} == set()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_shipped_experiment_checks_without_a_warning(path: Path) -> None:
    experiment, problems = check_file(path)
    assert problems == ()
    assert experiment.question.endswith("?")
    assert experiment.spec.name == path.stem.replace("_", "-")
    assert any(e.id.startswith("headline") for e in experiment.spec.expectations)


def test_the_starter_file_checks(tmp_path: Path) -> None:
    from steer.experiment.starter import STARTER

    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "starter.yaml").write_text(STARTER)
    assert check_file(tmp_path / "starter.yaml")[1] == ()


def test_the_example_of_the_readme_checks(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    shutil.copytree(ROOT / "experiments" / "prompts", tmp_path / "prompts")
    example = (ROOT / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "example.yaml").write_text(example)
    assert check_file(tmp_path / "example.yaml")[1] == ()
