"""Which next tokens an intervention made likelier and less likely."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from steer.analysis.tables import Run, select
from steer.report.figure import INK, MUTED, TARGET, Plot, new_figure, titled
from steer.report.focus import Focus, prompts_text
from steer.report.visible import shortened

LIKELIEST, MOVERS = 8, 7
DOWN = "#d55e00"


def shift_plot(run: Run, focus: Focus, shifts: pd.DataFrame) -> Plot | None:
    """Likeliest tokens before and after, and the largest movers each way, at the focus; None where none is recorded."""
    judged = select(run.prompts, focus.columns)["prompt_id"]
    rows = select(shifts, focus.where)
    rows = rows[rows["prompt_id"].isin(judged)]
    if rows.empty:
        return None
    tokens = by_token(main_position(rows))
    prompts = rows["prompt_id"].nunique()
    figure = new_figure(9.2, 4.6)
    left, right = figure.subplots(1, 2)
    _draw_likeliest(left, tokens, prompts)
    _draw_movers(right, tokens, prompts)
    at = ", ".join(
        f"{axis} {value:g}" if isinstance(value, float) else f"{axis} {value}" for axis, value in focus.point.items()
    )
    where = f"‘{focus.condition}’" + (f" at {at}" if at else "")
    text = (
        f"Means over the prompts in which the token was recorded, of {prompts_text(run, focus)}; "
        "per prompt: named targets, the likeliest five before and after, the largest movers."
    )
    return titled(figure, f"Which next tokens does {where} push up and down?", text, "logit-shifts")


def main_position(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each prompt only the position with most tokens recorded (the later of equals), so that places do not mix."""
    counts = rows.groupby(["prompt_id", "position"]).size().rename("count").reset_index()
    main = counts.sort_values(["count", "position"]).drop_duplicates("prompt_id", keep="last")
    return rows.merge(main[["prompt_id", "position"]], on=["prompt_id", "position"])


def by_token(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per token: means over the prompts it was recorded in, how many those are, and their share."""
    names = ["shift", "baseline_prob", "intervened_prob"]
    per_prompt = rows.groupby(["token_id", "token", "prompt_id"])[names].mean()
    tokens = per_prompt.groupby(["token_id", "token"]).agg(["mean", "size"])
    table = pd.DataFrame({name: tokens[name, "mean"] for name in names})
    table["prompts"] = tokens["shift", "size"]
    table["share"] = table["prompts"] / rows["prompt_id"].nunique()
    return table.reset_index()


def _draw_likeliest(axes: Axes, tokens: pd.DataFrame, prompts: int) -> None:
    """Probability before (hollow) and after (filled) of the tokens that are likeliest on either side."""
    weight = tokens[["baseline_prob", "intervened_prob"]].max(axis=1) * tokens["share"]
    shown = tokens.assign(weight=weight).nlargest(LIKELIEST, "weight").sort_values("intervened_prob", ascending=False)
    places = np.arange(len(shown))
    axes.hlines(places, shown["baseline_prob"], shown["intervened_prob"], color=MUTED, linewidth=1.5)
    axes.plot(shown["baseline_prob"], places, "D", color=INK, fillstyle="none", markersize=6, label="baseline")
    axes.plot(shown["intervened_prob"], places, "o", color=TARGET, markersize=7, label="with the intervention")
    _token_rows(axes, shown, prompts)
    axes.set_xlim(left=0)
    axes.set_title("likeliest next tokens", fontsize=10)
    axes.set_xlabel("probability")
    axes.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")


def _draw_movers(axes: Axes, tokens: pd.DataFrame, prompts: int) -> None:
    """Mean logit shift of the tokens that moved most, up and down; seldom recorded ones count for less."""
    weight = tokens["shift"] * tokens["share"]
    ranked = tokens.assign(weight=weight)
    up, down = (
        ranked[ranked["shift"] > 0].nlargest(MOVERS, "weight"),
        ranked[ranked["shift"] < 0].nsmallest(MOVERS, "weight"),
    )
    shown = pd.concat([up, down]).sort_values("shift", ascending=False)
    places = np.arange(len(shown))
    axes.barh(places, shown["shift"], color=np.where(shown["shift"] > 0, TARGET, DOWN), height=0.7)
    axes.axvline(0, color=MUTED, linewidth=1)
    _token_rows(axes, shown, prompts)
    axes.set_title("largest movers each way", fontsize=10)
    axes.set_xlabel("change of the logit (nats)")


def _token_rows(axes: Axes, shown: pd.DataFrame, prompts: int) -> None:
    labels = [_token_label(row, prompts) for _, row in shown.iterrows()]
    axes.set_yticks(range(len(shown)), labels=labels, fontsize=8.5)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(False, axis="y")


def _token_label(row: pd.Series, prompts: int) -> str:
    seen = "" if row["prompts"] == prompts else f" ({row['prompts']} of {prompts})"
    return f"“{shortened(str(row['token']), 18)}”{seen}"
