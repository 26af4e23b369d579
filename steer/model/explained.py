"""Running totals of what a layer's features do over text, and of how much of what was written they explain.

No token is kept, so memory does not grow with the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class Sums:
    """Of one layer, on the CPU: per feature, and the parts of the unexplained variance in float64."""

    largest: Float[Tensor, " d_transcoder"]
    total: Float[Tensor, " d_transcoder"]
    fired: Int[Tensor, " d_transcoder"]
    tokens: int = 0
    error: float = 0.0
    squares: float = 0.0
    written: Float[Tensor, "*d_model"] = torch.zeros((), dtype=torch.float64)

    @classmethod
    def empty(cls, width: int) -> Sums:
        """Before the first token."""
        total = torch.zeros(width, dtype=torch.float64)
        return cls(torch.zeros(width), total, torch.zeros(width, dtype=torch.int64))

    def add(
        self,
        activations: Float[Tensor, "n d_transcoder"],
        wrote: Float[Tensor, "n d_model"],
        decoded: Float[Tensor, "n d_model"],
    ) -> None:
        """More tokens (at least one): activations, what was really written, and what the features say is written."""
        self.largest = torch.maximum(self.largest, activations.amax(0).float().cpu())
        self.total += activations.sum(0).cpu().double()
        self.fired += (activations > 0).sum(0).cpu()
        self.tokens += len(activations)
        wrote, decoded = wrote.cpu().double(), decoded.cpu().double()
        self.error += float(((wrote - decoded) ** 2).sum())
        self.squares += float((wrote**2).sum())
        self.written = self.written + wrote.sum(0)

    def unexplained(self) -> float:
        """Error over variance, `sum (y - yhat)^2 / sum (y - mean y)^2`; 1 is what the mean alone would leave.

        Not a number where all tokens have the same y.
        """
        variance = self.squares - float((self.written**2).sum()) / self.tokens
        return self.error / variance if variance > 0 else float("nan")

    def l0(self) -> float:
        """Features that fire at a token, on average."""
        return float(self.fired.sum()) / self.tokens

    def dead(self) -> float:
        """Share of the features that fire nowhere."""
        return float((self.fired == 0).float().mean())

    def mean(self) -> Float[Tensor, " d_transcoder"]:
        """Mean activation over all tokens, those where it is zero among them."""
        return (self.total / self.tokens).float()

    def density(self) -> Float[Tensor, " d_transcoder"]:
        """Share of tokens where a feature fires."""
        return self.fired.float() / self.tokens
