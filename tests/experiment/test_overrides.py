from pathlib import Path

import pytest

from steer.errors import SpecError
from steer.experiment.load import load
from steer.experiment.overrides import merge, read_extended
from steer.experiment.source import read

BASE = """\
version: 1
name: base
model: {id: pocket, dtype: bfloat16}
transcoder: {id: pocket}
prompts: [{id: a, text: "Hi"}, {id: b, text: "Ho"}]
generation: {max_new_tokens: 8, stop: [x, y]}
measurements: {m: {type: length}}
"""


def merged(base: str, top: str) -> object:
    one, other = read(base, "base").root, read(top, "top").root
    assert one is not None and other is not None
    return merge(one, other).data


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def problems(path: Path, *settings: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(path, settings)
    return [str(problem).splitlines()[0].removeprefix(f"{path.parent}/") for problem in caught.value.problems]


def test_mappings_merge_lists_and_scalars_replace_and_null_removes() -> None:
    base = "a: {x: 1, y: 2}\nb: [1, 2]\nc: 3\nd: 4\n"
    assert merged(base, "a: {y: 5, z: 6}\nb: [7]\nc: null\n") == {
        "a": {"x": "1", "y": "5", "z": "6"},
        "b": ["7"],
        "d": "4",
    }


def test_a_file_that_extends_another_is_the_two_laid_over_each_other(project: Path) -> None:
    (project / "top.yaml").write_text("extends: base.yaml\nname: top\ngeneration: {max_new_tokens: 9, stop: [z]}\n")
    spec = load(project / "top.yaml").spec
    assert (spec.name, spec.model.dtype) == ("top", "bfloat16")
    assert spec.generation is not None and (spec.generation.max_new_tokens, spec.generation.stop) == (9, ("z",))
    assert spec.extends is None


def test_a_file_that_says_the_same_in_two_files_has_the_same_hash(project: Path) -> None:
    (project / "top.yaml").write_text("extends: base.yaml\nname: top\n")
    (project / "whole.yaml").write_text(BASE.replace("name: base", "name: top"))
    assert load(project / "top.yaml").hash == load(project / "whole.yaml").hash


def test_problems_of_an_extended_file_point_into_it(project: Path) -> None:
    (project / "base.yaml").write_text(BASE.replace("dtype: bfloat16", "dytpe: bfloat16"))
    (project / "top.yaml").write_text("extends: base.yaml\nnaem: top\n")
    assert problems(project / "top.yaml") == [
        "top.yaml:2:1: error: unknown key 'naem'",
        "base.yaml:3:21: error: unknown key 'dytpe'",
    ]


@pytest.mark.parametrize("own", ["a.yaml", "b.yaml"])
def test_a_circle_of_files_is_an_error(project: Path, own: str) -> None:
    (project / "a.yaml").write_text("extends: b.yaml\n")
    (project / "b.yaml").write_text("extends: a.yaml\n")
    assert any("in a circle" in problem for problem in problems(project / own))


@pytest.mark.parametrize("written", ["../base.yaml", "/etc/hostname", "nowhere.yaml", "", "link.yaml", "~", "[a]"])
def test_a_base_outside_the_project_or_none_is_an_error_or_nothing(
    project: Path, tmp_path_factory, written: str
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "base.yaml"
    outside.write_text(BASE)
    (project / "link.yaml").symlink_to(outside)
    (project / "top.yaml").write_text(f"extends: {written}\n")
    assert problems(project / "top.yaml")


def test_files_named_in_a_base_are_found_from_the_base(project: Path) -> None:
    (project / "shared" / "prompts").mkdir(parents=True)
    (project / "shared" / "prompts" / "p.jsonl").write_text('{"text": "Hi"}\n')
    (project / "shared" / "base.yaml").write_text(BASE.replace('{id: a, text: "Hi"}', "{file: prompts/p.jsonl}"))
    (project / "own").mkdir()
    (project / "own" / "top.yaml").write_text("extends: ../shared/base.yaml\nname: top\n")
    assert load(project / "own" / "top.yaml").rows[0].text == "Hi"


def test_set_puts_a_value_in_and_null_takes_it_out(project: Path) -> None:
    settings = [
        "generation.max_new_tokens=80",
        "prompts.1.text=Yo",
        "generation.stop=null",
        "sweep.dose=[1, 2]",
        "model.id=x:1",
    ]
    spec = load(project / "base.yaml", settings).spec
    assert spec.generation is not None and (spec.generation.max_new_tokens, spec.generation.stop) == (80, ())
    assert (spec.prompts[1].text, spec.sweep["dose"], spec.model.id) == ("Yo", ("1", "2"), "x:1")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "generation.max_new_tokens",
            "--set generation.max_new_tokens: error: 'generation.max_new_tokens' is not of the form",
        ),
        ("generation..x=1", "--set generation..x: error: 'generation..x=1' is not of the form a.b.c=value"),
        ("prompts.7.text=a", "--set prompts.7.text: error: a list has no item '7'"),
        ("name.x=a", "--set name.x: error: there is no 'x' inside a plain value"),
        (
            "generation.max_new_tokens=many",
            "--set generation.max_new_tokens:1:1: error: 'max_new_tokens: many' should be",
        ),
        ("generation.tokens=8", "--set generation.tokens: error: unknown key 'tokens'"),
        ("name=[", "--set name:1:2: error: not YAML"),
    ],
)
def test_a_wrong_setting_is_a_problem_that_names_it(project: Path, setting: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems(project / "base.yaml", setting))


def test_reading_without_overrides_keeps_the_file_as_it_is(project: Path) -> None:
    assert read_extended(project / "base.yaml", project).data == read(BASE, "base.yaml").data
