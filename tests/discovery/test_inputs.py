from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steer.discovery.inputs import column_of, layers_of, positions_of, prompts_of, readings, token_of
from steer.errors import SpecError, SteerError, UsageError
from steer.experiment.trial import Prompt
from tests.discovery.worlds import engine


@pytest.mark.parametrize(
    ("written", "layers"),
    [(None, (0, 1, 2)), ("0:2", (0, 1)), ("2", (2,)), ("1:", (1, 2)), ("2,0", (0, 2)), (":1,1:3", (0, 1, 2))],
)
def test_layers_are_numbers_and_ranges_without_their_end(
    written: str | None, layers: tuple[int, ...], tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    assert layers_of(written, engine(tiny_model, tmp_path, "llama").transcoders) == layers


@pytest.mark.parametrize("written", ["3", "0:4", "a", "1-2", "2:2", "", "-1"])
def test_layers_that_are_not_there_are_refused(written: str, tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--layers"):
        layers_of(written, engine(tiny_model, tmp_path, "llama").transcoders)


def test_positions_speak_the_language_of_experiment_files(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama", patterns=True)
    prompt = Prompt("one", "User: the rabbit")
    length = len(model.tokens.encode(prompt.text).ids)
    at = {w: readings([prompt], positions_of(w), model)[0].positions for w in ("last", "1:3", "[1, -1]", "all")}
    assert at["last"] == (length - 1,)
    assert at["1:3"] == (1, 2)
    assert at["[1, -1]"] == (1, length - 1)
    assert at["all"] == tuple(range(1, length)), "all but the BOS"
    assert readings([prompt], positions_of('{text: "User:"}'), model)[0].positions[0] == 1


@pytest.mark.parametrize("written", ["nowhere", "{txt: a}", "$x", "{text: [a]}", "{"])
def test_what_is_no_position_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="--positions"):
        positions_of(written)


@pytest.mark.parametrize("written", ["0", "generated", "5:5", '{text: "absent"}', "-99"])
def test_a_prompt_without_a_position_is_refused(written: str, tiny_model: Callable[..., Any]) -> None:
    with pytest.raises(SteerError) as raised:
        readings([Prompt("one", "the rabbit")], positions_of(written), tiny_model("llama", patterns=True))
    assert raised.value.exit_code == 2
    assert "one" in str(raised.value)


def test_prompts_come_from_texts_or_from_a_template(tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    tokens = tiny_model("llama", patterns=True).tokens
    (tmp_path / "a.csv").write_text("question,state\nwho?,Texas\nwhere?,\n")
    prompts = prompts_of(tmp_path / "a.csv", "User: {question}\nAssistant:", tokens)
    assert [prompt.text for prompt in prompts] == ["User: who?\nAssistant:", "User: where?\nAssistant:"]
    assert column_of(prompts, "state", "--each") == ["Texas", ""]
    with pytest.raises(UsageError, match="it has: question, state"):
        column_of(prompts, "city", "--each")
    with pytest.raises(UsageError, match="no column 'name'"):
        prompts_of(tmp_path / "a.csv", "{name}", tokens)
    with pytest.raises(SpecError, match="a row without 'text'"):
        prompts_of(tmp_path / "a.csv", None, tokens)
    with pytest.raises(SpecError, match="there is no file"):
        prompts_of(tmp_path / "b.csv", None, tokens)


def test_a_target_of_several_tokens_is_shown_in_its_pieces(tiny_model: Callable[..., Any]) -> None:
    tokens = tiny_model("llama", patterns=True).tokens
    assert tokens.token(token_of("--target", " the", tokens)) == " the"
    with pytest.raises(UsageError, match=r"--target ' Austin' is not one token here: \[ A\]|\[ \]"):
        token_of("--target", " Austin", tokens)
