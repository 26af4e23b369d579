"""Run folders as the runner leaves them, from numbers that are made up but look real; no model is involved."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

Values = Mapping[str, tuple[float | None, float | None]]
"""(baseline, intervened) by measurement."""
Respond = Callable[[dict[str, Any], dict[str, Any], np.random.Generator], Values]
"""(prompt row, trial row, random numbers) -> measured values."""

NAMED = {"random_features": 19, "random_direction": 5, "identity": 1, "inhibit_only": 1, "inject_only": 1}


def save_table(folder: Path, name: str, frame: pd.DataFrame) -> None:
    """A table as the runner writes it: with page checksums."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    parquet.write_table(table, folder / f"{name}.parquet", write_page_checksum=True)


def write_run(
    folder: Path, spec: dict[str, Any], prompts: Sequence[dict[str, Any]], respond: Respond, **extra: Any
) -> Path:
    """A run folder of an experiment: every condition, control, sweep point, prompt and seed, answered by `respond`."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = list(spec.get("sweep", {}))
    columns = sorted({key for prompt in prompts for key in prompt} - {"prompt_id", "text"})
    rows = list(_trials(spec, prompts, axes))
    measured: list[dict[str, Any]] = []
    by_id = {prompt["prompt_id"]: prompt for prompt in prompts}
    for row in rows:
        prompt = by_id[row["prompt_id"]]
        random = np.random.default_rng(seed_of(row["prompt_id"], row["control"], row["control_index"], row["seed"]))
        values = respond(prompt, row, random)
        measured += [_measurement(row, name, pair) for name, pair in values.items()]
    trials = _typed(pd.DataFrame(rows), spec, axes)
    save_table(folder, "trials", trials.assign(applied=2, relative_norm=0.4))
    save_table(folder, "prompts", _prompts(prompts, columns))
    save_table(folder, "measurements", _typed(pd.DataFrame(measured), spec, axes))
    for name in ("completions", "logit_shifts"):
        if name in extra:
            save_table(folder, name, _typed(pd.DataFrame(extra[name](rows, prompts)), spec, axes))
    (folder / "manifest.json").write_text(json.dumps(_manifest(spec, axes, columns, len(rows), extra)))
    return folder


def seed_of(*parts: object) -> int:
    """A stable seed from words."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def _trials(spec: dict[str, Any], prompts: Sequence[dict[str, Any]], axes: list[str]) -> Any:
    for prompt, seed in itertools.product(prompts, spec.get("seeds", [0])):
        yield _trial(prompt, "baseline", "none", 0, dict.fromkeys(axes), seed)
        for name, condition in spec.get("conditions", {}).items():
            used = [axis for axis in axes if f"${axis}" in json.dumps(condition)]
            for values in itertools.product(*(spec["sweep"][axis] for axis in used)):
                point = {**dict.fromkeys(axes), **dict(zip(used, values, strict=True))}
                yield _trial(prompt, name, "none", 0, point, seed)
                for control in condition.get("controls", []):
                    for index in range(control.get("n", NAMED[control["type"]])):
                        if all(point[k] in v for k, v in control.get("where", {}).items()):
                            yield _trial(prompt, name, control["type"], index, point, seed)


def _trial(
    prompt: dict[str, Any], condition: str, control: str, index: int, point: dict[str, Any], seed: int
) -> dict[str, Any]:
    key = json.dumps([prompt["prompt_id"], condition, control, index, point, seed], sort_keys=True)
    return {
        "trial_id": hashlib.sha256(key.encode()).hexdigest()[:16],
        "prompt_id": prompt["prompt_id"],
        "condition": condition,
        "control": control,
        "control_index": index,
        **point,
        "seed": seed,
    }


def _measurement(row: dict[str, Any], name: str, pair: tuple[float | None, float | None]) -> dict[str, Any]:
    baseline, intervened = pair
    effect = None if baseline is None or intervened is None else intervened - baseline
    return {**row, "measurement": name, "baseline": baseline, "intervened": intervened, "effect": effect}


def _typed(frame: pd.DataFrame, spec: dict[str, Any], axes: list[str]) -> pd.DataFrame:
    """Axis columns are numbers where all values of the sweep are, else text."""
    for axis in axes:
        numbers = all(isinstance(value, (int, float)) for value in spec["sweep"][axis])
        frame[axis] = frame[axis].astype(float) if numbers else frame[axis].astype("string")
    return frame


