from __future__ import annotations

from pathlib import Path

import pytest

from steer.analysis.sides import Change, find_sides, manifest_changes
from steer.errors import UsageError


def make_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "gate" / "20261120T180000Z-1a2b3c4d")
    (tmp_path / "gate" / "latest").symlink_to(run.name)
    make_run(tmp_path / "reference" / "gate")
    return tmp_path


def test_words_and_paths_name_the_same_runs(results: Path) -> None:
    expected = (results / "reference" / "gate", results / "gate" / "latest")
    assert find_sides("reference", "latest", results, None) == expected
    assert find_sides("reference", "latest", results, "gate") == expected
    assert find_sides(*map(str, expected), Path("elsewhere"), None) == expected


def test_everything_that_is_missing_is_said_with_what_there_is(results: Path) -> None:
    with pytest.raises(UsageError) as error:
        find_sides(str(results / "gate"), "nowhere", results, None)
    text = str(error.value)
    assert f"{results / 'gate'}: not a run folder" in text and "nowhere: no such run folder" in text
    assert str(results / "gate" / "latest") in text and str(results / "reference" / "gate") in text


def test_a_word_that_fits_several_experiments_asks_for_the_name(results: Path) -> None:
    make_run(results / "reference" / "poem")
    with pytest.raises(UsageError, match="reference: 2 experiments have one, say --name"):
        find_sides("reference", "latest", results, None)
    assert find_sides("reference", "latest", results, "gate")[0] == results / "reference" / "gate"


def test_a_word_that_fits_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="(?s)latest: no experiment has one.*there is: nothing"):
        find_sides("latest", "reference", tmp_path, None)


def test_what_the_run_was_made_with_comes_before_the_experiment() -> None:
    old = {"experiment": {"seeds": [0]}, "model": {"id": "pocket", "hash": "aa"}, "packages": {"torch": "2.12"}}
    new = {"experiment": {"seeds": [0, 1]}, "model": {"id": "pocket", "hash": "bb"}, "packages": {}}
    assert manifest_changes(old, new) == (
        Change("model.hash", "aa", "bb"),
        Change("packages.torch", "2.12", None),
        Change("experiment.seeds", [0], [0, 1]),
    )


def test_what_every_run_has_of_its_own_is_no_difference() -> None:
    own = ("run_id", "created", "finished", "timings", "outputs", "counts", "identity")
    assert manifest_changes(dict.fromkeys(own, 1), dict.fromkeys(own, 2)) == ()


def test_an_inserted_expectation_is_one_change() -> None:
    first, second = {"id": "a", "min": 0.5}, {"id": "b", "min": 0.7}
    old, new = ({"experiment": {"expectations": entries}} for entries in ([second], [first, second]))
    keys = {change.key for change in manifest_changes(old, new)}
    assert keys == {"experiment.expectations[a].id", "experiment.expectations[a].min"}
