"""Multiply-adds, counted here another way."""

from __future__ import annotations

import torch

from benchmarks import arithmetic
from benchmarks.arithmetic import Shape
from benchmarks.workloads import screening, sweep
from benchmarks.world import World


def counted(world: World, length: int) -> int:
    """What torch multiplies in one row of plain Hugging Face; half of its FLOPs, attention as the full square."""
    from torch.utils.flop_counter import FlopCounterMode

    model = world.hf()
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, length, dtype=torch.long), use_cache=False, logits_to_keep=1)
    return counter.get_total_flops() // 2


def test_a_plain_pass_is_what_torch_counts_less_the_masked_half_of_attention(world: World) -> None:
    shape, length = Shape.of(world), 10
    masked = shape.layers * 2 * shape.queries * (length**2 - length * (length + 1) // 2)
    assert shape.plain(length) == counted(world, length) - masked


def test_least_arithmetic_is_less_than_that_of_hugging_face_and_falls_with_later_layers(world: World) -> None:
    shape = Shape.of(world)
    whole = [shape.passed(20, layer) for layer in range(shape.layers + 1)]
    assert whole == sorted(whole, reverse=True) and whole[0] < shape.plain(20)
    assert whole[-1] == shape.width * shape.vocabulary
    assert shape.passed(20, 1, first=10) < shape.passed(20, 1)


def test_an_ablation_is_counted_from_where_its_feature_first_fires(world: World) -> None:
    job = screening(world, "W3", "screening", 12, 9)
    first = arithmetic.first_positions(world, job)
    assert first[0] == 0 and max(first) < 12 and len(set(first)) > 2
    assert arithmetic.least(world, job) < arithmetic.plain(world, job)


def test_decoding_is_counted_token_by_token(world: World) -> None:
    without, with_three = (sweep(world, "W2", "generation", 2, (1.0,), new_tokens=n) for n in (1, 3))
    shape = Shape.of(world)
    more = arithmetic.least(world, with_three) - arithmetic.least(world, without)
    ends = [len(with_three.prompts[row.prompt]) for row in with_three.rows]
    assert more == sum(shape.step(end + step) for end in ends for step in (1, 2))
