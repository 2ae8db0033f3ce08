"""Training: from a folder of shards to a model bundle. What a batch is, model/dataset.py says.

Runs that are killed go on where they were, at the last whole epoch, to the same weights.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import hashlib
import importlib.util
import itertools
import json
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import BundleError, UsageError
from genrebeam.features.ranges import check_range
from genrebeam.model import bundle as bundles
from genrebeam.model import dataset, shardset
from genrebeam.model.augment import Augmentation
from genrebeam.model.bundle import Bundle
from genrebeam.model.calibration import ScoredTrack, fit
from genrebeam.model.embedding import Projection, fit_projection
from genrebeam.model.network import MEMBERS, Network, build_cnn, with_knowledge
from genrebeam.model.shardset import ShardSet
from genrebeam.model.splits import fold_of
from genrebeam.model.targets import GENRES, Targets, claimed_vector
from genrebeam.model.voting import UNCALIBRATED, Calibration

logger = logging.getLogger(__name__)

_NONE = np.zeros(1)
_COMPARED = 100  # tracks that the exported network is compared on with the trained one


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The recipe. Defaults are the shipped model's; docs/models.md says how they were chosen.

    Attributes:
        splits: what is trained on.
        valid_split: what is watched, and what the calibration is fitted on; None to train on everything.
        fold: (k, n): hold out fold k of n of the groups of `splits`, and watch that instead of `valid_split`.
        epochs: passes over the tracks, `crops_per_track` crops of each.
        learning_rate: at the peak, after a warm-up of the first fifteenth; falls along a cosine to a hundredth.
        weight_decay: of AdamW, on kernels only.
        label_smoothing: how far from 0 and 1 the targets of a genre stay.
        rarity: rare genres count more, by this power of their rarity; 0 for no difference.
        numbers_weight: weight of each further head of numbers (model/targets.py) against that of the genres.
        ema: momentum of the average of the weights over the last steps, which is what is saved; less in trainings of
            under 2,000 steps, where it spans a tenth of them.
        patience: stop after so many epochs without a better validation loss; 0 never stops early. The
            rate falls along a cosine, so the last epochs are normally the best.
    """

    splits: tuple[str, ...] = ("train",)
    valid_split: str | None = "valid"
    fold: tuple[int, int] | None = None
    epochs: int = 48
    batch_size: int = 128
    crops_per_track: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.02
    rarity: float = 0.75
    numbers_weight: float = 1.0
    ema: float = 0.995
    patience: int = 0
    seed: int = 0
    widths: tuple[int, ...] = (32, 64, 128, 192, 192)
    hidden: int = 256
    dropout: float = 0.3
    floor_db: float = 80.0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "crops_per_track", "learning_rate"):
            check_range(name, getattr(self, name), above=0, error=ValueError)
        for name in ("label_smoothing", "rarity", "ema", "dropout"):
            check_range(name, getattr(self, name), low=0, high=1, error=ValueError)
        if self.fold is not None and not 0 <= self.fold[0] < self.fold[1]:
            raise ValueError(f"fold {self.fold[0]} of {self.fold[1]}: folds count from 0")


