"""What a discovery command is given: model, prompt files, positions, layers, features and single tokens, checked."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.errors import SpecError, UsageError
from steer.execution.passes import Engine
from steer.experiment import spec
from steer.experiment.feature_ids import written_feature
from steer.experiment.problems import Problem
from steer.experiment.prompts import render
from steer.experiment.references import references
from steer.experiment.rows import prompt_rows
from steer.experiment.source import Source, read
from steer.experiment.substitute import Misfit
from steer.experiment.trial import Prompt
from steer.experiment.validation import check_value
from steer.intervention.positions import resolve
from steer.model.language_model import LanguageModel
from steer.model.tokens import Encoded, Tokens
from steer.transcoder.layout import require_feature, runs
from steer.transcoder.transcoder import Transcoders

LAYERS = re.compile(r"(\d*):(\d*)|\d+")


@dataclass(frozen=True)
class Reading:
    """A prompt's token ids, and the positions that are read in it (at least one)."""

    prompt: Prompt
    ids: tuple[int, ...]
    positions: tuple[int, ...]


def open_engine(model: str, transcoders: Path, patterns: bool = False) -> Engine:
    """A model and its transcoders. ModelError, TranscoderError; UsageError where the two do not fit."""
    loaded = LanguageModel.load(model, patterns=patterns)
    opened = Transcoders.open(transcoders, loaded.device, model=loaded.folder)
    if not opened.fits(loaded.n_layers, loaded.d_model):
        raise UsageError(
            f"transcoder {opened.name} ({opened.n_layers} layers of width {opened.d_model}) does not fit"
            f" model {loaded.name} ({loaded.n_layers} layers of width {loaded.d_model})"
        )
    return Engine(loaded, opened)


# --- prompts --------------------------------------------------------------------------------------------------


def prompts_of(path: Path, template: str | None, tokens: Tokens) -> tuple[Prompt, ...]:
    """The rendered prompts of a JSON lines or CSV file, as an experiment reads it; SpecError with every wrong row."""
    file = Path(os.path.realpath(path))
    entry = spec.PromptEntry(file=file.name, template=template)
    found = prompt_rows((entry,), Source(None, file), file.parent)
    if found.problems:
        raise SpecError(found.problems)
    try:
        return render(found.rows, tokens)
    except Misfit as misfit:
        messages = dict.fromkeys(message for _, message, _ in misfit.found)
        raise UsageError(f"--template {template!r} on {path}: {'; '.join(messages)}") from None


def column_of(prompts: Sequence[Prompt], column: str, option: str) -> list[str]:
    """The cell of each prompt. UsageError where a prompt lacks the column, or nobody has anything in it."""
    lacking = next((prompt for prompt in prompts if column not in prompt.columns), None)
    if lacking is not None:
        there = ", ".join(lacking.columns) or "none"
        raise UsageError(f"{option} {column}: prompt {lacking.id} has no such column (it has: {there})")
    cells = [prompt.columns[column] for prompt in prompts]
    if not any(cells):
        raise UsageError(f"{option} {column}: the column is empty everywhere")
    return cells


def readings(prompts: Sequence[Prompt], positions: spec.Positions, model: LanguageModel) -> list[Reading]:
    """Where each prompt is read; what the tokenizer puts in front (BOS) is left out, as it is from statistics.

    PositionError where a selector finds nothing; UsageError for a prompt without a position or past the context.
    """
    return [_reading(prompt, model.tokens.encode(prompt.text), positions, model) for prompt in prompts]


def _reading(prompt: Prompt, encoded: Encoded, positions: spec.Positions, model: LanguageModel) -> Reading:
    front = in_front(encoded)
    found = tuple(p for p in resolve(positions, encoded, prompt).prompt if p >= front)
    if not found:
        raise UsageError(f"--positions holds no token of prompt {prompt.id} ({prompt.text!r})")
    if len(encoded.ids) > model.n_ctx:
        raise UsageError(
            f"prompt {prompt.id} is {len(encoded.ids)} tokens long; {model.name} reads at most {model.n_ctx}"
        )
    return Reading(prompt, encoded.ids, found)


def in_front(encoded: Encoded) -> int:
    """How many tokens the tokenizer put in front of the text."""
    return next((p for p, span in enumerate(encoded.offsets) if span != (0, 0)), len(encoded.ids))


# --- words of the command line --------------------------------------------------------------------------------


def positions_of(written: str) -> spec.Positions:
    """`--positions`, in the words of an experiment file: last, 3, "1:", {text: "User:"}. UsageError."""
    source = read(f"positions: {written}", "--positions")
    problems = list(source.problems)
    value: Any = None
    if not problems:
        value, problems = check_value(source, ("positions",), spec.Positions)
    if problems:
        raise UsageError(f"--positions {written}: {'; '.join(map(_told, problems))}")
    if next(references(source.data), None) is not None:
        raise UsageError(f"--positions {written}: a $name has no meaning here")
    found: spec.Positions = value
    return found


def _told(problem: Problem) -> str:
    return problem.message + (f" ({problem.help})" if problem.help else "")


def layers_of(written: str | None, transcoders: Transcoders) -> tuple[int, ...]:
    """`--layers`: `2`, `0:3` (end excluded), or several with commas; all of them where nothing is said. UsageError."""
    if written is None:
        return transcoders.layers
    found = numbers_of(written, transcoders.n_layers)
    if not found or not set(found) <= set(transcoders.layers):
        raise UsageError(f"--layers {written}: {transcoders.name} has the layers {runs(transcoders.layers)}")
    return found


def numbers_of(written: str, n: int) -> tuple[int, ...]:
    """The layers that `--layers` means, of `n`; nothing is known of which there are. UsageError."""
    parts = [LAYERS.fullmatch(part.strip()) for part in written.split(",")]
    if not all(parts):
        raise UsageError(f"--layers {written}: expected a layer, a range a:b (b is left out), or several with commas")
    return tuple(sorted({layer for match in parts if match for layer in _run(match, n)}))


def _run(match: re.Match[str], n: int) -> range:
    if ":" not in match[0]:
        return range(int(match[0]), int(match[0]) + 1)
    return range(int(match[1] or 0), int(match[2] or n))


def feature_of(written: str, transcoders: Transcoders) -> tuple[int, int]:
    """Layer and index of a feature that exists. UsageError, TranscoderError."""
    read = written_feature(written)
    if read is None:
        raise UsageError(f"{written!r} is not a feature; expected layer/index, as in 3/411")
    require_feature(transcoders.name, transcoders.widths, read.layer, read.index)
    return read.layer, read.index


def token_of(option: str, written: str, tokens: Tokens) -> int:
    """The one token that a word is; UsageError with its pieces where it is several."""
    pieces = tokens.pieces(written)
    if len(pieces) == 1:
        return pieces[0]
    split = " ".join(f"[{tokens.token(id)}]" for id in pieces) or "nothing"
    spaced = f" {written.strip()}"
    help = f"; {spaced!r}, with the leading space, is" if len(tokens.pieces(spaced)) == 1 else ""
    raise UsageError(f"{option} {written!r} is not one token here: {split}{help}")
