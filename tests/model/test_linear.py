from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from steer.model.language_model import LanguageModel
from steer.model.linear import OneDNNLinear, with_onednn

INPUTS: dict[str, Callable[[], Tensor]] = {
    "one row": lambda: torch.randn(1, 20),
    "no row": lambda: torch.randn(0, 3, 20),
    "no column": lambda: torch.randn(3, 0, 20),
    "a vector": lambda: torch.randn(20),
    "many": lambda: torch.randn(2, 70, 3, 20),
    "some columns": lambda: torch.randn(6, 9, 20)[:, [1, 7]],
    "every other column": lambda: torch.randn(6, 9, 20)[:, ::2],
    "transposed": lambda: torch.randn(6, 20, 9).mT,
    "the same row again": lambda: torch.randn(3, 1, 20).expand(3, 5, 20),
}


def pair(bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    """The same layer, once as PyTorch has it."""
    plain, other = nn.Linear(20, 30, bias=bias), nn.Linear(20, 30, bias=bias)
    other.load_state_dict(plain.state_dict())
    other.__class__ = OneDNNLinear
    return plain.requires_grad_(False), other.requires_grad_(False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", INPUTS)
def test_it_is_the_product_in_float64_as_nearly_as_float32_can_say_it(name: str, bias: bool) -> None:
    plain, layer = pair(bias)
    x = INPUTS[name]()
    exact = nn.functional.linear(x.double(), plain.weight.double(), plain.bias.double() if bias else None)
    assert layer(x).shape == plain(x).shape
    torch.testing.assert_close(layer(x).double(), exact, atol=2e-6, rtol=1e-6)


def test_what_is_no_number_stays_with_its_row() -> None:
    plain, layer = pair()
    x = torch.randn(4, 20)
    x[0, 3], x[2, 5] = torch.nan, torch.inf
    assert torch.equal(layer(x).isfinite(), plain(x).isfinite())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_are_pytorchs(dtype: torch.dtype) -> None:
    plain, layer = (one.to(dtype) for one in pair())
    x = torch.randn(7, 20, dtype=dtype)
    assert torch.equal(layer(x), plain(x))


def test_gradients_are_pytorchs() -> None:
    plain, layer = pair()
    gradients = []
    for one in (plain, layer):
        x = torch.linspace(-1, 1, 60).view(3, 20).requires_grad_()
        one(x).square().sum().backward()
        gradients.append(x.grad)
    assert gradients[1] is not None and torch.equal(*gradients)


def test_a_model_that_is_read_has_them_everywhere_and_its_weights_are_as_they_were(
    tiny_folder: Callable[[str], Path],
) -> None:
    read = LanguageModel.load(str(tiny_folder("llama"))).hf
    linear = [module for module in read.modules() if isinstance(module, nn.Linear)]
    assert len(linear) > 4 and {type(module) for module in linear} == {OneDNNLinear}
    stored = AutoModelForCausalLM.from_pretrained(tiny_folder("llama")).state_dict()
    assert read.state_dict().keys() == stored.keys()
    assert all(torch.equal(read.state_dict()[name], weight) for name, weight in stored.items())


def test_without_onednn_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    module = nn.Sequential(nn.Linear(2, 2))
    assert type(with_onednn(module)[0]) is nn.Linear  # type: ignore[arg-type, index]
