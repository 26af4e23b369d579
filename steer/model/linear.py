"""Linear layers whose float32 products on a CPU are oneDNN's.

PyTorch gives them to MKL. On one core of an AMD processor with AVX-512 (Zen 5, torch 2.13.0; 512 to 1,376 features)
MKL reached 80 GFLOP/s at 12 rows and 100 to 108 from 48 rows on, oneDNN 115 to 130 and 180 to 245. At four rows they
are alike, and at one oneDNN has 0.75 of MKL's. Both add up in float32 and differ in the order of their sums.
"""

from __future__ import annotations

import os

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

# oneDNN and PyTorch's layer on it each keep what they prepare for a shape, by default for the last 1,024: 250 kB a
# shape, and a run has new ones in every batch. Read when the first product is made.
for _name in ("DNNL_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "32")


FEW = 4  # rows


class OneDNNLinear(nn.Linear):
    """nn.Linear; for fewer rows than `FEW`, where a gradient is wanted, off the CPU and in other dtypes its own."""

    def forward(self, input: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        given = (input, self.weight) if self.bias is None else (input, self.weight, self.bias)
        wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
        few = input.numel() < FEW * self.in_features
        if few or wanted or not input.is_cpu or not input.dtype == self.weight.dtype == torch.float32:
            return super().forward(input)
        product: Tensor = torch.ops.mkldnn._linear_pointwise.default(input, self.weight, self.bias, "none", [], "")
        return product


def with_onednn(model: PreTrainedModel) -> PreTrainedModel:
    """The model, its linear layers made such ones; as it was where PyTorch comes without oneDNN."""
    if torch.backends.mkldnn.is_available():
        for module in model.modules():
            if type(module) is nn.Linear and (module.bias is None or module.bias.is_contiguous()):
                module.__class__ = OneDNNLinear  # keeps weights, hooks and name
    return model