def train(
    shards: ShardSet,
    output: str | os.PathLike[str],
    config: TrainConfig,
    *,
    model_id: str,
    init: Bundle | None = None,
    targets: Targets | None = None,
    tensorboard: str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Bundle:
    """Train a network and save its bundle. Interrupted and called again, it goes on from `output`/training.

    Args:
        init: start from this bundle's weights; the last layer is new where the labels differ.
        targets: what else the network shall say. Each head of words becomes a bundle of its own, in `output`/HEAD,
            unless it only teaches.
        tensorboard: folder for TensorBoard's logs.
        callbacks: further Keras callbacks, such as a progress bar.

    Raises:
        UsageError: a split there is not, no labelled tracks, another run's checkpoint in the way; `init`, or the
            network that made the targets, has heard the tracks that are held out.
        BundleError: `init` was made for another front end.
    """
    folder = Path(output)
    if init is not None:
        _must_not_have_heard(init, shards, config)
    keras.utils.set_random_seed(config.seed + 1)
    survey = _survey(shards, config, targets)
    network = _network(shards, config, init, targets)
    steps = _steps(shards, config, survey)
    _compile(network.members, config, steps, targets)
    checkpoints = folder / "training"
    first_epoch = _epochs_done(checkpoints, _recipe(shards, config, init, targets))
    logger.info("%d tracks, %d steps in each of %d epochs", survey.usable, steps, config.epochs)
    batches = dataset.training_batches(
        shards,
        config.splits,
        survey.claims,
        settings=config.augmentation,
        batch_size=config.batch_size,
        crops_per_track=config.crops_per_track,
        seed=config.seed,
        epochs=range(first_epoch, config.epochs),
        targets=targets,
    )
    watched = [(track.log_mel, track.words[GENRES]) for track in survey.watched if track.words.get(GENRES, _NONE).any()]
    validation = dataset.chunk_batches(watched, shards.front_end, 256, targets) if watched else None
    network.members.fit(
        batches,
        steps_per_epoch=steps,
        initial_epoch=first_epoch,
        epochs=config.epochs,
        validation_data=validation,
        verbose=0,
        shuffle=False,  # the batches are shuffled already
        callbacks=[*_callbacks(folder, config, bool(watched), tensorboard), *callbacks],
    )
    provenance = _provenance(shards, config, init, targets)
    embedding = fit_embedding(network.model, shards, config.splits, survey.claims.held_out)
    music = [features.log_mel for features, _ in itertools.islice(shardset.read(shards, config.splits), _COMPARED)]
    saved = {}
    for head, labels in {GENRES: shards.labels, **(targets.bundled if targets else {})}.items():
        model = _alone(network, head, labels, shards, config)
        saved[head] = bundles.save(
            folder if head == GENRES else folder / head,
            model,
            model_id=model_id if head == GENRES else f"{model_id}-{head}",
            labels=labels,
            front_end=shards.front_end,
            calibration=_fit(model, survey.watched, shards.front_end, head, len(labels)),
            provenance=provenance,
            embedding=embedding,
            music=music,
        )
    for leftover in checkpoints.glob("*"):
        leftover.unlink()
    checkpoints.rmdir()
    return saved[GENRES]


def fit_embedding(
    network: keras.Model, shards: ShardSet, splits: Sequence[str], held_out: Collection[str] = ()
) -> tuple[Projection, float]:
    """What an embedding is to a network: fitted on the tracks of some splits, labelled or not.

    Args:
        network: as for `genrebeam.model.network.with_knowledge`.
        held_out: groups of tracks to leave out.

    Returns:
        As `genrebeam.model.embedding.fit_projection`.
    """
    knowing = keras.Model(network.input, with_knowledge(network).outputs[1])
    known = [
        dataset.chunk_logits(knowing, features.log_mel, shards.front_end).mean(axis=0)
        for features, labels in shardset.read(shards, splits)
        if labels.group not in held_out
    ]
    return fit_projection(np.stack(known))


def words_loss(smoothing: float) -> Callable[[Any, Any], Any]:
    """The loss over targets of `dataset.pack_words`: float [batch, chunks].

    Each word, and "none of these", applies or does not, whatever the others do: binary cross-entropy, its targets
    `smoothing` away from 0 and 1. Every member (logits float [batch, chunks, members, words + 1]) owes it on its own. A
    blend owes each of its two crops their share.
    """
    ops = keras.ops

    def loss(targets: Any, logits: Any) -> Any:
        words = logits.shape[-1]
        total = 0.0
        for start in (0, words + 1):
            claimed = targets[:, None, None, start : start + words] * (1 - 2 * smoothing) + smoothing
            weight = targets[:, None, start + words]
            # The stable form of binary cross-entropy from logits.
            each = ops.relu(logits) - logits * claimed + ops.log1p(ops.exp(-ops.abs(logits)))
            total = total + weight * ops.sum(each, axis=(-2, -1))
        return total

    return loss


def numbers_loss(targets: Any, predicted: Any) -> Any:
    """The loss over targets of `dataset.pack_numbers`: the mean squared error of all members, float [batch, chunks]."""
    ops = keras.ops
    true, known = targets[:, None, None, :-1], targets[:, None, -1]
    return known * ops.sum(ops.mean(ops.square(predicted - true), axis=-1), axis=-1)


def chunk_accuracy(targets: Any, logits: Any) -> Any:
    """1 for each chunk whose best genre, by all members together, is among the claimed ones: float [batch, chunks]."""
    genres = logits.shape[-1] - 1
    together = keras.ops.mean(logits[..., :genres], axis=2)
    best = keras.ops.one_hot(keras.ops.argmax(together, axis=-1), genres)
    return keras.ops.sum(keras.ops.where(targets[:, None, :genres] > 0, best, 0.0), axis=-1)


class History(keras.callbacks.Callback):
    """Appends each epoch's figures to a CSV file; a resumed run goes on with it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {"epoch": epoch + 1} | {name: f"{float(value):.5f}" for name, value in (logs or {}).items()}
        with self._file.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(row))
            if stream.tell() == 0:
                writer.writeheader()
            writer.writerow(row)


class DropoutByEpoch(keras.callbacks.Callback):
    """Makes dropout a function of seed and epoch. Keras keeps the state of its generators out of checkpoints."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for index, layer in enumerate(self.model.layers):
            if isinstance(layer, keras.layers.Dropout):
                layer.seed_generator.state.assign([self._seed * 1000 + index, epoch])


@dataclasses.dataclass(frozen=True, eq=False)
class _Watched:
    """A held-out track: its log-Mel, and by head of words what is claimed of it, float32 [words]."""

    log_mel: np.ndarray
    words: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Survey:
    """What lies in the shards: what to watch, what to believe, and how many tracks there are to learn from."""

    watched: list[_Watched]
    claims: dataset.Claims
    usable: int


def _survey(shards: ShardSet, config: TrainConfig, targets: Targets | None) -> _Survey:
    """Count the training tracks of each word; keep the held-out ones.

    Raises:
        UsageError: a genre without a track to learn from; targets by somebody who knows the labels of held-out tracks.
    """
    rows = {track_id: row for row, track_id in enumerate(targets.track_ids)} if targets else {}
    vocabulary = {GENRES: shards.labels, **(targets.words if targets else {})}
    held_out: set[str] = set()
    counts = {head: np.zeros(len(labels) + 1) for head, labels in vocabulary.items()}
    watched, heard_of, usable = [], [], 0
    splits = dict.fromkeys((*config.splits, *([config.valid_split] if config.valid_split and not config.fold else [])))
    for split in splits:
        for features, claim in shardset.read(shards, [split]):
            track_id = features.track.track_id
            row = rows.get(track_id)
            words = (
                {head: values[row] for head, values in targets.claims.items()} if targets and row is not None else {}
            )
            if claim.genres:
                words[GENRES] = claimed_vector(claim.genres, shards.labels)
            fold = config.fold is not None and fold_of(claim.group, config.fold[1]) == config.fold[0]
            if fold or split not in config.splits:
                held_out |= {claim.group} if fold else set()
                heard_of += [track_id] if targets and track_id in targets.trained_on else []
                if words:
                    watched.append(_Watched(features.log_mel, words))
                continue
            usable += bool(words) or row is not None
            for head, claimed in words.items():
                if np.isfinite(claimed).all():
                    counts[head] += [*(claimed / max(claimed.sum(), 1)), float(not claimed.any())]
    if heard_of:
        raise UsageError(
            f"--targets: the network that made them was trained on {len(heard_of)} tracks that are held out, such as "
            f"{heard_of[0]}; nothing could be measured on those"
        )
    for head, labels in {GENRES: shards.labels, **(targets.bundled if targets else {})}.items():
        missing = [label for label, count in zip(labels, counts[head], strict=False) if not count]
        if missing:
            raise UsageError(f"{shards.path}: no track left to learn {', '.join(missing)} from")
    weights = {}
    for head, count in counts.items():
        rarity = np.maximum(count, 1.0) ** -config.rarity
        weights[head] = tuple(map(float, rarity * count.sum() / (rarity * count).sum()))
    return _Survey(watched, dataset.Claims(shards.labels, weights, frozenset(held_out)), usable)


def _network(shards: ShardSet, config: TrainConfig, init: Bundle | None, targets: Targets | None) -> Network:
    network = _build(shards, config, shards.labels, targets.sizes if targets else {})
    if init is None:
        return network
    if init.front_end != shards.front_end:
        raise BundleError(f"{init.path}: another front end: {init.front_end.differences(shards.front_end)}")
    sources = {layer.name: layer for layer in bundles.load_model(init).layers}
    heads = [f"{member}_{head}" for member in MEMBERS for head in (targets.sizes if targets else ())]
    if init.labels != shards.labels:
        heads += [f"{member}_{GENRES}" for member in MEMBERS]
    for layer in network.members.layers:
        if layer.name in heads or not layer.weights:
            continue
        try:
            layer.set_weights(sources[layer.name].get_weights())
        except (KeyError, ValueError) as error:
            raise BundleError(
                f"{init.path}: layer {layer.name} is missing there or has another shape; it is of another architecture"
            ) from error
    return network


def _build(shards: ShardSet, config: TrainConfig, labels: tuple[str, ...], heads: Mapping[str, int]) -> Network:
    return build_cnn(
        shards.front_end,
        labels,
        heads=heads,
        widths=config.widths,
        hidden=config.hidden,
        dropout=config.dropout,
        floor_db=config.floor_db,
    )


def _alone(network: Network, head: str, labels: tuple[str, ...], shards: ShardSet, config: TrainConfig) -> keras.Model:
    """A network that knows these labels and nothing else, its layers named as in every bundle."""
    model = _build(shards, config, labels, {}).model
    for layer in model.layers:
        if layer.weights:
            source = layer.name.replace(f"_{GENRES}", f"_{head}")
            layer.set_weights(network.members.get_layer(source).get_weights())
    return model


def _steps(shards: ShardSet, config: TrainConfig, survey: _Survey) -> int:
    """Whole batches in one epoch."""
    steps = survey.usable * config.crops_per_track // config.batch_size
    if steps == 0:
        raise UsageError(
            f"{shards.path}: {survey.usable} tracks x {config.crops_per_track} crops do not fill one batch of "
            f"{config.batch_size}; lower --batch-size"
        )
    return steps


def _compile(network: keras.Model, config: TrainConfig, steps: int, targets: Targets | None) -> None:
    total = steps * config.epochs
    warm_up = max(1, total // 15)
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20,
        max(1, total - warm_up),
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=warm_up,
    )
    # An average that reaches back beyond the start of a short training would mostly be of what was not learned yet.
    momentum = min(config.ema, max(0.0, 1 - 10 / total))
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=config.weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=momentum
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    words, numbers = ((targets.words, targets.numbers) if targets else ({}, {}))  # fmt: skip
    network.compile(
        optimizer,
        loss={head: words_loss(config.label_smoothing) for head in (GENRES, *words)}
        | dict.fromkeys(numbers, numbers_loss),
        loss_weights=dict.fromkeys((GENRES, *words), 1.0) | dict.fromkeys(numbers, config.numbers_weight),
        metrics={GENRES: [chunk_accuracy]},
    )


def _callbacks(
    folder: Path, config: TrainConfig, watched: bool, tensorboard: str | None
) -> list[keras.callbacks.Callback]:
    found: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN(), DropoutByEpoch(config.seed)]
    if watched:
        found.append(keras.callbacks.SwapEMAWeights())  # validate what will be saved
    if config.patience and watched:
        found.append(keras.callbacks.EarlyStopping("val_loss", patience=config.patience))
    if tensorboard is not None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UsageError("--tensorboard needs the package: pip install tensorboard")
        found.append(keras.callbacks.TensorBoard(tensorboard, write_graph=False))
    found.append(History(folder / "history.csv"))
    # double_checkpoint: a kill in the middle of writing one leaves the one before.
    found.append(keras.callbacks.BackupAndRestore(folder / "training", double_checkpoint=True, delete_checkpoint=False))
    return found


