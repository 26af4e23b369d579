from __future__ import annotations

from pathlib import Path

import pytest

from steer.errors import UsageError
from steer.experiment.find import experiment_files, is_experiment

WHOLE = "# Why?\nversion: 1\nname: one\nmodel: {id: pocket}\ntranscoder: {id: pocket}\n"


def put(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        WHOLE.replace("\n", "\r\n"),
        "\ufeff" + WHOLE,
        "name: child\nextends: base.yaml\n",
        '"name": x\n"expectations": []\n',
        "name: x\nconditions: {a: [}\n",  # not YAML, and an experiment all the same
        "vresion: 1\nname: x\nmeasurements:\n  - oops\n",
        "name: x\nname: y\ntranscoder : {id: pocket}\n",
    ],
)
def test_a_file_with_a_name_and_a_part_of_an_experiment_is_one_however_broken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "draft.yaml"
    path.write_text(text, newline="")
    assert is_experiment(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- {id: a, text: name}\n",
        "features: {gg: [0/1]}\n",
        "name: build\non: push\njobs: {a: {steps: []}}\n",  # GitHub Actions
        "version: '3'\nname: web\nservices: {a: {image: x, extends: b}}\n",  # docker compose
        "name: env\nchannels: [x]\ndependencies: [y]\n",
        "version: 1\nmodel: {id: pocket}\ntranscoder: {id: pocket}\n",  # a base of others
        "text: |\n  name: x\n  transcoder: y\n",
        "# name: x\n# transcoder: y\n",
    ],
)
def test_prompt_files_feature_files_bases_and_the_yaml_of_others_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    assert not is_experiment(path)


def test_a_folder_is_searched_in_order_with_all_below_it_and_what_begins_with_a_dot_is_left_alone(
    tmp_path: Path,
) -> None:
    names = ("b_dot_yml", "a_dot_yaml", "sub__c_dot_yaml", "_dot_hidden__d_dot_yaml", "e_dot_json", "f_dot_txt")
    put(tmp_path, **dict.fromkeys(names, WHOLE), base_dot_yaml="version: 1\nconditions: {}\n")
    found = experiment_files([tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == ["a.yaml", "b.yml", "sub/c.yaml"]
    assert found.unnamed == (tmp_path / "base.yaml",)


def test_a_file_given_by_name_counts_whatever_is_in_it_and_every_file_counts_once(tmp_path: Path) -> None:
    put(tmp_path, a_dot_yaml=WHOLE, odd_dot_txt="no experiment at all")
    given = [tmp_path / "odd.txt", tmp_path / "a.yaml", tmp_path, tmp_path / "." / "a.yaml", tmp_path / "nothing.yaml"]
    assert [path.name for path in experiment_files(given).files] == ["odd.txt", "a.yaml", "nothing.yaml"]


def test_a_folder_without_an_experiment_is_an_error_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    put(tmp_path, notes_dot_yaml="a: 1\n")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UsageError, match="no experiment in it"):
        experiment_files([tmp_path])


def test_a_file_that_cannot_be_read_is_not_overlooked(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "gone.yaml")
    assert experiment_files([tmp_path]).files == (tmp_path / "a.yaml",)
