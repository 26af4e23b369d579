from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from steer.errors import SpecError
from steer.experiment import spec
from steer.experiment.load import Experiment, load
from steer.experiment.problems import Code, Problem, render
from steer.experiment.source import read
from steer.experiment.validation import keys_of
from tests.experiment.mutate import damaged, mutated

HERE = Path(__file__).parent
FULL = HERE / "full" / "full.yaml"
WRONG = HERE / "wrong"
MUTATIONS = 100

SMALL = """\
# yaml-language-server: $schema=x
# Does it load?
version: 1
name: small
model: {id: pocket}
transcoder: {id: pocket}
features: {gg: [0/1, 0/2]}
prompts: [{id: a, text: "Who are you? "}]
sweep: {dose: [1, 2]}
conditions: {clamped: {interventions: [{op: clamp, feature: gg, value: $dose}]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


def found(path: Path, text: str) -> tuple[Problem, ...]:
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        return load(path).warnings
    except SpecError as error:
        return error.problems  # type: ignore[return-value]


def loaded(folder: Path, text: str) -> Experiment:
    (folder / "e.yaml").write_text(text, encoding="utf-8")
    return load(folder / "e.yaml")


# --- what is right --------------------------------------------------------------------------------------------


def test_a_file_that_says_everything_loads_without_a_word() -> None:
    assert load(FULL).warnings == ()


def test_the_resolved_experiment_is_json_and_means_the_same() -> None:
    experiment = load(FULL)
    again = spec.ExperimentSpec.model_validate(json.loads(json.dumps(experiment.resolved)))
    assert again.conditions == experiment.spec.conditions
    assert again.expectations == experiment.spec.expectations
    assert again.features["found"][1].id == "1/9"  # type: ignore[index,union-attr]


def test_values_get_their_types_from_the_schema() -> None:
    full = load(FULL).spec
    assert full.model.revision == "1234567"
    assert full.conditions["clamped"].constrain == spec.Constrain(layers=(0, "$end"))
    assert full.seeds == (0, 1)


def test_axes_are_written_out_and_each_condition_knows_its_own() -> None:
    experiment = load(FULL)
    assert experiment.axes["dose"] == ("0", "1", "2.5", "5")
    assert experiment.axes["end"] == ("0", "1")
    assert experiment.axes["which_one"] == ("0/41", "0/7")
    assert experiment.axes_used == {
        "clamped": ("dose", "end", "held"),
        "swapped": (),
        "others": ("dose", "where_at", "which_one"),
        "grid": (),
    }


def test_rows_come_from_entries_files_and_grids_with_their_columns() -> None:
    rows = load(FULL).rows
    assert [row.id for row in rows] == ["who", "chat", "n1", "n2", "c1", "c2", *[None] * 6]
    assert rows[1].columns == {"mood": "calm", "split": "dev", "state": "texas", "place": "Dallas"}
    assert rows[4].columns == {"name": "Jo, B", "place": "Dallas", "state": "texas", "split": "test"}
    assert [(row.columns["a"], row.columns["b"]) for row in rows[6:]] == [(a, b) for a in "012" for b in "12"]
    assert [row.text is None for row in rows] == [False, True, False, False, *[True] * 8]


def test_the_question_is_the_first_comment_that_is_not_for_an_editor(folder: Path) -> None:
    assert loaded(folder, SMALL).question == "Does it load?"


def test_a_feature_listed_twice_edits_once_with_a_warning(folder: Path) -> None:
    experiment = loaded(folder, SMALL.replace("0/2", "0/1"))
    assert [member.id for member in experiment.features["gg"]] == ["0/1"]
    assert [warning.message for warning in experiment.warnings] == [
        "feature 0/1 is listed twice in 'gg': it edits once"
    ]


def test_free_keys_are_free(folder: Path) -> None:
    assert loaded(folder, SMALL + "x-note: {any: [thing]}\nmetadata: [1, {a: b}]\n").warnings == ()


def test_the_hash_is_of_the_meaning_and_not_of_the_writing(folder: Path) -> None:
    first = loaded(folder, SMALL).hash
    assert len(first) == 64
    lines = SMALL.splitlines()
    reordered = "\n".join([*lines[:4], *lines[:3:-1]])
    for same in (
        SMALL + "# more\n",
        SMALL + "metadata: note\n",
        reordered,
        SMALL.replace("{id: pocket}", "{id: 'pocket'}"),
    ):
        assert loaded(folder, same).hash == first
    for other in ("you?", "you?  ", "you? \\n"):
        assert loaded(folder, SMALL.replace("you? ", other)).hash != first


def test_the_hash_depends_on_the_content_of_prompt_and_feature_files(tmp_path: Path) -> None:
    shutil.copytree(HERE / "full", tmp_path / "full")
    seen = {load(tmp_path / "full" / "full.yaml").hash}
    for name in ("found.yaml", "prompts/neutral.jsonl", "prompts/sad.jsonl", "prompts/names.csv"):
        path = tmp_path / "full" / name
        path.write_text(
            path.read_text()
            .replace("0/3", "0/4")
            .replace("who are", "what are")
            .replace("Sad", "Bad")
            .replace("Al", "Bo")
        )
        seen.add(load(tmp_path / "full" / "full.yaml").hash)
    assert len(seen) == 5


def test_loading_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom steer.experiment.load import load\n"
        f"load(Path({str(FULL)!r}))\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'transformers', 'scipy') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parents[1], check=True
    )
    assert result.stdout.strip() == "[]"


# --- what is wrong --------------------------------------------------------------------------------------------


def expected() -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for line in (WRONG / "expected.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            lines = table.setdefault(line[2:], [])
        else:
            lines.append(line)
    return table


def test_every_wrong_file_is_in_the_table() -> None:
    files = {path.name for path in WRONG.glob("*.yaml")} - {"base.yaml"}
    assert set(expected()) == files and len(files) >= 30


@pytest.mark.parametrize("name", list(expected()))
def test_a_wrong_file_gets_exactly_its_problems(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(WRONG)
    try:
        problems: Any = load(Path(name)).warnings
    except SpecError as error:
        problems = error.problems
    told = [
        f"{p.place}: {p.code.value} {p.severity}: {p.message}" + (f" => {p.help}" if p.help else "") for p in problems
    ]
    assert told == expected()[name]


def test_all_problems_are_rendered_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(WRONG)
    with pytest.raises(SpecError) as caught:
        load(Path("design_sample.yaml"))
    text = render(caught.value.problems)  # type: ignore[arg-type]
    assert text.startswith(
        "design_sample.yaml:14:14: error: 'op: clmap' is not one of: clamp, scale, add, ablate, swap, steer\n"
        "   14 |       - {op: clmap, feature: gg, value: 8}\n"
        "      |              ^\n"
        "      = help: did you mean 'clamp'?\n"
        "design_sample.yaml:15:34: error: unknown key 'vlaue'\n"
    )
    assert text.endswith("6 problems; nothing was loaded.")
    assert caught.value.exit_code == 2


FULL_DATA = read(FULL.read_text(encoding="utf-8"), FULL).data


def models(annotation: Any, seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """Every mapping of the schema, found from its annotations alone."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        seen.add(annotation)
        for field in annotation.model_fields.values():
            models(field.annotation, seen)
    for argument in getattr(annotation, "__args__", ()):
        models(argument, seen)
    if hasattr(annotation, "__origin__"):
        models(annotation.__origin__, seen)
    return seen


