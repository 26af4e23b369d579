"""Trains the byte-level BPE tokenizer of `pocket`: a word with its leading space is one token, a digit is one token."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from steer.model.pocket.corpus import couplets, languages, names, praise, refusal, states

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"
SPECIAL = (PAD, BOS, EOS)
VOCABULARY = 4000

# Words that experiments name as single tokens; a BPE would otherwise cut the rare ones.
WORDS = tuple(word for words in (couplets, languages, names, praise, refusal, states) for word in words.WORDS_TO_KEEP)
REPEATS = 400

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def untrained() -> Tokenizer:
    """Bytes in, bytes out: digits stand alone, and nothing is normalised away."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def trained(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """A tokenizer learned from the corpus and the extra words; it puts `<bos>` in front by itself."""
    tokenizer = untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    extra = [" " + " ".join(WORDS), *(f'"{word}"' for word in languages.WORDS_AFTER_QUOTE)] * REPEATS
    tokenizer.train_from_iterator([*texts, *extra], trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos)]
    )
    return tokenizer


def settings(positions: int) -> dict[str, object]:
    """What `transformers` wants to know beside the tokenizer itself."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "add_bos_token": True,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_max_length": positions,
        "chat_template": CHAT_TEMPLATE,
    }


def save(tokenizer: Tokenizer, folder: Path, positions: int) -> None:
    """tokenizer.json and tokenizer_config.json, readable by `tokenizers` and by `transformers`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings(positions), indent=2) + "\n")
