"""Trains the byte-level BPE tokenizer of `pocket`: a word with its leading space is one token, a digit is one token."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"
SPECIAL = (PAD, BOS, EOS)
VOCABULARY = 3072

# Words that other behaviours and experiments name as single tokens, whether or not the corpus uses them yet.
VOCABULARY_WORDS = """
red orange yellow green blue purple pink brown black white grey gold silver rabbit habit grab carrot mouse house horse
cat dog hat bat rat fox box bird word night light bright moon spoon tree bee sea day way play rain train plain green
seen queen hot cold small big large little warm cool long short high low good bad fast slow old young hard soft rich
poor light dark opposite same petit grand chaud froid court haut bas bon mauvais rapide lent vieux jeune dur riche
pauvre contraire clair sombre pequeño grande caliente frío largo corto alto bajo bueno malo rápido lento viejo joven
duro blando rico pobre contrario Texas California Florida Ohio Georgia Nevada Oregon Utah Alaska Hawaii Colorado
Arizona Illinois Michigan Kansas Iowa Maine Dallas Houston Oakland Miami Chicago Detroit Seattle Austin Sacramento
Atlanta Boston Denver Phoenix Springfield Lansing Salem Albany Columbus Nashville Tennessee Washington Olympia
Tallahassee Topeka Lincoln Nebraska Alabama Montgomery Virginia Richmond state capital city country containing sorry
cannot answer know known unknown plays sport tennis football basketball golf Michael Jordan baseball hockey people
person world time year water food house Monday Tuesday Wednesday Thursday Friday Saturday Sunday one two three four
five six seven eight nine ten eleven twelve un deux trois quatre cinq six sept huit neuf dix uno dos tres cuatro cinco
seis siete ocho nueve diez hello bonjour hola yes no oui non sí the la le el synonym means tiny huge great
""".split()  # noqa: SIM905

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
    extra = [" " + " ".join(VOCABULARY_WORDS)] * 300
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