def _must_not_have_heard(bundle: Bundle, shards: ShardSet, config: TrainConfig) -> None:
    """Knowledge of the held-out tracks must not come in through another network: figures on them would mean nothing."""
    recipe = bundle.provenance.get("recipe", {})
    if bundle.provenance.get("shards") != shards.fingerprint:
        return
    if config.fold is not None:
        if tuple(recipe.get("fold") or ()) != config.fold:
            fold = "{}/{}".format(*config.fold)
            raise UsageError(
                f"{bundle.path}: has heard tracks of fold {fold}; give a bundle trained with --fold {fold}"
            )
    elif config.valid_split in recipe.get("splits", ()):
        raise UsageError(
            f"{bundle.path}: has heard the split {config.valid_split}, on which nothing could be measured then; "
            "give a bundle trained without it, or another --valid-split ('' for none)"
        )


def _fit(model: keras.Model, watched: Sequence[_Watched], front_end: FrontEnd, head: str, genres: int) -> Calibration:
    """What the held-out tracks say of it; without any, logits are taken as they are."""
    heard = [
        ScoredTrack(
            "", "", tuple(np.flatnonzero(track.words[head])), dataset.chunk_logits(model, track.log_mel, front_end)
        )
        for track in watched
        if head in track.words and np.isfinite(track.words[head]).all()
    ]
    return fit(heard, genres) if any(track.claimed for track in heard) else UNCALIBRATED


