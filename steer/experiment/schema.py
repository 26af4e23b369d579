"""The JSON Schema of experiment files, for editors; made from the pydantic models, draft 7 features only.

`python -m steer.experiment.schema` writes it to schema.json beside this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from steer.experiment.spec import ExperimentSpec, Positions, Where

PATH = Path(__file__).with_name("schema.json")
SCALARS = ["string", "number", "boolean"]
# Unions that many fields share: written out once.
NAMED = {"Positions": Positions, "Where": Where}


def schema() -> dict[str, Any]:
    """The schema as plain data."""
    made = _draft7(ExperimentSpec.model_json_schema(by_alias=True, mode="validation"))
    named = {name: _draft7(_without_definitions(alias)) for name, alias in NAMED.items()}
    made = {**_referring(made, named), "definitions": _referring(made["definitions"], named) | named}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "An experiment of steer",
        **{key: value for key, value in made.items() if key != "title"},
        "patternProperties": {"^x-": True},
    }


def schema_text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _without_definitions(alias: Any) -> dict[str, Any]:
    return {key: value for key, value in TypeAdapter(alias).json_schema(by_alias=True).items() if key != "$defs"}


def _referring(part: Any, named: dict[str, Any]) -> Any:
    """The same schema, with a reference wherever a part is written out that has a name."""
    if isinstance(part, list):
        return [_referring(item, named) for item in part]
    if not isinstance(part, dict):
        return part
    for name, whole in named.items():
        if all(part.get(key) == value for key, value in whole.items()):
            rest = {key: value for key, value in part.items() if key not in whole}
            return {"allOf": [{"$ref": f"#/definitions/{name}"}], **rest}
    return {key: _referring(value, named) for key, value in part.items()}


def _draft7(part: Any) -> Any:
    """Newer keywords in the words of draft 7, without what only Python programs need."""
    if isinstance(part, list):
        return [_draft7(item) for item in part]
    if not isinstance(part, dict):
        return part
    known = {key: _draft7(value) for key, value in part.items() if not (key == "title" and isinstance(value, str))}
    known.pop("discriminator", None)
    if "prefixItems" in known:
        known["items"] = known.pop("prefixItems")
    if "$defs" in known:
        known["definitions"] = known.pop("$defs")
    if "$ref" in known:
        known["$ref"] = known["$ref"].replace("#/$defs/", "#/definitions/")
    if "oneOf" in known:
        known["anyOf"] = known.pop("oneOf")  # the tags that tell members apart in Python are no part of the file
    if known.get("type") == "string" and not {"enum", "const", "pattern"} & set(known):
        known["type"] = SCALARS  # text needs no quotes: `revision: 1234567` is one for YAML's eyes only
    return known


if __name__ == "__main__":
    PATH.write_text(schema_text(), encoding="utf-8")
