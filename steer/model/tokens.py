"""Text to token ids and back, by the model's own tokenizer files alone.

Imports neither torch nor transformers, so that a file can be checked in a fraction of a second.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from steer.errors import ModelError


@dataclass(frozen=True)
class Encoded:
    """A text as the model reads it; `offsets` are character spans in `text`, (0, 0) for a token put in front."""

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class Tokens:
    """The tokenizer of one model."""

    def __init__(self, tokenizer: Tokenizer, files: Mapping[str, Any], template: str | None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._template = template
        self._special = _special_tokens(tokenizer, files)
        tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in self._special.values()])
        self.bos_id: int | None = self._id("bos_token")
        self.eos_ids: frozenset[int] = _eos_ids(self._id("eos_token"), files)
        self.pad_id: int = next(
            (id for id in (self._id("pad_token"), self._id("eos_token"), self.bos_id) if id is not None), 0
        )
        self.size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self._prefix = _prefix(tokenizer)

    @classmethod
    def open(cls, folder: Path) -> Tokens:
        """Reads tokenizer.json and the small files beside it. ModelError where tokenizer.json is missing."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"{folder} has no tokenizer.json (it has: {_listing(folder)})")
        files = {name: _json(folder / f"{name}.json") for name in _SMALL_FILES}
        return cls(_tokenizer(path), files, _chat_template(folder, files["tokenizer_config"]))

    def encode(self, text: str) -> Encoded:
        """The text's tokens, behind a BOS where the model's own rule puts one; text that brings its BOS gets no second.

        The rule is tokenizer.json's post-processor, as in transformers 5. What it would append (an EOS) is left
        out: a prompt is there to be continued.
        """
        found = self._tokenizer.encode(text, add_special_tokens=False)
        prefix = () if tuple(found.ids[: len(self._prefix)]) == self._prefix else self._prefix
        return Encoded(text, (*prefix, *found.ids), ((0, 0),) * len(prefix) + tuple(found.offsets))

    def pieces(self, text: str) -> tuple[int, ...]:
        """The text's tokens and nothing in front: for targets and words."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The ids as a text of their own, special tokens left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def continuation(self, ids: Sequence[int]) -> str:
        """What the ids add to a text before them, special tokens left out; keeps a leading space, unlike `decode`."""
        return self._after_anchor(ids, skip_special_tokens=True)

    def token(self, id: int) -> str:
        """How one token reads in the middle of a text, e.g. " rabbit"; special tokens by their name."""
        return self._after_anchor((id,), skip_special_tokens=False)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The messages in the model's chat template, up to where the assistant's answer begins.

        Raises ModelError where the model has no template or the template refuses the messages.
        """
        from jinja2 import TemplateError

        if self._template is None:
            raise ModelError("this model has no chat template: write the prompt as `text`")
        try:
            rendered: str = (
                _environment()
                .from_string(self._template)
                .render(
                    messages=[dict(message) for message in messages],
                    add_generation_prompt=True,
                    tools=None,
                    documents=None,
                    **self._special,
                )
            )
        except TemplateError as error:
            raise ModelError(f"the model's chat template refuses these messages: {error}") from error
        return rendered

    def _id(self, name: str) -> int | None:
        return self._tokenizer.token_to_id(self._special[name]) if name in self._special else None

    def _after_anchor(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        # Decoders treat the first token of a text in their own way (a leading space goes): so it is another's.
        before, text = (
            self._tokenizer.decode(list(part), skip_special_tokens=skip_special_tokens)
            for part in ((self._anchor,), (self._anchor, *ids))
        )
        return text[len(before) :]

    @cached_property
    def _anchor(self) -> int:
        return (self.pieces("a") or (0,))[-1]


_SMALL_FILES = ("tokenizer_config", "special_tokens_map", "generation_config", "config")


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library knows no narrower one
        raise ModelError(f"{path}: not a tokenizer, or a damaged one: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as text: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: a JSON object was expected")
    return found


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:12]) or "nothing"


def _special_tokens(tokenizer: Tokenizer, files: Mapping[str, Any]) -> dict[str, str]:
    """Named special tokens (`bos_token`, ...) that the vocabulary really holds."""
    named = {**files["special_tokens_map"], **files["tokenizer_config"]}
    texts = {
        name: token["content"] if isinstance(token, dict) else token
        for name, token in named.items()
        if name.endswith("_token") and isinstance(token, str | dict)
    }
    return {name: text for name, text in texts.items() if tokenizer.token_to_id(text) is not None}


def _eos_ids(own: int | None, files: Mapping[str, Any]) -> frozenset[int]:
    """The tokenizer's EOS and those of generation_config.json (or else config.json): chat models have several."""
    stated = files["generation_config"].get("eos_token_id", files["config"].get("eos_token_id"))
    several = stated if isinstance(stated, list) else [stated]
    return frozenset(id for id in (own, *several) if isinstance(id, int))


def _prefix(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The special tokens that the post-processor puts in front of any text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    start = next((n for n in range(len(full)) if full[n : n + len(bare)] == bare), 0)
    return tuple(full[:start])


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return _text(path)
    template = config.get("chat_template")
    if isinstance(template, list):  # several named ones
        return next((entry["template"] for entry in template if entry.get("name") == "default"), None)
    return template


def _environment() -> Any:
    """The sandbox that chat templates are written for; templates come with weights and are not trusted."""
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the assistant's own words for training; here it only wraps them."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    extensions = (loopcontrols, Generation)
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _fixed_day}
    return environment


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)  # jinja's own would escape HTML


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _fixed_day(format: str) -> str:
    # The same file has to give the same tokens tomorrow, so "today" is one day: the one Llama 3.2 falls back to.
    return datetime.datetime(2024, 7, 26).strftime(format)