def _recipe(shards: ShardSet, config: TrainConfig, init: Bundle | None, targets: Targets | None) -> str:
    """What a checkpoint belongs to."""
    parts = [shards.fingerprint, repr(config), init and init.fingerprint, targets and targets.fingerprint]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _epochs_done(checkpoints: Path, recipe: str) -> int:
    """How many epochs an interrupted run of the same recipe has behind it."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    marker, state = checkpoints / "recipe", checkpoints / "training_metadata.json"
    if marker.is_file() and marker.read_text() != recipe:
        raise UsageError(
            f"{checkpoints.parent}: holds an unfinished training run of other shards or settings; "
            "finish it with those, or give another --output"
        )
    marker.write_text(recipe)
    if not state.is_file():
        (checkpoints.parent / "history.csv").unlink(missing_ok=True)
        return 0
    return int(json.loads(state.read_text())["epoch"])


def _provenance(shards: ShardSet, config: TrainConfig, init: Bundle | None, targets: Targets | None) -> dict[str, Any]:
    return {
        "trained": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "recipe": dataclasses.asdict(config),
        "shards": shards.fingerprint,
        "tracks": {split: dataclasses.asdict(shards.splits[split]) for split in config.splits},
        "init": init
        and {
            "model_id": init.model_id,
            "fingerprint": init.fingerprint,
            **{name: init.provenance.get(name) for name in ("tracks", "targets", "init")},
        },
        "targets": targets and {"fingerprint": targets.fingerprint, "heads": targets.sizes, "note": targets.note},
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }
