"""sparsify's transcoders saved before 2025-02-12, which subtract b_dec from what they read and say so nowhere.

The files are those of `sparsify`, so only the user can tell (EleutherAI/sparsify#49); SAEs were the same then and now.
"""

from __future__ import annotations

from steer.transcoder.canonical import Hooks, Layout
from steer.transcoder.found import Found
from steer.transcoder.layouts import sparsify

NEEDS = "sparsify's files, of a transcoder saved before 2025-02-12; only where the user says so"


def is_mine(found: Found) -> bool:
    return sparsify.is_mine(found)


def describe(found: Found, hooks: Hooks) -> Layout:
    """The set; TranscoderError with the file, what was found in it and what is possible."""
    return sparsify.described_as("sparsify-2024", found, hooks, subtracted=True)
