"""The model card: what a bundle is, what it was made of, what it can and cannot do, in Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from genrebeam.model import bundle as bundles
from genrebeam.model.bundle import CARD, METRICS, Bundle, save_config
from genrebeam.model.figures import markdown
from genrebeam.model.voting import Calibration

# What the words of our own bundles mean; how they are written into files stands in docs/models.md.
_MEANINGS = {
    "blues": "blues, from Delta to electric",
    "classical": "composed music of the concert hall and opera; orchestral film music",
    "country": "country, bluegrass, Americana",
    "disco": "disco of the seventies and what sounds like it",
    "electronic": "house, techno, drum and bass, synthesiser music for dancing or listening",
    "folk": "folk, singers with acoustic instruments",
    "hiphop": "hip hop, rap, trap",
    "jazz": "jazz, swing, bebop, vocal jazz",
    "latin": "salsa, bossa nova, reggaeton, tango and other music of Latin America",
    "metal": "metal of all kinds, hardcore",
    "newage": "new age and ambient",
    "pop": "pop",
    "reggae": "reggae, ska, dub, dancehall",
    "rnb": "soul, funk, R&B",
    "rock": "rock, punk, alternative, indie",
    "world": "traditional and film music of India, the Arab countries, Turkey, East Asia and others",
}

_LIMITS = """\
- It knows its labels and nothing else. How well it tells that something is of none of them, the table above says of
  what was measured there, be it music or not; of anything else nothing is known.
- The confidence of a track is calibrated for the mean vote on music like that of the training data; elsewhere it is a
  ranking, not a probability.
- Genres are what the sources of the labels meant by them. Pop, rock, disco and country overlap.
- It hears four seconds at a time: form, lyrics and history are beyond it.
"""


def _offsets(bundle: Bundle) -> str:
    offsets = zip(bundle.labels, bundle.calibration.genre_offsets, strict=False)
    each = ", ".join(f"{label} {offset:+.2f}" for label, offset in offsets)
    return f" What comes to the logits first, so that genres come in the right order: {each}." if each else ""


def _words(bundle: Bundle) -> list[str]:
    if not bundle.model_id.startswith("genrebeam-"):
        return []  # other people's words mean what they mean by them
    known = [f"| {label} | {_MEANINGS[label]} |" for label in bundle.labels if label in _MEANINGS]
    return ["## Its words", "", "| word | meaning |", "|---|---|", *known, ""]


def _also_learned(targets: Mapping[str, Any] | None) -> str:
    if not targets:
        return ""
    heads = ", ".join(f"{head} ({size})" for head, size in targets["heads"].items())
    return f" Beside the genres it learned to say: {heads}. {targets['note']}".rstrip(". ") + "."


def write(bundle: Bundle, figures: Mapping[str, Any], *, measured_on: str) -> Bundle:
    """Give a bundle its figures: metrics.json, the calibration they were measured at, and MODEL_CARD.md."""
    updated = save_config(dataclasses.replace(bundle, calibration=Calibration(**figures["calibrated"])))
    values = dict(figures) | {"measured_on": measured_on}
    (bundle.path / METRICS).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    (bundle.path / CARD).write_text(text(updated, figures, measured_on=measured_on), encoding="utf-8")
    return updated


def text(bundle: Bundle, figures: Mapping[str, Any], *, measured_on: str) -> str:
    """The card."""
    provenance, front_end, calibration = bundle.provenance, bundle.front_end, bundle.calibration
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
        f"uint8 [batch, segments, {front_end.chunk_step_frames}, {front_end.mel_bands}] log-Mel levels "
        f"({front_end.sample_rate_hz} Hz mono, FFT {front_end.n_fft}, hop {front_end.hop_length}, "
        f"{front_end.mel_bands} Slaney Mel bands, steps of {front_end.level_step_db:g} dB from "
        f"{front_end.level_floor_db:g} dB) to logits [batch, chunks, {len(bundle.labels) + 1}]: one for each genre, "
        "that it fits, and a last one, that none does. A genre's score is "
        f"sigmoid(logit / {calibration.temperature:g} + {calibration.offset:g}) times the probability that the music "
        f"is known; a track's is their mean, to the power {calibration.further:g} for all genres but the best; "
        f"from {calibration.unknown_threshold:g} on, the last score says that it is of none of these. "
        f"Gain makes no difference to the network.{_offsets(bundle)}",
        "",
        *_words(bundle),
        "## What it learned from",
        "",
        "| split | tracks | hours | of one genre | several claimed | unlabelled |",
        "|---|---|---|---|---|---|",
    ]
    init, first = provenance.get("init"), ""
    if init:
        first = (
            f"It started from the weights of {init['model_id']} (`{init['fingerprint']}`), whose tracks are "
            f"marked with a 1 above.{_also_learned(init['targets'])}"
        )
    learned = [(name, split) for name, split in provenance.get("tracks", {}).items()]
    learned += [(f"{name} (1)", split) for name, split in ((init or {}).get("tracks") or {}).items()]
    for name, split in learned:
        lines.append(
            f"| {name} | {split['tracks']} | {split['hours']:.1f} | {sum(split['genres'].values())} | "
            f"{split['several']} | {split['unlabelled']} |"
        )
    lines += [
        "",
        f"Trained {provenance.get('trained', 'at an unknown date')} with Keras {provenance.get('keras', '?')} "
        f"on {provenance.get('backend', '?')}, seed {recipe.get('seed', '?')}, {recipe.get('epochs', '?')} epochs. "
        "`config.json` holds the whole recipe." + _also_learned(provenance.get("targets")),
        *([first] if first else []),
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