MODELS = sorted(models(spec.ExperimentSpec, set()), key=lambda model: model.__name__)


def sites(data: Any, model: type[BaseModel], path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in the data a mapping of this model stands, told by its keys and by what it is tried as."""
    boxes = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    if isinstance(data, dict) and fits(model, data) and belongs(model, path):
        yield path
    for key, value in boxes:
        yield from sites(value, model, (*path, key))


def fits(model: type[BaseModel], data: dict[str, Any]) -> bool:
    try:
        model.model_validate(data)
    except ValueError:
        return False
    return True


SECTIONS = {
    "Each": "sweep",
    "Limit": "choose",
    "Choose": "choose",
    "Expectation": "expectations",
    "PromptEntry": "prompts",
    "Message": "prompts",
    "FeatureFile": "features",
    "PromptSet": "directions",
    "Direction": "directions",
    "DirectionFile": "conditions",
    "DonorPrompt": "conditions",
    "DonorText": "conditions",
    "Transcoder": "transcoder",
    "Model": "model",
}
ENDS = {
    "DonorPrompt": "donor",
    "DonorText": "donor",
    "Freeze": "freeze",
    "Constrain": "constrain",
    "DirectionFile": "direction",
}


def belongs(model: type[BaseModel], path: tuple[Any, ...]) -> bool:
    name = model.__name__
    depth = {
        "PromptEntry": 2,
        "Direction": 2,
        "FeatureFile": 2,
        "Each": 2,
        "Choose": 2,
        "Expectation": 2,
        "Condition": 2,
    }
    depth |= {"ExperimentSpec": 0, "Model": 1, "Transcoder": 1, "Generation": 1}
    return (
        ("metadata" not in path and "x-words" not in path and "where" not in path and "columns" not in path)
        and (name not in SECTIONS or path[:1] == (SECTIONS[name],))
        and (name not in ENDS or path[-1] == ENDS[name])
        and (name not in depth or len(path) == depth[name])
        and not (name == "Limit" and "limits" not in path)
        and not (name.endswith("Selector") and not any(str(key).startswith("position") for key in path))
    )


def changed(path: tuple[Any, ...], value: Any) -> Any:
    data = json.loads(json.dumps(FULL_DATA))
    below(data, path[:-1])[path[-1]] = json.loads(json.dumps(value))
    return data


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(HERE / "full", tmp_path_factory.mktemp("fields") / "full"))


FILE_DIRECTION = ("conditions", "others", "interventions", 3, "direction")


def sample(model: type[BaseModel]) -> tuple[Any, tuple[Any, ...]]:
    """Data in which a mapping of this model stands, and where."""
    if model is spec.ExperimentSpec:
        return changed(("name",), "full"), ()
    if model is spec.DirectionFile:
        return changed(FILE_DIRECTION, {"file": "d.safetensors"}), FILE_DIRECTION
    path = next(sites(FULL_DATA, model), None)
    assert path is not None, f"tests/experiment/full/full.yaml has no {model.__name__}"
    return changed(path, below(FULL_DATA, path)), path


def below(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


STRICT = [model for model in MODELS if model is not spec.PromptEntry]  # every other key of a prompt is a column


@pytest.mark.parametrize("model", STRICT, ids=lambda model: model.__name__)
def test_every_mapping_refuses_a_key_it_does_not_know(model: type[BaseModel], playground: Path) -> None:
    data, path = sample(model)
    below(data, path)["zzz"] = "1"
    text = json.dumps(data, indent=1, ensure_ascii=False)
    problems = found(playground / "m.yaml", text)
    unknown = [problem for problem in problems if problem.message == "unknown key 'zzz'"]
    assert [problem.place for problem in unknown] == [read(text, playground / "m.yaml").key((*path, "zzz"))]


FIELDS = [
    (model, key) for model in MODELS for key in keys_of(model) if (model, key) != (spec.ExperimentSpec, "metadata")
]


@pytest.mark.parametrize(("model", "key"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_every_field_refuses_a_value_of_the_wrong_kind_in_its_place(
    model: type[BaseModel], key: str, playground: Path
) -> None:
    data, path = sample(model)
    below(data, path)[key] = {"zz": {"zz": "zz"}}
    path = (*path, key)
    text = json.dumps(data, indent=1, ensure_ascii=False)
    problems = found(playground / "m.yaml", text)
    source = read(text, playground / "m.yaml")
    node = source.node(path)
    assert node is not None
    lines = {source.key(path).line} | {one.place.line for _, one in node.walk()}
    there = [p for p in problems if p.severity == "error" and p.place.line in lines]
    assert there and not any("something else" in p.message or "None" in p.message for p in problems)


def test_a_prompt_file_cannot_bring_characters_that_are_none(folder: Path) -> None:
    (folder / "p.jsonl").write_text('{"text": "a\\ud800"}\n{"text": "b", "c": "\\u0000"}\n')
    text = SMALL.replace('{id: a, text: "Who are you? "}', "{file: p.jsonl}")
    assert [(p.place.line, p.code) for p in found(folder / "e.yaml", text)] == [
        (1, Code.CHARACTERS),
        (2, Code.CHARACTERS),
    ]


def test_a_long_axis_is_checked_in_a_moment(folder: Path) -> None:
    values = ", ".join(map(str, range(20_000)))
    problems = found(folder / "e.yaml", SMALL.replace("[1, 2]", f"[{values}, 7.0]"))
    assert [problem.message for problem in problems] == ["'7.0' is twice on the sweep axis 'dose'"]


# --- garbage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(0, MUTATIONS, 10))
def test_damaged_files_are_refused_or_loaded_and_never_a_traceback(seed: int, playground: Path) -> None:
    text = FULL.read_text(encoding="utf-8")
    for one in range(seed, seed + 10):
        for content in (mutated(text, one), json.dumps(damaged(FULL_DATA, one), indent=1, ensure_ascii=False)):
            for problem in found(playground / "m.yaml", content):
                assert str(problem).isprintable() or "\n" in str(problem)


@pytest.mark.parametrize(
    "written",
    [
        "../../../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "/dev/zero",
        "link.jsonl",
        "fifo.jsonl",
        "a\\x00b",
        "\\\\\\\\host\\\\share",
        "~/x",
    ],
)
@pytest.mark.parametrize("field", ["prompts", "features", "directions", "direction", "extends"])
def test_paths_stay_in_the_project(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, field: str, written: str
) -> None:
    import os

    outside = tmp_path_factory.mktemp("outside") / "secret.jsonl"
    outside.write_text('{"text": "secret"}\n')
    (folder / "link.jsonl").symlink_to(outside)
    os.mkfifo(folder / "fifo.jsonl")
    path = f'"{written}"'
    text = {
        "prompts": SMALL.replace('text: "Who are you? "', f"file: {path}").replace("id: a, ", ""),
        "features": SMALL.replace("[0/1, 0/2]", f"{{file: {path}}}"),
        "directions": SMALL
        + f"directions: {{d: {{positive: {{file: {path}}}, negative: {{file: {path}}}, layer: 0}}}}\n",
        "direction": SMALL.replace(
            "op: clamp, feature: gg, value: $dose",
            f"op: steer, direction: {{file: {path}}}, layer: 0, coefficient: $dose",
        ),
        "extends": SMALL + f"extends: {path}\n",
    }[field]
    problems = found(folder / "e.yaml", text)
    assert any(problem.severity == "error" and "e.yaml" in problem.place.file for problem in problems)
    assert not any("secret" in str(problem) for problem in problems)
