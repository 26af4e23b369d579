from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steer.execution.loaded import Loaded, Weights
from tests.intervention.world import write_transcoders


def test_a_model_is_loaded_once_and_another_dtype_is_another_model(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = write_transcoders(tmp_path, "jumprelu", n_layers=3, d_model=32)
    wanted = Weights(str(tiny_folder("llama")), None, "float32", "cpu", patterns=False)
    half = wanted._replace(dtype="bfloat16")
    loaded = Loaded()
    assert loaded.model(wanted) is loaded.model(wanted._replace()) is not loaded.model(half)
    assert loaded.transcoders(folder, wanted) is loaded.transcoders(folder, wanted)
    before = loaded.model(wanted)
    loaded.keep({wanted})
    assert set(loaded.models) == {wanted} and loaded.model(wanted) is before and len(loaded.opened) == 1
    loaded.keep(set())
    assert loaded.models == {} and loaded.opened == {}
