from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from steer.transcoder import formats
from steer.transcoder.formats import LayerFile
from steer.transcoder.layout import layout
from tests.transcoder.sets import D_MODEL, WIDTH, tensors, write, write_kind

INDICES = [31, 0, 7, 7, 36]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_rows_on_demand_equal_the_full_tensors(tmp_path: Path, dtype: torch.dtype) -> None:
    found = layout(write_kind(tmp_path, "jumprelu", dtype))
    file = LayerFile(found.layers[2], torch.device("cpu"))
    whole = {key: tensor.float() for key, tensor in load_file(tmp_path / "layer_2.safetensors").items()}
    for stored in (found.layers[2].W_enc, found.layers[2].W_dec, found.layers[2].b_enc):
        assert torch.equal(file.rows(stored, INDICES), whole[stored.key][INDICES])
        assert torch.equal(file.block(stored, 3, 9), whole[stored.key][3:9])
        assert file.rows(stored, []).shape == (0, *stored.shape[1:])
    assert torch.equal(file.whole(found.layers[2].b_dec), whole["b_dec"])
    thresholds = file.thresholds(INDICES)
    assert thresholds is not None
    assert torch.equal(thresholds, whole["activation_function.threshold"][INDICES])


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_stored_threshold_holds_for_every_feature(tmp_path: Path, shape: tuple[int, ...]) -> None:
    layer = tensors(0) | {"activation_function.threshold": torch.full(shape, 0.5)}
    file = LayerFile(layout(write(tmp_path, [layer])).layers[0], torch.device("cpu"))
    thresholds = file.thresholds(INDICES)
    assert thresholds is not None
    assert thresholds.tolist() == [0.5] * len(INDICES)


@pytest.mark.parametrize("rows", [1, 5, WIDTH, 10 * WIDTH])
def test_blocks_cover_every_feature_once_in_order(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "BLOCK_BYTES", 4 * D_MODEL * rows)
    blocks = list(LayerFile(layout(write_kind(tmp_path, "relu")).layers[0], torch.device("cpu")).blocks())
    assert [index for block in blocks for index in range(WIDTH)[block]] == list(range(WIDTH))
    assert max(block.stop - block.start for block in blocks) <= rows
