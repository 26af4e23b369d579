"""`docs/regression.md` says what is so: its tables are computed again, its files are read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from steer.analysis.statistics import clopper_pearson_ends
from steer.errors import SteerError
from steer.experiment.find import TELLING, is_experiment
from steer.pipeline import check_file

PAGE = (Path(__file__).parents[1] / "docs" / "regression.md").read_text()
EXPERIMENT, WORKFLOW = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def rows(first: str) -> list[list[str]]:
    """The cells of a table, by the beginning of its head."""
    table = PAGE[PAGE.index(first) :].split("\n\n")[0]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_fewest_prompts_that_can_pass_are_those_of_the_exact_interval() -> None:
    for bound, *numbers in rows("| bound | no miss |"):
        for misses, number in zip((0, 1, 2, 3, 5), numbers, strict=True):
            n = np.arange(misses + 1, 1000)
            low, _ = clopper_pearson_ends(n - misses, n)
            assert int(n[low >= float(bound.removeprefix("min: "))][0]) == int(number)


def test_the_chances_to_pass_are_those_of_the_binomial_distribution() -> None:
    for really, bound, *chances in rows("| really | bound, at 95 %"):
        for n, chance in zip((20, 40, 60, 100, 200), chances, strict=True):
            hits = np.arange(n + 1)
            low, _ = clopper_pearson_ends(hits, np.full(n + 1, n))
            passes = low >= float(bound.removeprefix("min: "))
            assert stats.binom.pmf(hits, n, float(really))[passes].sum() == pytest.approx(float(chance), abs=0.006)


def test_the_false_alarms_of_a_bare_bound_are_those_of_the_binomial_distribution() -> None:
    said = re.search(
        r"in ([\d.]+) % of all sets of 10 prompts, ([\d.]+) % of 20, ([\d.]+) % of 50 and ([\d.]+) % of 100", PAGE
    )
    assert said is not None
    for n, percent in zip((10, 20, 50, 100), said.groups(), strict=True):
        assert 100 * stats.binom.cdf(round(0.8 * n) - 1, n, 0.9) == pytest.approx(float(percent), rel=0.05)


def test_the_experiment_of_the_page_is_found_and_checks_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "bridge.yaml").write_text(EXPERIMENT)
    assert is_experiment(tmp_path / "bridge.yaml")
    assert check_file(tmp_path / "bridge.yaml")[1] == ()


def test_too_few_prompts_are_warned_of_in_the_words_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    few = re.sub(r"thing: \[.*?\]", "thing: [music, cheese]", EXPERIMENT).replace("min: 0.6", "min: 0.9")
    (tmp_path / "bridge.yaml").write_text(few)
    (said,) = re.findall(r"`(min 0.9 at 95% needs[^`]*)`", PAGE)
    try:
        warnings = check_file(tmp_path / "bridge.yaml")[1]
    except SteerError as error:
        pytest.fail(str(error))
    assert any(" ".join(said.split()) in warning.message for warning in warnings)


def test_the_workflow_of_the_page_is_yaml_and_runs_what_there_is() -> None:
    (job,) = yaml.safe_load(WORKFLOW)["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert "steer run experiments/ --strict --junit junit.xml" in commands


def test_the_page_names_every_key_that_tells_an_experiment() -> None:
    rule = PAGE[PAGE.index("**A YAML file in a folder") :].split("**")[1]
    assert set(re.findall(r"`(\w+):`", rule)) == {"name", *TELLING}
