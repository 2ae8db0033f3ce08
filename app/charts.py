"""Numbers as Altair charts: one blue, which greyscale and the colour-blind keep, and no network needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from genrebeam.features.errors import UsageError
from genrebeam.model.bundle import METRICS, Bundle

_BLUE, _GREY = "#0072B2", "#767676"


def figures_of(bundle: Bundle) -> dict[str, Any]:
    """The metrics.json of a bundle; raises UsageError where it is missing or incomplete."""
    file = bundle.path / METRICS
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
        for name in ("tracks", "track_accuracy", "top3_accuracy", "macro_f1", "per_genre", "confusion", "calibration"):
            figures[name]
    except FileNotFoundError:
        raise UsageError(
            f"{bundle.model_id} has not been measured: `genrebeam evaluate {bundle.path} SHARDS --output REPORT "
            f"--card {bundle.path}` does that"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: cannot be read ({type(error).__name__}); evaluate the bundle again") from error
    return dict(figures)


def bars(counts: Mapping[str, int], *, name: str, value: str = "tracks") -> alt.Chart:
    """Horizontal bars in the order given."""
    rows = [{name: key, value: count} for key, count in counts.items()]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(color=_BLUE)
        .encode(
            x=alt.X(f"{value}:Q", axis=alt.Axis(tickMinStep=1, format="~s")),
            y=alt.Y(f"{name}:N", sort=None, title=None),
            tooltip=[f"{name}:N", alt.Tooltip(f"{value}:Q", format=",")],
        )
        .properties(height={"step": 22})
    )


def histogram(counts: Sequence[int]) -> alt.Chart:
    """Tracks by confidence, in bins of equal width from 0 to 1."""
    width = 1 / len(counts)
    rows = [{"from": i * width, "to": (i + 1) * width, "tracks": count} for i, count in enumerate(counts)]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(color=_BLUE, stroke="white")
        .encode(
            x=alt.X("from:Q", title="confidence", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
            x2="to:Q",
            y2=alt.datum(0),
            y=alt.Y("tracks:Q", axis=alt.Axis(tickMinStep=1, format="~s")),
            tooltip=[alt.Tooltip("from:Q", format=".0%"), alt.Tooltip("tracks:Q", format=",")],
        )
        .properties(height=260)
    )


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> alt.LayerChart:
    """Rows are what it was, columns what was heard; in per cent of the row."""
    rows = []
    for truth, counts in zip(labels, matrix, strict=False):
        total = sum(counts) or 1
        rows += [
            {"it was": truth, "heard": heard, "tracks": count, "share": count / total}
            for heard, count in zip(labels, counts, strict=False)
        ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("heard:N", sort=None, axis=alt.Axis(orient="top", labelAngle=-45)), y=alt.Y("it was:N", sort=None)
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "share:Q", scale=alt.Scale(range=["white", _BLUE], domain=[0, 1], interpolate="rgb"), legend=None
        ),
        tooltip=["it was:N", "heard:N", "tracks:Q", alt.Tooltip("share:Q", format=".0%")],
    )
    text = (
        base.transform_filter("datum.share >= 0.005")
        .mark_text()
        .encode(
            text=alt.Text("share:Q", format=".0%"),
            color=alt.condition("datum.share > 0.7", alt.value("white"), alt.value("black")),
        )
    )
    return (cells + text).properties(height={"step": 34})


def calibration(curve: Sequence[Mapping[str, float]]) -> alt.LayerChart:
    """How often the model is right where it is so sure; on the dashed line it is as sure as it should be."""
    axis = alt.Axis(format="%")
    scale = alt.Scale(domain=[0, 1])
    points = (
        alt.Chart(alt.Data(values=[dict(point) for point in curve]))
        .mark_line(point=True, color=_BLUE)
        .encode(
            x=alt.X("confidence:Q", scale=scale, axis=axis),
            y=alt.Y("accuracy:Q", title="right", scale=scale, axis=axis),
            tooltip=[
                alt.Tooltip("confidence:Q", format=".0%"),
                alt.Tooltip("accuracy:Q", format=".0%"),
                alt.Tooltip("tracks:Q", format=","),
            ],
        )
    )
    diagonal = (
        alt.Chart(alt.Data(values=[{"confidence": share, "accuracy": share} for share in (0, 1)]))
        .mark_line(strokeDash=[4, 4], color=_GREY)
        .encode(x="confidence:Q", y=alt.Y("accuracy:Q", title="right"))
    )
    return (diagonal + points).properties(height=320)
