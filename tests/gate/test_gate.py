"""`steer gate` and the runs after it, on transcoders that were made to fit one way of reading and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from steer import pipeline
from steer.gate.measure import Asked, gated, points
from steer.gate.passes import Pair
from steer.gate.text import Documents, Rows, rows
from steer.model.language_model import LanguageModel
from steer.model.tokens import Tokens
from steer.pytest_plugin import Session
from steer.transcoder.layout import layout
from steer.transcoder.registry import require_release
from steer.transcoder.transcoder import Transcoders
from tests.execution.lab import without_plots
from tests.gate.plain import Plain
from tests.intervention.world import write_transcoders
from tests.project import SMALL, Project, make_project, tables
from tests.test_pipeline import steer
from tests.transcoder import hub
from tests.transcoder.published import circuit_tracer, saelens

WIDTH, TOKENS = 400, 300
TEXT = Path(__file__).parents[2] / "steer" / "gate" / "reference.txt"
MEASURED = ("--text", TEXT, "--tokens", TOKENS, "--loss-tokens", 200)


class Bench:
    """A tiny model, and transcoders that explain it to the last digit on TEXT if they read at a certain point."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.plain, self.tokens = Plain.load(model), Tokens.open(model)

    def text(self, bos: bool = True) -> Rows:
        return rows(Documents("", tuple(TEXT.read_text().split("\n\n"))), self.tokens, bos, TOKENS, 256)

    def read(self, point: str, bos: bool = True) -> dict[int, Tensor]:
        """What goes by at a point, [token d_model] by layer, the first token of each row left out."""
        seen = [self.plain.run(ids).at(point) for ids in self.text(bos).ids]
        return {layer: torch.cat([one[layer][1:] for one in seen]) for layer in seen[0]}

    def fitted(self, name: str, point: str, bos: bool = True, says: str | None = None) -> Path:
        """ReLU features at random, decoder vectors by least squares: more features than tokens, so nothing is left.

        circuit-tracer's layout, without statistics; `says` is the point that the config names.
        """
        folder, random = self.folder / name, torch.Generator().manual_seed(crc32(name.encode()))  # no two sets are one
        folder.mkdir()
        read, wrote = self.read(point, bos), self.read("hook_mlp_out", bos)
        for layer, x in read.items():
            spread = x - x.mean(0)
            W_enc = spread[torch.randint(len(x), (WIDTH,), generator=random)]
            W_enc = W_enc + spread.std() * torch.randn(WIDTH, x.shape[1], generator=random).double()
            b_enc = -(W_enc @ x.mean(0))
            fired = (x @ W_enc.T + b_enc).clamp(min=0)
            b_dec = wrote[layer].mean(0)
            W_dec = torch.linalg.lstsq(fired, wrote[layer] - b_dec, driver="gelsd").solution
            tensors = {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec}
            save_file({k: v.float().contiguous() for k, v in tensors.items()}, folder / f"layer_{layer}.safetensors")
        config = {"model_name": "tiny", "model_kind": "transcoder_set", "feature_output_hook": "hook_mlp_out"}
        (folder / "config.yaml").write_text(json.dumps({**config, "feature_input_hook": says or point}))
        return folder

    def project(self, name: str, transcoders: Path, text: str = SMALL) -> Project:
        return make_project(self.folder / f"project-{name}", self.model, transcoders, text)


@pytest.fixture(scope="module")
def bench(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tiny_folder("llama"), tmp_path_factory.mktemp("bench"))


def records(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text())["records"]


def manifest(project: Project) -> dict[str, Any]:
    return json.loads((project.run() / "manifest.json").read_text())


