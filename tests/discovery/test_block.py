from __future__ import annotations

import re
from pathlib import Path

import yaml

from steer.discovery.block import features_block, group_names
from steer.experiment.load import load
from steer.experiment.spec import NAME

GROUPS = {
    "Texas": ["0/3", "1/8"],
    "New York": ["2/1"],
    "new-york": ["0/0"],
    "36": ["1/1"],
    "小": ["2/2"],
    " hot": ["2/3"],
}
EXPERIMENT = """\
# Does it read?
version: 1
name: reads
model: {id: pocket}
transcoder: {id: pocket}
features:
  texas: {file: found.yaml}
  new_york_2: {file: found.yaml}
prompts: [{text: "-"}]
conditions: {c: {interventions: [{op: ablate, feature: texas}]}}
"""


def test_every_value_has_a_name_of_its_own_that_an_experiment_can_say() -> None:
    names = group_names(list(GROUPS))
    assert len(set(names.values())) == len(GROUPS)
    assert all(re.fullmatch(NAME, name) for name in names.values())
    assert names["Texas"] == "texas"


def test_an_experiment_reads_one_of_many_groups_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "found.yaml").write_text(features_block(GROUPS, "steer discover contrast --template 'a\nb'"))
    (tmp_path / "reads.yaml").write_text(EXPERIMENT)
    groups = load(tmp_path / "reads.yaml").features
    assert [member.id for member in groups["texas"]] == ["0/3", "1/8"]
    assert [member.id for member in groups["new_york_2"]] == ["0/0"]


def test_the_command_is_a_comment_whatever_it_holds() -> None:
    block = features_block({"a\nb: [1/1]": ["0/1"]}, "steer discover 'x\ny: [0/0]'\r\x1b[0m")
    assert yaml.safe_load(block) == {"features": {"a_b_1_1": ["0/1"]}}
    assert block.startswith("# steer discover 'x\\ny: [0/0]'")
