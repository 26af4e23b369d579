import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from steer.experiment.schema import PATH, schema, schema_text

jsonschema = pytest.importorskip("jsonschema")

FULL = Path(__file__).parent / "full" / "full.yaml"
VALIDATOR = jsonschema.Draft7Validator(schema())
# keywords that draft 7 does not have
NEWER = {
    "$defs",
    "prefixItems",
    "unevaluatedProperties",
    "dependentRequired",
    "discriminator",
    "$dynamicRef",
    "minContains",
}


def full() -> Any:
    return yaml.safe_load(FULL.read_text(encoding="utf-8"))


def test_the_committed_schema_is_the_one_the_models_make() -> None:
    assert PATH.read_text(encoding="utf-8") == schema_text(), "run `python -m steer.experiment.schema`"


def test_it_is_a_draft_7_schema_without_newer_words() -> None:
    jsonschema.Draft7Validator.check_schema(schema())

    def keys(part: Any) -> set[str]:
        below = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        return set(part if isinstance(part, dict) else ()).union(*(keys(one) for one in below))

    assert not keys(schema()) & NEWER


def test_every_reference_in_it_leads_somewhere() -> None:
    text = json.dumps(schema())
    definitions = schema()["definitions"]
    named = {part.split('"')[0] for part in text.split("#/definitions/")[1:]}
    assert named <= set(definitions)


def test_an_editor_finds_nothing_wrong_in_a_file_that_loads() -> None:
    assert [error.message for error in VALIDATOR.iter_errors(full())] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("vresion",), 1),
        (("conditions", "clamped", "interventions", 0, "op"), "clmap"),
        (("conditions", "clamped", "interventions", 0, "vlaue"), 1),
        (("conditions", "clamped", "interventions", 0, "value"), "2*$dose"),
        (("measurements", "kl", "type"), "KL"),
        (("generation", "max_new_tokens"), 0),
        (("features", "golden_gate"), ["0_1"]),
        (("expectations", 0, "trend"), "up"),
        (("seeds"), 0),
    ],
)
def test_an_editor_marks_what_the_loader_refuses(path: tuple[Any, ...], value: Any) -> None:
    data = full()
    path = (path,) if isinstance(path, str) else path
    box = data
    for key in path[:-1]:
        box = box[key]
    box[path[-1]] = value
    assert list(VALIDATOR.iter_errors(data))


def test_names_and_free_keys_are_allowed() -> None:
    data = full()
    data["x-anything"] = {"a": 1}
    data["conditions"]["clamped"]["interventions"][0]["value"] = "-$dose"
    assert list(VALIDATOR.iter_errors(data)) == []