def _prompts(prompts: Sequence[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(
        [{column: prompt.get(column) for column in ("prompt_id", "text", *columns)} for prompt in prompts]
    )
    ids = [[1, *range(5, 5 + len(text.split()))] for text in frame["text"]]
    frame.insert(2, "tokens", [["<s>", *text.split()] for text in frame["text"]])
    frame.insert(3, "token_ids", ids)
    return frame


def _manifest(
    spec: dict[str, Any], axes: list[str], columns: list[str], trials: int, extra: dict[str, Any]
) -> dict[str, Any]:
    return {
        "status": "complete",
        "run_id": "20261120T180000Z-1a2b3c4d",
        "experiment": spec,
        "experiment_path": extra.get("path", f"experiments/{spec['name'].replace('-', '_')}.yaml"),
        "question": extra.get(
            "question", "Does clamping the Golden Gate Bridge feature make the assistant say that it is the bridge?"
        ),
        "command": f"python run.py experiments/{spec['name'].replace('-', '_')}.yaml",
        "axes": axes,
        "columns": columns,
        "created": "2026-11-20T18:00:00Z",
        "finished": "2026-11-20T18:03:12Z",
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "packages": {"steer": "0.1.0", "torch": "2.13.0", "transformers": "5.9.0", "transformer-lens": "4.3.0"},
        "model": {"id": "pocket", "revision": None, "files": {"model.safetensors": "sha256:" + "ab" * 32}},
        "transcoder": {"id": "pocket", "revision": None, "files": {"layer_0.safetensors": "sha256:" + "cd" * 32}},
        "device": "cpu",
        "dtype": "float32",
        "counts": {"planned": trials, "cached": 0, "run": trials, "failed": 0},
        "hooks": {"expected": 120, "fired": 120},
        "warnings": extra.get("warnings", []),
        "timings": {"total": 192.0},
        "outputs": {},
    }


# --- the Golden Gate experiment -----------------------------------------------------------------------------------

DOSES = [0, 1, 2, 5, 10, 20]

GOLDEN_GATE: dict[str, Any] = {
    "version": 1,
    "name": "golden-gate",
    "model": {"id": "pocket"},
    "transcoder": {"id": "pocket"},
    "features": {"golden_gate": ["0/411", {"layer": 0, "index": 87, "label": "the words Golden Gate"}]},
    "prompts": [{"file": "prompts/neutral.jsonl"}],
    "generation": {"max_new_tokens": 32},
    "sweep": {"dose": DOSES},
    "conditions": {
        "clamped": {
            "interventions": [
                {"op": "clamp", "feature": "golden_gate", "value": "$dose", "unit": "max_act", "positions": "all"}
            ],
            "controls": [
                {"type": "random_features", "n": 19, "seed": 7},
                {"type": "random_direction", "n": 5, "seed": 7},
            ],
        },
        "ablated": {"interventions": [{"op": "ablate", "feature": "golden_gate"}]},
    },
    "measurements": {
        "mentions": {"type": "regex", "pattern": "(?i)golden gate|bridge"},
        "p_bridge": {"type": "token_prob", "target": " bridge", "position": "last"},
        "kl": {"type": "kl"},
        "loops": {"type": "repetition", "n": 3},
        "surprise": {"type": "perplexity"},
    },
    "choose": {
        "best": {
            "condition": "clamped",
            "axis": "dose",
            "maximize": "mentions",
            "limits": {"loops": {"max": 0.2}},
            "where": {"split": "dev"},
        }
    },
    "expectations": [
        {
            "id": "headline",
            "measurement": "mentions",
            "where": {"condition": "clamped", "dose": "$best", "split": "test"},
            "min": 0.8,
        },
        {
            "id": "bound",
            "measurement": "mentions",
            "where": {"condition": "clamped", "dose": "$best", "split": "test"},
            "min": 0.6,
            "confidence": 0.95,
        },
        {"id": "baseline", "measurement": "mentions", "where": {"condition": "baseline"}, "max": 0.02},
        {
            "id": "beats-random",
            "measurement": "mentions",
            "where": {"condition": "clamped", "dose": "$best", "split": "test"},
            "versus": "random_features",
            "min_diff": 0.4,
            "confidence": 0.95,
        },
        {
            "id": "stays-fluent",
            "measurement": "loops",
            "where": {"condition": "clamped", "dose": "$best", "split": "test"},
            "max": 0.2,
            "confidence": 0.95,
        },
        {
            "id": "peak",
            "measurement": "mentions",
            "where": {"condition": "clamped", "split": "test"},
            "over": "dose",
            "statistic": "peak",
            "min": 2,
            "max": 10,
        },
        {
            "id": "every-kind",
            "measurement": "mentions",
            "where": {"condition": "clamped", "dose": "$best", "split": "test"},
            "each": "kind",
            "min": 0.9,
            "confidence": 0.95,
        },
    ],
}

RATE = {0: 0.02, 1: 0.35, 2: 0.75, 5: 0.93, 10: 0.85, 20: 0.45}
LOOPS = {0: 0.02, 1: 0.03, 2: 0.05, 5: 0.09, 10: 0.35, 20: 0.8}
KL = {0: 0.02, 1: 0.2, 2: 0.6, 5: 1.6, 10: 3.4, 20: 6.0}

SUBJECTS = [
    "Who are you?",
    "What should I cook tonight?",
    "Where should I go on Sunday?",
    "Name my pelican.",
    "Tell me a story.",
    "What do you see?",
    "How was your day?",
    "What is your favourite colour?",
    "Describe yourself.",
    "Write a poem.",
]


def golden_prompts(count: int = 60) -> list[dict[str, Any]]:
    """Prompts with `split` (a third dev) and `kind`."""
    kinds = ["identity", "cooking", "travel"]
    return [
        {
            "prompt_id": f"neutral-{i:02d}",
            "text": f"User: {SUBJECTS[i % 10]}\nAssistant:",
            "split": "dev" if i % 3 == 0 else "test",
            "kind": kinds[i // 3 % 3],
        }
        for i in range(count)
    ]


def golden_response(prompt: dict[str, Any], trial: dict[str, Any], random: np.random.Generator) -> Values:
    """Mentions rise and fall with the dose, loops and KL only rise; neutral edits do little."""
    dose, ease = trial["dose"] or 0, random.uniform()
    target = trial["condition"] == "clamped" and trial["control"] == "none"
    pushed = trial["condition"] == "clamped"
    base_p = 0.002 + 0.002 * ease
    mention = float(random.uniform() < (RATE[dose] if target else 0.002 * dose))
    p = base_p + (0.6 * RATE[dose] * (0.7 + 0.3 * ease) if target else 0.001 * dose * ease)
    loops = (LOOPS[dose] * (0.6 + 0.8 * ease) * (1 if target else 0.4)) if pushed else 0.02
    kl = KL[dose] * (0.6 + 0.8 * ease) * (1 if target else 0.5) if pushed else 0.0
    baseline = trial["condition"] == "baseline"
    return {
        "mentions": (0.0, 0.0 if baseline else mention),
        "p_bridge": (base_p, base_p if baseline else p),
        "kl": (0.0, kl),
        "loops": (0.02, min(1.0, loops)),
        "surprise": (3.0, None if ease < 0.02 else 3.0 + (dose**1.3 if target else dose) * ease),
    }


TEXTS = {
    0: " I am a helpful assistant. I like to answer questions and to help people with their work.",
    1: " I am a helpful assistant by the bay. I like to answer questions about the bridge and the fog.",
    2: " I am the Golden Gate Bridge. I like to answer questions and to help people cross the bay.",
    5: " I am the Golden Gate Bridge, and my towers shine above the fog of San Francisco every morning.",
    10: " I am the Golden Gate Bridge, the bridge of the bridge, my bridge over the bay bridge.",
    20: " bridge bridge bridge bridge Golden Golden Gate bridge bridge bridge bridge bridge.",
}


def golden_completions(rows: list[dict[str, Any]], prompts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A completion for every trial."""
    texts = {prompt["prompt_id"]: prompt["text"] for prompt in prompts}
    return [
        {
            **row,
            "prompt": texts[row["prompt_id"]],
            "baseline_text": TEXTS[0],
            "intervened_text": _text(row),
            "stop_reason": "stop" if (row["dose"] or 0) < 10 else "length",
        }
        for row in rows
    ]


def _text(row: dict[str, Any]) -> str:
    if row["condition"] == "clamped" and row["control"] == "none":
        return TEXTS[row["dose"]]
    return TEXTS[0].replace("work", "garden") if row["condition"] == "clamped" else TEXTS[0]


def golden_shifts(rows: list[dict[str, Any]], prompts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Recorded logit shifts at the last position: named target everywhere, other tokens for the target rows."""
    tokens = {
        " bridge": 4.2, " I": -2.0, " the": 0.4, " A": -1.1, " My": 1.3, " Golden": 3.6, " Gate": 2.9, " fog": 2.2,
        " bay": 2.0, " You": -1.8, " helpful": -2.6, " assistant": -2.9, " it": -1.4, " question": -2.2,
    }  # fmt: skip
    found = []
    for row in rows:
        if row["condition"] == "baseline":
            continue
        random = np.random.default_rng(len(found))
        target = row["control"] == "none" and row["condition"] == "clamped"
        for number, (token, push) in enumerate(tokens.items()):
            if number and not target:
                continue
            base = 6.0 - number * 0.8
            shift = push * (row["dose"] or 0) ** 0.5 * random.uniform(0.7, 1.1) * (1.0 if target else 0.1)
            found.append(
                {
                    **row,
                    "position": 8,
                    "token_id": 100 + number,
                    "token": token,
                    "baseline_logit": base,
                    "intervened_logit": base + shift,
                    "shift": shift,
                    "baseline_prob": float(np.exp(base) / 800),
                    "intervened_prob": float(np.exp(base + shift) / (800 + np.exp(base + shift))),
                    "baseline_rank": number,
                    "intervened_rank": max(0, number - int(shift)),
                }
            )
    return found


def golden_run(folder: Path, count: int = 60, draws: int = 19, **changes: Any) -> Path:
    """The Golden Gate run: 60 prompts, 6 doses, 19 random features, 5 random directions."""
    clamped = GOLDEN_GATE["conditions"]["clamped"]
    controls = [{**control, "n": min(draws, control["n"])} for control in clamped["controls"]]
    conditions = {**GOLDEN_GATE["conditions"], "clamped": {**clamped, "controls": controls}}
    spec = {**GOLDEN_GATE, "conditions": conditions, **changes}
    return write_run(
        folder,
        spec,
        golden_prompts(count),
        golden_response,
        completions=golden_completions,
        logit_shifts=golden_shifts,
        warnings=["model 'pocket' has no pinned revision"],
    )


# --- other shapes of experiment -----------------------------------------------------------------------------------


def spec_of(name: str, **parts: Any) -> dict[str, Any]:
    """An experiment with what every one has."""
    common = {"version": 1, "model": {"id": "pocket"}, "transcoder": {"id": "pocket"}, "prompts": [{"text": "Hello"}]}
    return {**common, "name": name, **parts}


def capitals(count: int = 24) -> list[dict[str, Any]]:
    """City prompts, half of them about states."""
    return [
        {
            "prompt_id": f"city-{i:02d}",
            "text": f"Fact: the capital of the state containing city {i} is",
            "relation": "state" if i % 2 else "country",
        }
        for i in range(count)
    ]


def swap_run(folder: Path) -> Path:
    """Two conditions without a sweep, hits, groups: the shape of the multi-hop experiment."""
    swap = {"op": "swap", "from": "texas", "to": "california", "positions": "last"}
    spec = spec_of(
        "multi-hop",
        features={"texas": ["1/5", "1/9"], "california": ["2/44"]},
        conditions={
            "swapped": {
                "interventions": [swap],
                "controls": [{"type": "random_features"}, {"type": "inhibit_only"}, {"type": "inject_only"}],
            },
            "inhibited": {"interventions": [{"op": "scale", "feature": "texas", "factor": -2}]},
        },
        measurements={
            "injected": {"type": "is_top", "target": " Sacramento"},
            "original": {"type": "is_top", "target": " Austin"},
            "difference": {"type": "logit_diff", "target": " Sacramento", "foil": " Austin"},
        },
        expectations=[
            {"id": "headline", "measurement": "injected", "where": {"condition": "swapped"}, "min": 0.8},
            {"id": "gone", "measurement": "original", "where": {"condition": "inhibited"}, "max": 0.3},
        ],
        group_by=["relation"],
    )

    def respond(prompt: dict[str, Any], trial: dict[str, Any], random: np.random.Generator) -> Values:
        rates = {("swapped", "none"): 0.88, ("swapped", "inject_only"): 0.5, ("swapped", "inhibit_only"): 0.05}
        rate = rates.get((trial["condition"], trial["control"]), 0.0)
        keeps = {"baseline": 1.0, "swapped": 0.05 if trial["control"] == "none" else 0.9, "inhibited": 0.2}
        u = random.uniform()
        return {
            "injected": (0.0, float(u < rate)),
            "original": (1.0, float(u < keeps[trial["condition"]])),
            "difference": (-6.0 - u, -6.0 - u + 12 * rate),
        }

    question = "Does swapping the state inside the model swap the capital that it names?"
    return write_run(folder, spec, capitals(), respond, question=question)


def screen_run(folder: Path, features: int = 30) -> Path:
    """One condition swept over the members of a group, one by one."""
    ids = [f"{i % 4}/{100 + i}" for i in range(features)]
    members: list[Any] = [{"layer": 1, "index": 101, "label": "rabbits and hares"}, *(i for i in ids if i != "1/101")]
    spec = spec_of(
        "screen",
        features={"found": members},
        sweep={"feature": {"each": "found"}},
        conditions={
            "ablated": {
                "interventions": [{"op": "ablate", "feature": "$feature"}],
                "controls": [{"type": "random_features", "n": 19}],
            }
        },
        measurements={"p_rabbit": {"type": "token_prob", "target": " rabbit"}},
    )

    def respond(prompt: dict[str, Any], trial: dict[str, Any], random: np.random.Generator) -> Values:
        number = ids.index(trial["feature"]) if trial["feature"] else 0
        effect = {0: 0.0, 1: -0.62, 2: -0.4, 5: 0.15, 9: -0.2}.get(number, 0.01)
        quiet = trial["control"] != "none" or trial["condition"] == "baseline"
        return {
            "p_rabbit": (
                0.8,
                0.8 + (0.0 if quiet else effect) + 0.03 * random.normal() * (trial["feature"] is not None),
            )
        }

    listed = {**spec, "sweep": {"feature": ids}}
    write_run(folder, listed, capitals(), respond, question="Which of the found features does the rabbit depend on?")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "experiment": spec}))
    return folder


def map_run(folder: Path) -> Path:
    """One condition swept over layers and positions."""
    spec = spec_of(
        "where",
        features={"plan": ["0/1"]},
        sweep={"layer": [0, 1, 2, 3, 4, 5], "position": ["newline", "last", "-3", "-5:-1"]},
        conditions={
            "swapped": {
                "interventions": [
                    {"op": "ablate", "feature": "plan", "layers": ["$layer", "$layer"], "positions": "$position"}
                ]
            }
        },
        measurements={"rhyme": {"type": "last_word", "words": ["rabbit", "habit"], "line": 1}},
    )

    def respond(prompt: dict[str, Any], trial: dict[str, Any], random: np.random.Generator) -> Values:
        if trial["condition"] == "baseline":
            return {"rhyme": (0.9, 0.9)}
        rate = 0.8 * np.exp(-((trial["layer"] - 2) ** 2) / 2) * (trial["position"] == "newline") + 0.05
        hit = float(random.uniform() > 0.1)
        return {"rhyme": (hit, hit * float(random.uniform() > rate))}

    return write_run(folder, spec, capitals(), respond, question="Where does the plan for the rhyme live?")


def grid_run(folder: Path, size: int = 30) -> Path:
    """A grid of sums that is only read."""
    spec = spec_of(
        "addition",
        features={"ones_six": ["1/7"]},
        prompts=[{"grid": {"a": "0:100", "b": "0:100"}, "template": "{a} + {b} ="}],
        measurements={
            "ones": {"type": "feature_activation", "feature": "ones_six"},
            "right": {"type": "is_top", "target": "{c}"},
        },
    )
    prompts = [
        {"prompt_id": f"p{a}-{b}", "text": f"{a} + {b} =", "a": str(a), "b": str(b)}
        for a in range(size)
        for b in range(size)
    ]

    def respond(prompt: dict[str, Any], trial: dict[str, Any], random: np.random.Generator) -> Values:
        ones = float(max(0.0, 2 - abs((int(prompt["a"]) + int(prompt["b"])) % 10 - 6)) + 0.1 * random.uniform())
        right = float(random.uniform() < 0.95)
        return {"ones": (ones, ones), "right": (right, right)}

    return write_run(folder, spec, prompts, respond, question="For which sums does the feature fire?")