@pytest.mark.parametrize("point", ["mlp.hook_in", "ln2.hook_normalized", "hook_resid_mid"])
def test_the_one_point_that_a_set_was_fitted_at_is_the_one_that_fits(
    bench: Bench, point: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, kept = bench.fitted(f"fits-{point}", point), bench.folder / f"{point}.json"
    assert steer("gate", "--model", bench.model, "--transcoder", folder, "--record", kept, *MEASURED) == 0
    for one in records(kept):
        left = {way["reads"]: way["unexplained"] for way in one["figures"]["tries"] if way["bos"]}
        assert left.pop(point) == pytest.approx(one["figures"]["unexplained"], abs=1e-6) == pytest.approx(0, abs=1e-4)
        assert len(left) == 2 and min(left.values()) > 0.05
        assert (one["verdict"], one["reasons"], one["reads"]) == ("pass", [], point)
        assert one["text"]["tokens"] == TOKENS
        assert one["figures"]["loss"]["spliced"] == pytest.approx(one["figures"]["loss"]["original"], abs=1e-3)
    told = capsys.readouterr().out
    assert f"reads {point}, it says; what fits: {point} in 3 of 3 layers" in told
    assert told.splitlines()[-2] == "gate: pass (3 layers)"


def test_a_never_gated_pair_is_warned_of_then_gated_then_run_with_what_was_measured(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    project = bench.project("own", bench.fitted("own", "mlp.hook_in"))
    assert steer("run", project.experiment, "--results", project.results, "--dry-run") == 0
    assert "was never gated (layers 0-1), so nobody has looked" in (told := capsys.readouterr().err)
    assert f"steer gate {project.experiment}" in told
    assert steer("run", project.experiment, "--results", project.results) == 2  # max_act of nothing that was measured
    assert "those of layer 0 were not measured: `steer gate`" in capsys.readouterr().err

    assert steer("gate", project.experiment, *MEASURED) == 0
    assert "gate: pass (2 layers)" in capsys.readouterr().out
    with without_plots():
        assert steer("run", project.experiment, "--results", project.results) == 0
    assert "gated" not in capsys.readouterr().err
    assert manifest(project)["warnings"] == []

    def largest(layer: int, index: int) -> float:
        w = {k: v.double() for k, v in load_file(bench.folder / "own" / f"layer_{layer}.safetensors").items()}
        p = bench.read("mlp.hook_in")[layer] @ w["W_enc"][index] + w["b_enc"][index]
        return float(p.max())

    found = tables(project.run())
    edits = found["edits"].merge(found["trials"][["trial_id", "control", "dose"]], on="trial_id")
    own = edits[edits.control == "none"]
    for (layer, index, dose), after in own.groupby(["layer", "index", "dose"]).after:
        assert after.to_list() == pytest.approx([dose * largest(layer, index)] * len(after), rel=1e-3)
    assert set(own["index"]) == {3, 8} and "random_features" in set(edits.control)
    assert manifest(project)["transcoder"]["statistics"] is not None


def test_statistics_are_found_by_model_and_layer_and_for_no_other_pair(bench: Bench, tmp_path: Path) -> None:
    folder = bench.fitted("kept", "mlp.hook_in")
    assert steer("gate", "--model", bench.model, "--transcoder", folder, "--layers", "1", *MEASURED) == 0
    part = tmp_path / "part"  # a set that is held in part, as layers in use of one on the Hub are
    part.mkdir()
    for name in ("config.yaml", "layer_1.safetensors"):
        (part / name).symlink_to(folder / name)
    opened = Transcoders.open(part, model=bench.model)
    x = bench.read("mlp.hook_in")[1]
    a = opened.encode_all(1, x.float()).double()
    assert opened.statistics is not None and opened.layers == (1,)
    for name, expected in {
        "max_act": a.amax(0),
        "mean": a.mean(0),
        "density": (a > 0).double().mean(0),
        "decoder_norm": opened.decoder(1, range(WIDTH)).double().pow(2).sum(1).sqrt(),
    }.items():
        torch.testing.assert_close(getattr(opened.statistics, name)[1].double(), expected, rtol=1e-3, atol=5e-3)
    assert opened.statistics_hash() is not None
    assert Transcoders.open(folder, model=bench.model).statistics_at(0, 3) is None
    assert Transcoders.open(folder, model=tmp_path).statistics_at(1, 3) is None
    assert Transcoders.open(folder).statistics is None


@pytest.fixture(scope="module")
def wrong(bench: Bench) -> Project:
    """An experiment whose transcoder says that it reads what it was not fitted at, and so has failed."""
    project = bench.project("wrong", bench.fitted("wrong", "mlp.hook_in", says="hook_resid_mid"))
    assert steer("gate", project.experiment, *MEASURED) == 1
    return project


def test_a_pair_that_says_the_wrong_point_fails(
    bench: Bench, wrong: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert steer("gate", wrong.experiment, *MEASURED) == 1
    told = capsys.readouterr().out
    assert "reads hook_resid_mid, it says; what fits: mlp.hook_in in 2 of 2 layers" in told
    assert "layer 0 fails: it says that it reads hook_resid_mid" in told and "and mlp.hook_in fits" in told
    assert told.splitlines()[-1] == "gate: fail (layers 0-1 of 0-1)"


def test_a_pair_that_failed_is_refused_unless_the_file_allows_it(
    wrong: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert steer("run", wrong.experiment, "--results", wrong.results) == 2
    refusal = capsys.readouterr().err
    assert "failed its gate: layer 0: " in refusal and f"`steer gate {wrong.experiment}`" in refusal
    assert "--set transcoder.allow_failed_gate=true" in refusal
    assert not list(wrong.results.glob("*/*"))
    allowed = ("--set", "transcoder.allow_failed_gate=true", "--only", "dose=4", "--limit", 1)
    with without_plots():
        assert steer("run", wrong.experiment, "--results", wrong.results, *allowed) in (0, 1)
    [run] = [path for path in (wrong.results / "tiny").iterdir() if path.is_dir()]
    assert "failed its gate" in json.loads((run / "manifest.json").read_text())["warnings"][-1]


def test_beside_others_and_under_pytest_a_refused_file_fails_alone(
    bench: Bench, wrong: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace("name: tiny", "name: other").replace("unit: max_act", "unit: raw")
    text = text.replace("controls: [{{type: random_features, n: 2}}]", "allow_silent: true")
    other = bench.project("other", bench.fitted("other", "mlp.hook_in"), text)
    with without_plots():
        assert steer("run", wrong.experiment, other.experiment, "--results", tmp_path / "results") == 3
    assert (tmp_path / "results" / "other" / "latest").exists() and not (tmp_path / "results" / "tiny").exists()
    told = capsys.readouterr().err
    assert "failed its gate" in told and "was never gated" in told

    asked = SimpleNamespace(args=(), dir=tmp_path)
    config: Any = SimpleNamespace(invocation_params=asked, getoption={"--steer-results": "pytest"}.get)
    prepared = pipeline.prepare(wrong.experiment)
    record = Session(config, str(tmp_path), [prepared]).record(prepared)
    assert record.text().startswith("the experiment did not run\nproblem: ") and "failed its gate" in record.text()
    assert not (tmp_path / "pytest").exists()


def test_a_set_that_fits_without_the_bos_is_told_so(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    folder, kept = bench.fitted("bare", "mlp.hook_in", bos=False), bench.folder / "bare.json"
    assert steer("gate", "--model", bench.model, "--transcoder", folder, "--record", kept, *MEASURED) in (0, 1)
    assert "3 of 3 layers fit better without BOS, and this model's prompts are read with one" in capsys.readouterr().out
    for one in records(kept):
        left = {way["bos"]: way["unexplained"] for way in one["figures"]["tries"] if way["reads"] == "mlp.hook_in"}
        assert left[False] == pytest.approx(0, abs=1e-4) and left[True] > 0.01


def test_a_record_beside_the_weights_counts_where_nothing_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bench.fitted("carried", "mlp.hook_in")
    project = bench.project("carried", folder)
    assert steer("gate", project.experiment, "--record", folder / "gate.json", *MEASURED) == 0
    monkeypatch.setenv("STEER_CACHE", str(tmp_path))
    capsys.readouterr()
    assert steer("run", project.experiment, "--results", project.results, "--dry-run") == 0
    assert capsys.readouterr().err == ""
    (folder / "gate.json").write_text("{}")
    assert steer("run", project.experiment, "--results", project.results, "--dry-run") == 2
    assert "not the records of a gate" in capsys.readouterr().err


def test_what_cannot_be_gated_is_said_with_exit_code_2(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    project, folder = bench.project("asked", bench.fitted("asked", "mlp.hook_in")), bench.folder / "asked"
    for words, message in (
        ((), "expected an experiment file"),
        ((project.experiment, "--transcoder", folder), "an experiment file says what is gated"),
        (("--transcoder", folder), "does not know which model"),
        (("--model", bench.model, "--transcoder", folder, "--reads", "hook_resid_pst"), "--reads 'hook_resid_pst'"),
        (("--model", bench.model, "--transcoder", folder, "--layers", "7"), "has the layers 0-2"),
    ):
        assert steer("gate", *words) == 2
        assert message in capsys.readouterr().err


def test_of_a_set_on_the_hub_the_layers_that_are_asked_for_are_fetched(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, files = hub.use(monkeypatch, tmp_path), hub.held(bench.fitted("there", "mlp.hook_in"))
    hub.repository(cache, "someone/tiny", {name: held for name, held in files.items() if name != "layer_0.safetensors"})
    words = ("--model", bench.model, "--transcoder", "someone/tiny")
    assert steer("gate", *words, "--layers", "1:3", *MEASURED) == 0
    assert "gate: pass (2 layers)" in capsys.readouterr().out
    assert steer("gate", *words, "--layers", "0", *MEASURED) == 2
    assert steer("gate", *words, "--layers", "1-3", *MEASURED) == 2
    assert "expected a layer, a range a:b" in capsys.readouterr().err


def test_an_sae_is_compared_with_what_it_reads_and_a_clt_with_all_layers_before(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sae = saelens.version_6(tmp_path / "sae", "jumprelu", d_in=32).folder
    clt = circuit_tracer.clt(tmp_path / "clt", n_layers=3, d=32).folder
    assert steer("gate", "--model", bench.model, "--transcoder", sae, *MEASURED) == 1  # a random one
    told = capsys.readouterr().out
    assert "an SAE reads what it writes, so there is no other convention to try" in told
    assert "BOS: on leaves less unexplained in" in told
    assert steer("gate", "--model", bench.model, "--transcoder", clt, *MEASURED) == 1
    assert "reads hook_resid_mid, it says; what fits:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("architecture", "tried"),
    [
        ("pythia", ("mlp.hook_in", "ln2.hook_normalized")),  # attention and MLP side by side
        ("olmo2", ("mlp.hook_in", "hook_resid_mid")),  # nothing normalises what the MLP takes
        ("gemma2", ("mlp.hook_in", "ln2.hook_normalized", "hook_resid_mid")),
    ],
)
def test_of_the_three_points_those_are_tried_that_an_architecture_has(
    tiny_model: Callable[[str], LanguageModel], bench: Bench, architecture: str, tried: tuple[str, ...]
) -> None:
    folder = write_transcoders(bench.folder / architecture, "relu", n_layers=3, d_model=32)
    assert points(Pair(tiny_model(architecture), Transcoders.open(folder)), (0, 1, 2)) == tried


def test_a_cross_layer_transcoder_without_its_first_layers_is_not_judged(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    circuit_tracer.clt(tmp_path / "clt", n_layers=3, d=32)
    for name in ("W_enc_0.safetensors", "W_dec_0.safetensors"):
        (tmp_path / "clt" / name).unlink()
    assert layout(tmp_path / "clt").layers.keys() == {1, 2}
    assert steer("gate", "--model", bench.model, "--transcoder", tmp_path / "clt", *MEASURED) == 2
    assert "what it writes to layer 2 cannot be told without the features of layers 0" in capsys.readouterr().err


def test_published_figures_of_a_release_are_beside_the_measured_ones_and_judge_them(bench: Bench) -> None:
    model = LanguageModel.load(str(bench.model))
    pair = Pair(model, Transcoders.open(bench.fitted("release", "mlp.hook_in")))
    asked = Asked("release", (0, 1), Documents("text", tuple(TEXT.read_text().split("\n\n"))), TOKENS, 200)
    release = replace(require_release("gpt2-transcoders"), l0=(12, 200))  # trained without BOS
    first, second = gated(pair, asked, release, lambda passes: None).records
    assert [one.figures.l0_published for one in (first, second)] == [12, 200]
    assert any("published 12: more than a factor 1.5 apart" in reason for reason in first.reasons)
    assert second.reasons == ("published as trained without BOS, and with it fits better",)
