from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer.experiment.prompts import render
from steer.experiment.rows import PromptRow
from steer.experiment.spec import Message
from steer.experiment.substitute import Misfit
from steer.experiment.trial import Prompt

LAW = settings(max_examples=60, deadline=None)
CELL = st.text(st.characters(exclude_categories=["Cs", "Co"]), max_size=10)


class Gemma:
    """A chat template that strips every turn, as most do."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        return "".join(f"<{m['role']}>{m['content'].strip()}</>" for m in messages) + "<assistant>"


class Rewriting:
    """A chat template that changes what the turns say."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        return "|".join(f"{len(m['content'])} {m['content']}" for m in messages)


def row(
    id: str | None = None,
    text: str | None = None,
    template: str | None = None,
    messages: tuple[Message, ...] | None = None,
    prefix: str | None = None,
    **columns: str,
) -> PromptRow:
    return PromptRow(entry=0, id=id, text=text, template=template, messages=messages, prefix=prefix, columns=columns)


def one(given: PromptRow) -> Prompt:
    (prompt,) = render([given], Gemma())
    return prompt


def test_a_text_is_literal_and_a_prefix_is_part_of_the_prompt() -> None:
    prompt = one(row(id="who", text="{a} {{", prefix=" I am {b}", b="B"))
    assert prompt.text == "{a} {{ I am B"
    assert prompt.spans == {"b": ((12, 13),)}


@LAW
@given(a=CELL, b=CELL)
def test_the_spans_of_a_template_cut_the_cells_out_of_the_text(a: str, b: str) -> None:
    prompt = one(row(template="x {a} + {b}, {{{a}}}", a=a, b=b))
    assert prompt.text == f"x {a} + {b}, {{{a}}}"
    for column, cell, times in (("a", a, 2), ("b", b, 1)):
        cut = [prompt.text[start:end] for start, end in prompt.spans.get(column, ())]
        assert cut == [cell.strip()] * (times if cell.strip() else 0)
    assert all(start < end for spans in prompt.spans.values() for start, end in spans)


@LAW
@given(name=CELL, city=CELL)
def test_the_spans_of_messages_are_found_in_what_the_chat_template_made(name: str, city: str) -> None:
    messages = (
        Message(role="system", content="  {city} "),
        Message(role="user", content="Is {name} in {city}?"),
    )
    prompt = one(row(messages=messages, prefix="\n{name}", name=name, city=city))
    assert prompt.text == f"<system>{city.strip()}</><user>Is {name} in {city}?</><assistant>\n{name}"
    for column, cell in (("name", name.strip()), ("city", city.strip())):
        cut = [prompt.text[start:end] for start, end in prompt.spans.get(column, ())]
        assert cut == [cell] * (2 if cell else 0)


def test_a_chat_template_that_rewrites_a_turn_leaves_no_span() -> None:
    (prompt,) = render([row(messages=(Message(role="user", content="Is {name}?"),), name="Ann")], Rewriting())
    assert prompt.text == "7 Is Ann?"
    assert prompt.spans == {}


def test_a_prompt_without_an_id_gets_one_from_its_text() -> None:
    rows = [row(id="mine", text="Hello"), row(text="Hello"), row(text="Hello", kind="again"), row(text="Bye")]
    ids = [prompt.id for prompt in render(rows, Gemma())]
    hello, bye = (hashlib.sha256(text).hexdigest()[:8] for text in (b"Hello", b"Bye"))
    assert ids == ["mine", hello, f"{hello}-2", bye]


def test_every_column_that_a_row_does_not_have_is_reported() -> None:
    with pytest.raises(Misfit) as caught:
        render([row(template="{a} {b}", a="1"), row(template="{c}")], Gemma())
    messages = [message for _, message, _ in caught.value.found]
    assert messages == ["no column 'b' (there are: a)", "no column 'c' (there are: none)"]


def test_columns_travel_with_the_prompt_and_an_empty_cell_renders_as_nothing() -> None:
    prompt = one(row(template="a{adjective} cat", adjective="", split="dev"))
    assert prompt.text == "a cat"
    assert prompt.columns == {"adjective": "", "split": "dev"}
    assert prompt.spans == {}
