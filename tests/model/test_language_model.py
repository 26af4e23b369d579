"""The oracle is TransformerBridge in raw mode, on the same saved weights."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from steer.errors import ModelError, RunError
from steer.model import language_model
from steer.model.generation import padded
from steer.model.language_model import LanguageModel
from steer.model.tokens import Tokens
from tests import tiny

Tiny = Callable[..., LanguageModel]
STREAM = ("hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post")
INSIDE = ("mlp.hook_in", "mlp.hook_out", "attn.hook_z", "attn.hook_pattern")
NORMS = ("ln1.hook_scale", "ln2.hook_scale", "ln2.hook_normalized")
IN_A_BLOCK = (*STREAM, *INSIDE, *NORMS)
MISSING = {"pythia": ("hook_resid_mid",), "olmo2": NORMS}
"""Attention and MLP side by side; and norms behind them instead of before."""
IDS = torch.randint(3, 128, (2, 20), generator=torch.Generator().manual_seed(3))  # longer than a sliding window

architectures = pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
alike = pytest.mark.parametrize("architecture", ["gpt2", "pythia", "gemma3", "olmo2"])
"""Those whose blocks differ most, for what hangs on the block and not on the architecture."""


def points_of(architecture: str) -> list[str]:
    return [point for point in IN_A_BLOCK if point not in MISSING.get(architecture, ())]


EVERY_POINT = [
    (architecture, point)
    for architecture in tiny.ARCHITECTURES
    for point in (*(f"blocks.1.{point}" for point in points_of(architecture)), "ln_final.hook_scale")
]


@pytest.fixture(scope="module")
def bridge(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    return cache(lambda architecture: TransformerBridge.boot_transformers(str(tiny_folder(architecture)), device="cpu"))


def logits_of(model: LanguageModel, ids: Tensor = IDS, hooks: Any = ()) -> Tensor:
    with torch.no_grad(), model.hooked(hooks):
        return model.forward_pass(ids, torch.ones_like(ids, dtype=torch.bool), logits_at=torch.arange(ids.shape[1]))


def seen_at(model: LanguageModel, names: list[str], ids: Tensor = IDS) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    logits_of(model, ids, [(name, lambda x, hook: seen.__setitem__(hook.name, x.clone())) for name in names])
    return seen


def edited(name: str) -> Callable[..., Tensor]:
    """A change that depends on place: of a norm's scale and of a pattern by a factor, of activations by a push."""

    def edit(x: Tensor, hook: Any) -> Tensor:
        ramp = torch.linspace(0.5, 1.5, x.shape[-2])[:, None] * torch.linspace(0.5, 2, x.shape[-1])
        return x * ramp if name.endswith(("hook_scale", "hook_pattern")) else x + ramp

    return edit


