"""The figures of an evaluation for people: Markdown tables, and one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def markdown(figures: Mapping[str, Any], labels: Sequence[str]) -> str:
    """The figures as Markdown tables."""
    accuracy, chunks = figures["track_accuracy"], figures["chunk_accuracy"]
    lines = [
        "| measure | value |",
        "|---|---|",
        f"| track accuracy | {accuracy['value']:.3f} (95 % interval {accuracy['low']:.3f} to {accuracy['high']:.3f}) |",
        f"| chunk accuracy | {chunks['value']:.3f} ({chunks['low']:.3f} to {chunks['high']:.3f}) |",
        f"| right genre among the best three | {figures['top3_accuracy']:.3f} |",
        f"| answer is the genre claimed first | {figures['first_label_accuracy']:.3f} |",
        f"| macro F1 | {figures['macro_f1']:.3f} |",
        f"| expected calibration error | {figures['calibration']['ece']:.3f} |",
        f"| tracks, artists, chunks | {figures['tracks']}, {figures['artists']}, {figures['chunks']} |",
    ]
    if "folds" in figures:
        folds = figures["folds"]
        each = ", ".join(f"{value:.3f}" for value in folds["track_accuracy"])
        lines.append(f"| track accuracy over folds | {folds['mean']:.3f} ± {folds['spread']:.3f} ({each}) |")
    if "unseen_artists" in figures:
        unseen = figures["unseen_artists"]
        lines.append(f"| of artists not trained on | {unseen['track_accuracy']:.3f} ({unseen['tracks']} tracks) |")
    if "several_claimed" in figures:
        several = figures["several_claimed"]
        lines.append(
            f"| several genres claimed: answer is one of them | {several['answer_among_them']:.3f} "
            f"({several['tracks']} tracks) |"
        )
        lines.append(f"| of these: second answer too | {several['second_answer_among_them']:.3f} |")
    second = figures["second_answers"]
    lines.append(
        f"| second answers, all tracks: right, calibration error | {second['right']:.3f}, "
        f"{second['calibration']['ece']:.3f} |"
    )
    for name, part in figures.get("by_folder", {}).items():
        lines.append(
            f"| track accuracy in {name} | {part['track_accuracy']:.3f} ({part['tracks']} tracks), in the best three "
            f"{part['top3_accuracy']:.3f}, the genre claimed first {part['first_label_accuracy']:.3f} |"
        )
    for name, row in figures.get("paired", {}).items():
        gain = row["difference"]
        lines.append(
            f"| against the other report, {name or 'all'} | {gain['value']:+.3f} (95 % interval {gain['low']:+.3f} to "
            f"{gain['high']:+.3f}): {row['track_accuracy']:.3f}, not {row['against']:.3f}, of {row['tracks']} tracks |"
        )
    if "background" in figures:
        background = figures["background"]
        lines.append(f"| music of other genres: tracks, AUC of the confidence of right answers against it | "
                     f"{background['tracks']}, {background['auc_right']:.3f} |")  # fmt: skip
    lines += [
        "",
        "| --min-confidence | answered | right of these | right answers kept | music of other genres written "
        "| a second answer too | right of these |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, further in zip(figures["coverage"], second["coverage"], strict=True):
        values = [*list(row.values())[1:], further["answered"], further["right_of_answered"]]
        cells = [f"{value:.2f}" if value is not None else "–" for value in values]
        lines.append(f"| {row['min_confidence']:g} | {' | '.join(cells)} |")
    lines += ["", "| genre | tracks | precision | recall | F1 |", "|---|---|---|---|---|"]
    for label, row in figures["per_genre"].items():
        lines.append(f"| {label} | {row['tracks']} | {row['precision']:.2f} | {row['recall']:.2f} | {row['f1']:.2f} |")
    lines += ["", f"| is \\ heard as | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
    for label, row in zip(labels, figures["confusion"], strict=True):
        lines.append(f"| {label} | {' | '.join(map(str, row))} |")
    return "\n".join(lines) + "\n"


def plot(figures: Mapping[str, Any], labels: Sequence[str], file: Any) -> None:
    """Confusion matrix and reliability curve as one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    counts = np.array(figures["confusion"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    left.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    left.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    left.set_yticks(range(len(labels)), labels)
    left.set(xlabel="heard as", ylabel="is", title=f"{figures['tracks']} tracks")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if shares[row, column] > 0.5 else "black"
            left.text(column, row, f"{count:.0f}", ha="center", va="center", color=shade, fontsize=8)
    curve = figures["calibration"]["curve"]
    right.plot([0, 1], [0, 1], color="grey", linestyle=":")
    right.plot([p["confidence"] for p in curve], [p["accuracy"] for p in curve], marker="o")
    for point in curve:
        right.annotate(str(point["tracks"]), (point["confidence"], point["accuracy"]), fontsize=8, ha="left", va="top")
    right.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of tracks that are right",
        title=f"calibration error {figures['calibration']['ece']:.3f}",
    )  # fmt: skip
    figure.savefig(file, dpi=110)
