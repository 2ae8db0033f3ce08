"""The model card: what a bundle is, what it was made of, what it can and cannot do, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from model import bundle as bundles
from model.bundle import CARD, METRICS, Bundle, save_config
from model.evaluate import markdown

_LIMITS = """\
- It knows its labels and nothing else: every track gets one of them, music of other genres too. A low confidence is
  the only sign of that.
- The confidence of a track is calibrated for the mean vote on music like that of the training data; elsewhere it is a
  ranking, not a probability.
- Genres are what the sources of the labels meant by them. Pop, rock, disco and country overlap.
- It hears four seconds at a time: form, lyrics and history are beyond it.
"""


def write(bundle: Bundle, figures: Mapping[str, Any], *, measured_on: str) -> Bundle:
    """Give a bundle its figures: metrics.json, the temperature they were measured at, and MODEL_CARD.md."""
    updated = save_config(
        bundle.path,
        model_id=bundle.model_id,
        labels=bundle.labels,
        front_end=bundle.front_end,
        temperature=float(figures["temperature"]),
        provenance=bundle.provenance,
    )
    values = dict(figures) | {"measured_on": measured_on}
    (bundle.path / METRICS).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    (bundle.path / CARD).write_text(text(updated, figures, measured_on=measured_on), encoding="utf-8")
    return updated


def text(bundle: Bundle, figures: Mapping[str, Any], *, measured_on: str) -> str:
    """The card."""
    provenance, front_end = bundle.provenance, bundle.front_end
    recipe = provenance.get("recipe", {})
    size_mb = (bundle.path / bundles.MODEL).stat().st_size / 1e6
    lines = [
        f"# {bundle.model_id}",
        "",
        f"Hears {', '.join(bundle.labels)} in chunks of {front_end.chunk_s:g} s. "
        f"Fingerprint `{bundle.fingerprint}`, {size_mb:.1f} MB.",
        "",
        "## What it takes and gives",
        "",
        f"uint8 [batch, {front_end.chunk_frames}, {front_end.mel_bands}] log-Mel levels "
        f"({front_end.sample_rate_hz} Hz mono, FFT {front_end.n_fft}, hop {front_end.hop_length}, "
        f"{front_end.mel_bands} Slaney Mel bands, steps of {front_end.level_step_db:g} dB from "
        f"{front_end.level_floor_db:g} dB) to logits [batch, {len(bundle.labels)}]; "
        f"probabilities are softmax(logits / {bundle.temperature:g}). Gain makes no difference to it.",
        "",
        "## What it learned from",
        "",
        "| split | tracks | hours | of one genre | several claimed | unlabelled |",
        "|---|---|---|---|---|---|",
    ]
    for name, split in provenance.get("tracks", {}).items():
        lines.append(
            f"| {name} | {split['tracks']} | {split['hours']:.1f} | {sum(split['genres'].values())} | "
            f"{split['several']} | {split['unlabelled']} |"
        )
    lines += [
        "",
        f"Trained {provenance.get('trained', 'at an unknown date')} with Keras {provenance.get('keras', '?')} "
        f"on {provenance.get('backend', '?')}, seed {recipe.get('seed', '?')}, {recipe.get('epochs', '?')} epochs; "
        f"{len(provenance.get('teachers', []))} teachers. `config.json` holds the whole recipe.",
        "",
        "## How well it hears",
        "",
        f"Measured on {measured_on}. Figures are of whole tracks (mean vote of their chunks) unless they say so.",
        "",
        markdown(figures, bundle.labels),
        "## What to know before relying on it",
        "",
        _LIMITS,
    ]
    return "\n".join(lines)