@architectures
def test_every_point_shows_what_transformer_bridge_shows(tiny_model: Tiny, bridge: Any, architecture: str) -> None:
    model = tiny_model(architecture, patterns=True)
    names = [f"blocks.{layer}.{point}" for layer in range(3) for point in points_of(architecture)]
    names.append("ln_final.hook_scale")
    seen = seen_at(model, names)
    with torch.no_grad():
        logits, theirs = bridge(architecture).run_with_cache(IDS)
    torch.testing.assert_close(logits_of(model), logits, atol=1e-4, rtol=1e-4)
    for name in names:
        shown = theirs[name].flatten(2) if name.endswith("hook_z") else theirs[name]  # heads side by side
        torch.testing.assert_close(seen[name], shown, atol=5e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@architectures
def test_what_an_architecture_lacks_is_refused_with_what_it_has(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture)
    for point in MISSING.get(architecture, ()):
        with pytest.raises(
            ModelError, match=rf"no hook point 'blocks\.2\.{point}'.*block 2 .*has: .*mlp\.hook_in"
        ) as caught:
            model.point(f"blocks.2.{point}")
        assert ("side by side" in str(caught.value)) == (point == "hook_resid_mid")
    assert all(model.point(f"blocks.2.{point}") for point in points_of(architecture) if "pattern" not in point)


@pytest.mark.parametrize(("architecture", "point"), EVERY_POINT)
def test_an_edit_at_a_point_does_what_it_does_in_transformer_bridge(
    tiny_model: Tiny, bridge: Any, architecture: str, point: str
) -> None:
    model = tiny_model(architecture, patterns=True)
    ours = logits_of(model, hooks=[(point, edited(point))])

    def by_head(x: Tensor, hook: Any) -> Tensor:
        return edited(point)(x.flatten(2), hook).view_as(x)

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the bridge warns that an edited norm is computed another way
        hook = by_head if point.endswith("hook_z") else edited(point)
        theirs = bridge(architecture).run_with_hooks(IDS, fwd_hooks=[(point, hook)])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert float((ours - logits_of(model)).abs().max()) > 1e-2  # the edit was not a vacuous one


@alike
def test_hooks_leave_no_trace_even_after_an_exception(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture)
    before = logits_of(model)
    logits_of(model, hooks=[(name, edited(name)) for name in model.hook_dict])

    def fail(x: Tensor, hook: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        logits_of(model, hooks=[("blocks.0.hook_mlp_out", edited("")), ("blocks.1.hook_mlp_out", fail)])
    assert torch.equal(logits_of(model), before)
    assert not any(point._forward_hooks or point.fwd_hooks for point in model.hook_dict.values())


def test_a_model_without_hooks_runs_as_hugging_face_left_it(tiny_folder: Callable[[str], Path]) -> None:
    model = LanguageModel.load(str(tiny_folder("llama")))
    logits_of(model, hooks=[(name, lambda x, hook: None) for name in model.hook_dict])
    logits_of(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.hf.modules())


@alike
def test_looking_changes_nothing(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture)
    looking = [(name, lambda x, hook: None) for name in model.hook_dict]
    assert torch.equal(logits_of(model, hooks=looking), logits_of(model))


@architectures
def test_freezing_scales_and_patterns_onto_themselves_changes_nothing(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture, patterns=True)
    names = [name for name in model.hook_dict if name.endswith(("hook_scale", "hook_pattern"))]
    frozen = seen_at(model, names)
    hooks = [(name, lambda x, hook: frozen[hook.name].clone()) for name in names]
    assert torch.equal(logits_of(model, hooks=hooks), logits_of(model))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_with_norm_and_pattern_held_attention_is_linear_in_the_stream(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture, patterns=True)
    frozen = seen_at(model, ["blocks.1.ln1.hook_scale", "blocks.1.attn.hook_pattern"])
    freeze = [(name, lambda x, hook: frozen[hook.name]) for name in frozen]

    def attention_out(push: float) -> Tensor:
        out: list[Tensor] = []
        add = ("blocks.1.hook_resid_pre", lambda x, hook: x + push * torch.linspace(-1, 1, x.shape[-1]))
        logits_of(model, hooks=[*freeze, add, ("blocks.1.hook_attn_out", lambda x, hook: out.append(x))])
        return out[0]

    none, one, two = attention_out(0), attention_out(1), attention_out(2)
    torch.testing.assert_close(two - none, 2 * (one - none), atol=1e-4, rtol=1e-4)


def test_a_hook_may_not_change_the_shape_and_its_dtype_is_cast(tiny_folder: Callable[[str], Path]) -> None:
    model = LanguageModel.load(str(tiny_folder("llama")), dtype="bfloat16")
    point = "blocks.1.hook_mlp_out"
    with pytest.raises(RunError, match=r"blocks\.1\.hook_mlp_out.*\[1, 1, 32\].*\[2, 20, 32\]"):
        logits_of(model, hooks=[(point, lambda x, hook: x[:1, :1])])
    assert torch.equal(logits_of(model, hooks=[(point, lambda x, hook: x.double())]), logits_of(model))


def test_hooks_of_one_point_see_each_others_edits_in_order(tiny_model: Tiny) -> None:
    model, point, seen = tiny_model("llama"), "blocks.1.hook_mlp_out", []
    first, second = (lambda x, hook: x * 0 + 1), (lambda x, hook: seen.append(x.clone()))
    logits_of(model, hooks=[(point, first), (point, second)])
    assert torch.equal(seen[0], torch.ones_like(seen[0]))


def test_an_unknown_point_is_named_with_its_neighbours_and_no_hook_stays(tiny_model: Tiny) -> None:
    model = tiny_model("llama")
    with pytest.raises(ModelError, match=r"'blocks\.1\.hook_mlp_ot'.*blocks\.1\.hook_mlp_out"):
        logits_of(model, hooks=[("blocks.1.hook_mlp_out", edited("")), ("blocks.1.hook_mlp_ot", edited(""))])
    assert not any(point._forward_hooks for point in model.hook_dict.values())


def test_transformer_lens_own_run_with_cache_works(tiny_model: Tiny) -> None:
    mask = torch.ones_like(IDS, dtype=torch.bool)
    _, seen = tiny_model("llama").run_with_cache(IDS, mask)
    assert seen["blocks.2.hook_resid_post"].shape == (2, 20, 32)


# --- batches and caches ---


def rows(model: LanguageModel) -> list[tuple[int, ...]]:
    texts = ("the rabbit", "He saw a carrot and had to grab it, his hunger", "User: Who are you?\nAssistant:")
    return [model.tokens.encode(text).ids for text in texts]


@architectures
def test_a_padded_row_of_a_batch_has_the_logits_of_the_row_alone(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture)
    ids, mask = padded(rows(model), model.tokens.pad_id, width=60)
    with torch.no_grad():
        together = model.forward_pass(ids, mask, logits_at=torch.arange(60))
    for row, prompt in enumerate(rows(model)):
        alone = logits_of(model, torch.tensor([prompt]))[0]
        torch.testing.assert_close(together[row, -len(prompt) :], alone, atol=1e-4, rtol=1e-4)


@architectures
@pytest.mark.parametrize(("patterns", "room"), [(False, 1), (True, 64)])
def test_reading_in_steps_with_a_cache_gives_the_logits_of_reading_at_once(
    tiny_model: Tiny, architecture: str, patterns: bool, room: int
) -> None:
    model = tiny_model(architecture, patterns=patterns)
    ids, mask = padded(rows(model), model.tokens.pad_id)
    stepwise, kv, read = [], model.new_cache(room), 0
    with torch.no_grad():
        at_once = model.forward_pass(ids, mask, logits_at=torch.arange(ids.shape[1]))
        for width in (18, 1, 1, 3, 1, 1):
            step = slice(read, read + width)
            stepwise.append(model.forward_pass(ids[:, step], mask[:, : step.stop], kv, logits_at=torch.arange(width)))
            read = step.stop
    real = mask[:, :read]
    torch.testing.assert_close(torch.cat(stepwise, 1)[real], at_once[:, :read][real], atol=1e-4, rtol=1e-4)


@architectures
def test_rows_taken_from_a_cache_go_on_as_before(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture)
    ids, mask = padded(rows(model), model.tokens.pad_id)
    kept = torch.tensor([2, 0])
    with torch.no_grad():
        kv = model.new_cache()
        model.forward_pass(ids[:, :-1], mask[:, :-1], kv)
        kv.batch_select_indices(kept)
        fewer = model.forward_pass(ids[kept, -1:], mask[kept], kv)
        torch.testing.assert_close(fewer, model.forward_pass(ids, mask)[kept], atol=1e-4, rtol=1e-4)
        kv.batch_repeat_interleave(2)
        assert kv.get_seq_length() == ids.shape[1]
        longer = torch.cat([mask[kept], mask[kept, -1:]], -1).repeat_interleave(2, 0)
        more = model.forward_pass(ids[kept, -1:].repeat_interleave(2, 0), longer, kv)
        assert torch.equal(more[0], more[1]) and not torch.equal(more[1], more[2])


@architectures
def test_logits_are_computed_where_asked_and_at_the_end_otherwise(tiny_model: Tiny, architecture: str) -> None:
    model, mask = tiny_model(architecture), torch.ones_like(IDS, dtype=torch.bool)
    everywhere = logits_of(model)
    with torch.no_grad():
        torch.testing.assert_close(model.forward_pass(IDS, mask), everywhere[:, -1:], atol=1e-5, rtol=1e-5)
        some = model.forward_pass(IDS, mask, logits_at=torch.tensor([3, 7]))
    torch.testing.assert_close(some, everywhere[:, [3, 7]], atol=1e-5, rtol=1e-5)
    assert everywhere.dtype == torch.float32


# --- part of a model ---

SLIDING = ("gemma2", "gemma3", "mistral")
WITHOUT_EXPERTS = [name for name in tiny.ARCHITECTURES if name != "mixtral"]


@pytest.mark.parametrize("architecture", WITHOUT_EXPERTS)
@pytest.mark.parametrize("middle", [1, 2, 3])
def test_lower_and_upper_blocks_one_after_the_other_are_the_whole_model(
    tiny_model: Tiny, architecture: str, middle: int
) -> None:
    model, mask, streams = tiny_model(architecture), torch.ones_like(IDS, dtype=torch.bool), []
    assert model.resumable
    leaving = [(f"blocks.{middle - 1}.hook_resid_post", lambda x, hook: streams.append(x))]
    whole, nowhere = logits_of(model), torch.tensor([], dtype=torch.long)
    with torch.no_grad():
        with model.running(range(middle)), model.hooked(leaving):
            model.forward_pass(IDS, mask, logits_at=nowhere)
        with model.running(range(middle, model.n_layers), streams[0]):
            upper = model.forward_pass(torch.zeros_like(IDS), mask, logits_at=torch.arange(IDS.shape[1]))
    torch.testing.assert_close(upper, whole, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits_of(model), whole)  # no trace is left


@pytest.mark.parametrize("architecture", WITHOUT_EXPERTS)
def test_the_last_block_answers_only_where_logits_are(tiny_model: Tiny, architecture: str) -> None:
    model, mask, at = tiny_model(architecture), torch.ones_like(IDS, dtype=torch.bool), torch.tensor([2, 5])
    with torch.no_grad(), model.answering_at(at):
        some = model.forward_pass(IDS, mask, logits_at=at)
    torch.testing.assert_close(some, logits_of(model)[:, at], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "hf",
    [
        lambda: transformers.BloomForCausalLM(
            transformers.BloomConfig(vocab_size=300, hidden_size=32, n_layer=3, n_head=4)
        ),
        lambda: transformers.MptForCausalLM(
            transformers.MptConfig(vocab_size=300, d_model=32, n_layers=3, n_heads=4, max_seq_len=64)
        ),
    ],
    ids=["bloom", "mpt"],
)
def test_an_mlp_that_is_given_the_stream_beside_its_input_answers_where_logits_are(
    tiny_folder: Callable[[str], Path], hf: Callable[[], transformers.PreTrainedModel]
) -> None:
    torch.manual_seed(0)
    model = LanguageModel.wrap(hf(), Tokens.open(tiny_folder("llama")))
    mask, at = torch.ones_like(IDS, dtype=torch.bool), torch.tensor([2, 5])
    with torch.no_grad(), model.answering_at(at):
        some = model.forward_pass(IDS, mask, logits_at=at)
    torch.testing.assert_close(some, logits_of(model)[:, at], atol=1e-5, rtol=1e-5)
    assert model.resumable


def test_routed_experts_do_not_resume(tiny_model: Tiny) -> None:
    assert not tiny_model("mixtral").resumable


@pytest.mark.parametrize("architecture", [name for name in WITHOUT_EXPERTS if name not in SLIDING])
def test_rows_and_columns_of_a_cache_go_on_from_there(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture)
    ids, mask = padded(rows(model), model.tokens.pad_id)
    chosen, start = torch.tensor([2, 0, 2]), 9
    with torch.no_grad():
        whole = model.new_cache(0)
        expected = model.forward_pass(ids, mask, whole)[chosen]
        part = whole.taken(chosen, slice(0, start), ids.shape[1] - start)
        assert whole.divisible and part.get_seq_length() == start
        again = model.forward_pass(ids[chosen, start:], mask[chosen], part)
    torch.testing.assert_close(again, expected, atol=1e-4, rtol=1e-4)
    back = whole.taken(chosen, slice(0, ids.shape[1]), 4, range(model.n_layers))
    back.put(torch.tensor([1]), start, part.taken(torch.tensor([0]), slice(start, ids.shape[1]), 0), [1])
    torch.testing.assert_close(
        back.layers[1].keys[1, :, start:], whole.layers[1].keys[2, :, start:], atol=1e-4, rtol=1e-4
    )
    assert torch.equal(back.layers[1].keys[1, :, :start], whole.layers[1].keys[0, :, :start])


# --- architectures and files ---


@pytest.fixture(scope="module")
def tokens(tiny_folder: Callable[[str], Path]) -> Tokens:
    return Tokens.open(tiny_folder("llama"))


def other(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    """A random model of an architecture that is not among the ten."""
    torch.manual_seed(0)
    hf = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in hf.named_parameters():
        parameter.data.normal_(0, 0.3).add_("norm" in name and name.endswith("weight"))
    return hf


def bridged(hf: transformers.PreTrainedModel, folder: Path) -> Any:
    hf.save_pretrained(folder)
    tiny.save_tokenizer(folder, tiny.byte_level())
    return TransformerBridge.boot_transformers(str(folder), device="cpu")


def test_a_scaled_contribution_is_seen_and_edited_as_the_stream_takes_it(tokens: Tokens, tmp_path: Path) -> None:
    hf = other(transformers.GraniteConfig(**tiny.PLAIN, residual_multiplier=0.5))
    model, oracle = LanguageModel.wrap(hf, tokens), bridged(hf, tmp_path)
    for point in ("blocks.1.hook_attn_out", "blocks.1.hook_mlp_out"):
        with torch.no_grad():
            theirs = oracle.run_with_hooks(IDS, fwd_hooks=[(point, edited(point))])
        torch.testing.assert_close(logits_of(model, hooks=[(point, edited(point))]), theirs, atol=1e-4, rtol=1e-4)
        assert torch.equal(logits_of(model, hooks=[(point, lambda x, hook: x.clone())]), logits_of(model))


def test_a_sequential_gpt_neox_has_a_stream_between_attention_and_mlp(tokens: Tokens) -> None:
    hf = other(transformers.GPTNeoXConfig(**tiny.PLAIN, use_parallel_residual=False))
    seen = seen_at(LanguageModel.wrap(hf, tokens), [f"blocks.1.{point}" for point in STREAM])
    between = seen["blocks.1.hook_resid_pre"] + seen["blocks.1.hook_attn_out"]
    torch.testing.assert_close(seen["blocks.1.hook_resid_mid"], between)


def test_the_language_model_of_a_checkpoint_that_also_sees_carries_the_points(tokens: Tokens) -> None:
    text = tiny.config("gemma3").to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    hf = other(transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))
    model = LanguageModel.wrap(hf, tokens)
    assert (model.n_layers, model.d_model, model.n_ctx, model.d_vocab) == (3, 32, 256, 128)
    alone = transformers.Gemma3ForCausalLM(tiny.config("gemma3")).eval()
    alone.model.load_state_dict(hf.model.language_model.state_dict())
    point = "blocks.1.hook_mlp_out"
    ours = logits_of(model, hooks=[(point, edited(point))])
    torch.testing.assert_close(ours, logits_of(LanguageModel.wrap(alone, tokens), hooks=[(point, edited(point))]))


# --- wrong mappings ---


def misplaced(monkeypatch: pytest.MonkeyPatch, point: str, path: str, side: str = "hook_out") -> None:
    """Makes TransformerLens' adapters say that a point is somewhere else."""
    right = language_model._places

    def wrong(block: Any) -> Any:
        return {**right(block), point: language_model._Place(path, side)}

    monkeypatch.setattr(language_model, "_places", wrong)


WRONG = [
    ("gemma2", "hook_mlp_out", "mlp", "hook_out"),  # before the post-norm
    ("olmo2", "hook_attn_out", "self_attn", "hook_out"),
    ("llama", "hook_resid_mid", "input_layernorm", "hook_in"),
    ("qwen3", "hook_mlp_out", "mlp.down_proj", "hook_in"),
    ("pythia", "hook_mlp_out", "attention", "hook_out"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("architecture", "point", "path", "side"), WRONG)
def test_a_point_in_the_wrong_place_is_found_when_the_model_is_loaded(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch, architecture: str, point: str, path: str, side: str, dtype: str
) -> None:
    hf = tiny.hf_model(architecture).to(getattr(torch, dtype))
    LanguageModel.wrap(hf, tokens)
    misplaced(monkeypatch, point, path, side)
    what = (
        r"not \[batch pos d_model\] = \[1, 4, 32\]: hook_mlp_out \[1, 4, 64\]"
        if path.endswith("down_proj")
        else r"do not add up to .*: off by [\d.]+ where"
    )
    with pytest.raises(ModelError, match=rf"block 0 of 3: .*{what}"):
        LanguageModel.wrap(hf, tokens)


def test_the_block_that_does_something_of_its_own_is_named_with_how_much(tokens: Tokens) -> None:
    hf = tiny.hf_model("llama")
    hf.model.layers[1].register_forward_hook(lambda module, args, output: output + 0.25)
    with pytest.raises(ModelError, match=r"block 1 of 3: .* off by 0\.25 where rounding explains \de-\d+"):
        LanguageModel.wrap(hf, tokens)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_huge_number_elsewhere_in_the_stream_hides_no_wrong_part(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    hf = tiny.hf_model("gemma2").to(getattr(torch, dtype))
    hf.model.embed_tokens.weight.data[:, 5] = 1e5  # the stream of real models has such numbers
    LanguageModel.wrap(hf, tokens)
    misplaced(monkeypatch, "hook_mlp_out", "mlp")
    with pytest.raises(ModelError, match="block 0 of 3: .*do not add up"):
        LanguageModel.wrap(hf, tokens)


def test_a_model_that_overflows_in_its_dtype_says_so(tokens: Tokens) -> None:
    hf = tiny.hf_model("llama").half()
    hf.model.embed_tokens.weight.data.mul_(0).add_(6e4)
    hf.model.layers[2].mlp.down_proj.weight.data.mul_(1e4)
    with pytest.raises(ModelError, match=r"block 2 of 3: .*not finite \(float16 ends at 6\.55e\+04\)"):
        LanguageModel.wrap(hf, tokens)


def test_blocks_whose_parts_have_no_positions_are_refused(tokens: Tokens) -> None:
    shapes = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    with pytest.raises(
        ModelError, match=r"OPTForCausalLM\), block 0 of 1: not \[batch pos d_model\].*mlp\.hook_in \[4, 32\]"
    ):
        LanguageModel.wrap(other(transformers.OPTConfig(**shapes)), tokens)


@architectures
def test_shapes_are_those_of_the_configuration(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture)
    assert (model.n_layers, model.d_model, model.d_vocab, model.n_ctx) == (3, 32, 128, 256)
    assert (model.dtype, model.device.type, model.hf.training) == (torch.float32, "cpu", False)
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())


@architectures
def test_without_patterns_attention_is_the_models_own_fast_one(tiny_model: Tiny, architecture: str) -> None:
    model = tiny_model(architecture)
    assert model.hf.config._attn_implementation == ("eager" if architecture == "gemma2" else "sdpa")
    assert not any(name.endswith("hook_pattern") for name in model.hook_dict)


@pytest.mark.parametrize("patterns", [False, True])
def test_a_cap_on_attention_scores_is_kept_whatever_attention_the_model_came_with(
    tokens: Tokens, patterns: bool
) -> None:
    expected, uncapped = (written_out(cap).logits for cap in (0.5, 1e6))
    model = LanguageModel.wrap(capped(0.5), tokens, patterns)
    torch.testing.assert_close(logits_of(model), expected, atol=1e-4, rtol=1e-4)
    assert float((expected - uncapped).abs().max()) > 0.1


def capped(cap: float) -> transformers.PreTrainedModel:
    """A tiny Gemma 2 whose scores are squeezed together."""
    hf = tiny.hf_model("gemma2")
    hf.config.attn_logit_softcapping = cap
    for layer in hf.model.layers:
        layer.self_attn.attn_logit_softcapping = cap
    return hf


def written_out(cap: float) -> Any:
    hf = capped(cap)
    hf.set_attn_implementation("eager")
    with torch.no_grad():
        return hf(IDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.save(tmp_path, "llama")


def test_the_weight_hash_is_of_the_weights(folder: Path, tokens: Tokens) -> None:
    before = LanguageModel.load(str(folder)).weight_hash()
    assert before == LanguageModel.load(str(folder), patterns=True).weight_hash()
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert LanguageModel.load(str(folder)).weight_hash() != before
    wrapped = [LanguageModel.wrap(tiny.hf_model("llama", seed), tokens).weight_hash() for seed in (0, 0, 1)]
    assert wrapped[0] == wrapped[1] != wrapped[2]


def test_missing_weights_are_an_error_and_not_random_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"weights missing.*model\.layers\.1\.mlp\.up_proj\.weight"):
        LanguageModel.load(str(folder))


def test_pickled_weights_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        LanguageModel.load(str(folder))


def test_code_that_comes_with_weights_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('code of the weights was run')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        LanguageModel.load(str(folder))


def test_an_unknown_dtype_is_refused_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(ModelError, match="'float8' is not one of: float32, bfloat16, float16"):
        LanguageModel.load(str(folder), dtype="float8")
