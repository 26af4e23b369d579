from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from steer.analysis.analyse import analyse
from steer.analysis.tables import read_run
from steer.report.figure import Plot, harmless
from steer.report.focus import Focus, find_focus, find_focuses
from steer.report.plots import draw, save
from tests.analysis.synthetic import GOLDEN_GATE, golden_run, grid_run, map_run, screen_run, swap_run

TEXT = "{http://www.w3.org/2000/svg}text"


def drawn(folder: Path) -> tuple[Focus, dict[str, Plot]]:
    analysis, run = analyse(folder), read_run(folder)
    focus = find_focus(run, analysis)
    return focus, {plot.name: plot for plot in draw(run, [focus])}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> tuple[Focus, dict[str, Plot]]:
    return drawn(
        golden_run(tmp_path_factory.mktemp("golden"), 30, draws=3, group_by=["kind"], sweep={"dose": [0, 5, 10]})
    )


def words(plot: Plot) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(plot.svg).iter(TEXT)]


def test_the_focus_is_the_chosen_dose_of_the_headline(golden: tuple[Focus, dict[str, Plot]]) -> None:
    focus, _ = golden
    assert (focus.condition, focus.measurement) == ("clamped", "mentions")
    assert focus.columns == {"split": "test"}
    assert list(focus.point) == ["dose"]
    assert focus.how == "chosen on other prompts"


def test_a_swept_experiment_has_its_plots_the_dose_response_first(golden: tuple[Focus, dict[str, Plot]]) -> None:
    names = list(golden[1])
    assert names[0] == "dose-response"
    assert set(names) == {
        "dose-response", "effect-and-cost", "dose-response-all", "by-group", "conditions", "logit-shifts"
    }  # fmt: skip


SHAPES: list[tuple[Callable[[Path], Path], list[str]]] = [
    (swap_run, ["conditions"]),
    (screen_run, ["ranked-feature"]),
    (map_run, ["heat-map-layer-position", "ranked-position", "dose-response"]),
    (grid_run, ["grid-ones", "grid-right"]),
]


@pytest.mark.parametrize(("make", "names"), SHAPES, ids=[names[0] for _, names in SHAPES])
def test_every_shape_of_experiment_has_the_plots_its_data_allow(
    tmp_path: Path, make: Callable[[Path], Path], names: list[str]
) -> None:
    _, plots = drawn(make(tmp_path))
    assert list(plots) == names


def test_every_plot_asks_a_question_and_says_what_is_seen(golden: tuple[Focus, dict[str, Plot]]) -> None:
    for plot in golden[1].values():
        assert plot.question.endswith("?")
        assert plot.question in words(plot)
        assert plot.caption


def test_axes_carry_units_and_the_legend_names_the_controls(golden: tuple[Focus, dict[str, Plot]]) -> None:
    said = words(golden[1]["dose-response"])
    assert "dose: clamp value, × the largest activation" in said
    assert "random features (3)" in said
    assert "baseline, no intervention" in said
    assert "100%" in said


def test_the_same_numbers_give_the_same_file(tmp_path: Path, golden: tuple[Focus, dict[str, Plot]]) -> None:
    _, again = drawn(golden_run(tmp_path, 30, draws=3, group_by=["kind"], sweep={"dose": [0, 5, 10]}))
    assert {name: plot.svg for name, plot in again.items()} == {name: plot.svg for name, plot in golden[1].items()}


def test_plots_are_saved_both_ways_and_old_ones_go(tmp_path: Path, golden: tuple[Focus, dict[str, Plot]]) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "old.svg").write_text("")
    save(tuple(golden[1].values()), tmp_path / "plots")
    assert {path.stem for path in (tmp_path / "plots").glob("*.svg")} == set(golden[1])
    for path in (tmp_path / "plots").glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 300


def test_no_text_leaves_its_picture(golden: tuple[Focus, dict[str, Plot]]) -> None:
    # The PNG has a white border: what is cut would touch it.
    for plot in golden[1].values():
        picture = Image.open(io.BytesIO(plot.png)).convert("L")
        width, height = picture.size
        edges = [picture.crop(box) for box in ((0, 0, 1, height), (width - 1, 0, width, height), (0, 0, width, 1))]
        assert all(edge.getextrema()[0] > 200 for edge in edges), plot.name


def test_hostile_and_foreign_labels_are_drawn_as_text(tmp_path: Path) -> None:
    folder = swap_run(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    target = "$\\frac{1}{$<script>alert(1)</script>\x1b]0;橋\u202e"
    manifest["experiment"]["measurements"]["injected"]["target"] = target
    manifest["experiment"]["group_by"] = []
    (folder / "manifest.json").write_text(json.dumps(manifest))
    _, plots = drawn(folder)
    assert "<script" not in plots["conditions"].svg
    assert any("\\frac" in text for text in words(plots["conditions"]))


def test_an_svg_loses_everything_that_could_act() -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="x()">'
        '<script>x()</script><g onclick="x()"><foreignObject><b/></foreignObject><a xlink:href="javascript:x()"/>'
        '<use xlink:href="#m"/><image xlink:href="http://x/y.png"/><path d="M0 0"/></g></svg>'
    )
    left = harmless(svg)
    for gone in ("script", "onload", "onclick", "foreignObject", "javascript", "http://x"):
        assert gone not in left
    assert "#m" in left
    assert "M0 0" in left


def test_conditions_over_one_axis_share_a_panel_and_every_headline_has_a_plot(tmp_path: Path) -> None:
    clamped = GOLDEN_GATE["conditions"]["clamped"]
    at = {"condition": "clamped", "dose": 5}
    expectations = [
        {"id": "headline", "measurement": "mentions", "where": {**at, "split": "test"}, "min": 0.8},
        {"id": "headline-word", "measurement": "p_bridge", "where": {**at, "split": "dev"}, "min": 0.2},
    ]
    folder = golden_run(
        tmp_path,
        24,
        sweep={"dose": [0, 5]},
        conditions={"clamped": clamped, "elsewhere": {"interventions": clamped["interventions"]}},
        expectations=expectations,
        choose={},
    )
    analysis, run = analyse(folder), read_run(folder)
    plots = draw(run, find_focuses(run, analysis))
    assert [plot.name for plot in plots[:2]] == ["dose-response", "dose-response-p_bridge"]
    assert "8 prompts (split dev)" in plots[1].caption
    (together,) = (plot for plot in plots if plot.name == "conditions-dose")
    assert {"clamped", "elsewhere", "baseline"} <= set(words(together))


def test_a_verdict_for_each_value_is_about_all_of_them(tmp_path: Path) -> None:
    each = {"id": "headline", "measurement": "mentions", "where": {"condition": "clamped", "dose": 5}, "min": 0}
    folder = golden_run(
        tmp_path, 12, draws=1, sweep={"dose": [0, 5]}, expectations=[{**each, "each": "kind"}], choose={}
    )
    focuses = find_focuses(read_run(folder), analyse(folder))
    assert [focus.columns for focus in focuses] == [{}]
