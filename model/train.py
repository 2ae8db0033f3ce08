"""Training: from a folder of shards to a model bundle. What a batch is, model/dataset.py says.

Runs that are killed go on where they were, at the last whole epoch, to the same weights.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import datetime as dt
import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from features.errors import BundleError, UsageError
from model import bundle as bundles
from model import dataset, shardset
from model.augment import Augmentation
from model.bundle import Bundle
from model.network import MEMBERS, build_cnn
from model.shardset import ShardSet
from model.splits import fold_of

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The recipe. Defaults are the shipped model's; docs/experiments.md says how they were chosen.

    Attributes:
        splits: what is trained on.
        valid_split: what is watched, and what the temperature is fitted on; None to train on everything.
        fold: (k, n): hold out fold k of n of the groups of `splits`, and watch that instead of `valid_split`.
        epochs: passes over the tracks, `crops_per_track` crops of each.
        learning_rate: at the peak, after a warm-up of the first fifteenth; falls along a cosine to a hundredth.
        weight_decay: of AdamW, on kernels only.
        label_smoothing: share of the target spread over all genres.
        several_weight: weight of a track of which several genres are claimed (one of them is meant).
        ema: momentum of the average of the weights over the last steps, which is what is saved.
        teacher_share: share of the loss that asks to agree with the teachers, where there are some.
        patience: stop after so many epochs without a better validation loss; 0 never stops early. The
            rate falls along a cosine, so the last epochs are normally the best.
        temperature: of the bundle, where nothing is watched that it could be fitted on.
    """

    splits: tuple[str, ...] = ("train",)
    valid_split: str | None = "valid"
    fold: tuple[int, int] | None = None
    epochs: int = 18
    batch_size: int = 128
    crops_per_track: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    several_weight: float = 0.5
    ema: float = 0.995
    teacher_share: float = 0.7
    patience: int = 0
    temperature: float = 1.0
    seed: int = 0
    widths: tuple[int, ...] = (24, 48, 96, 128, 128)
    hidden: int = 256
    dropout: float = 0.3
    floor_db: float = 80.0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "crops_per_track", "learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("label_smoothing", "several_weight", "ema", "teacher_share", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, not {getattr(self, name)}")
        if self.fold is not None and not 0 <= self.fold[0] < self.fold[1]:
            raise ValueError(f"fold {self.fold[0]} of {self.fold[1]}: folds count from 0")


def train(
    shards: ShardSet,
    output: str | os.PathLike[str],
    config: TrainConfig,
    *,
    model_id: str,
    init: Bundle | None = None,
    teachers: Sequence[Bundle] = (),
    tensorboard: str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Bundle:
    """Train a network and save its bundle. Interrupted and called again, it goes on from `output`/training.

    Args:
        init: start from this bundle's weights; the last layer is new where the labels differ.
        teachers: bundles whose mean opinion the network also learns (distillation), of unlabelled tracks too.
        tensorboard: folder for TensorBoard's logs.
        callbacks: further Keras callbacks, such as a progress bar.

    Raises:
        UsageError: a split there is not, no labelled tracks, another run's checkpoint in the way; `init` or a teacher
            has heard the tracks that are held out.
        BundleError: `init` or a teacher was made for another front end.
    """
    folder = Path(output)
    for bundle in (init, *teachers):
        if bundle is not None:
            _must_not_have_heard(bundle, shards, config)
    # Never 0: TensorFlow cannot combine a global seed of 0 with tf.data seeds that are tensors (the epoch).
    keras.utils.set_random_seed(config.seed + 1)
    watched, claims = _survey(shards, config)
    network = _network(shards, config, init)
    tracks = shards.tracks(config.splits)
    steps = _steps(shards, config, claims, teachers)
    trainee = _members(network)
    _compile(trainee, config, steps)
    checkpoints = folder / "training"
    first_epoch = _epochs_done(checkpoints, _recipe(shards, config, init, teachers))
    logger.info("%d tracks, %d steps in each of %d epochs", tracks, steps, config.epochs)
    batches = dataset.training_batches(
        shards,
        config.splits,
        claims,
        settings=config.augmentation,
        batch_size=config.batch_size,
        crops_per_track=config.crops_per_track,
        seed=config.seed,
        epochs=range(first_epoch, config.epochs),
        teacher=_teacher(shards, teachers) if teachers else None,
    )
    validation = dataset.chunk_batches(watched, shards.front_end, 256) if watched else None
    trainee.fit(
        batches,
        steps_per_epoch=steps,
        initial_epoch=first_epoch,
        epochs=config.epochs,
        validation_data=validation,
        verbose=0,
        shuffle=False,  # the batches are shuffled already
        callbacks=[*_callbacks(folder, config, bool(watched), tensorboard), *callbacks],
    )
    temperature = _temperature(network, watched, shards) if watched else config.temperature
    saved = bundles.save(
        folder,
        network,
        model_id=model_id,
        labels=shards.labels,
        front_end=shards.front_end,
        temperature=temperature,
        provenance=_provenance(shards, config, init, teachers),
    )
    for leftover in checkpoints.glob("*"):
        leftover.unlink()
    checkpoints.rmdir()
    return saved


def claims_loss(smoothing: float, teacher_share: float) -> Callable[[Any, Any], Any]:
    """The loss over targets of `dataset.pack`: float [batch].

    Of several claimed genres one is meant, and which is left to the network: -log of the sum of their
    probabilities (the classifier-consistent loss for partial labels; Jin & Ghahramani 2002). With one claimed
    genre that is cross-entropy. A blend owes each of its two crops their share. Every member of the network
    (logits float [batch, members, genres]) owes it on its own; their losses add up.
    """
    ops = keras.ops

    def loss(targets: Any, logits: Any) -> Any:
        genres = logits.shape[-1]
        targets = targets[:, None]
        claimed, partner, opinion = (targets[..., i * genres : (i + 1) * genres] for i in range(3))
        share = targets[..., 3 * genres]
        log_p = ops.log_softmax(logits, axis=-1)
        uniform = -ops.mean(log_p, axis=-1)

        def against(mask: Any) -> Any:
            # The small number stands for minus infinity: exp(log_p + log 1e-9) vanishes beside any claimed genre.
            partial = -ops.logsumexp(log_p + ops.log(mask + 1e-9), axis=-1)
            known = ops.cast(ops.any(mask > 0, axis=-1), log_p.dtype)
            return known * ((1 - smoothing) * partial + smoothing * uniform), known

        (own, own_known), (other, other_known) = against(claimed), against(partner)
        by_claims = share * own + (1 - share) * other
        known = share * own_known + (1 - share) * other_known
        taught = ops.sum(opinion, axis=-1)
        by_teacher = -ops.sum(opinion * log_p, axis=-1)
        # Where nothing is claimed, the teacher's word is all there is.
        trust = taught * (1 - known * (1 - teacher_share))
        each = ops.where(known > 0, by_claims * (1 - taught * teacher_share), 0.0) + trust * by_teacher
        return ops.sum(each, axis=-1)

    return loss


def chunk_accuracy(targets: Any, logits: Any) -> Any:
    """1 for each chunk whose best genre, by all members together, is among the claimed ones."""
    genres = logits.shape[-1]
    together = keras.ops.mean(keras.ops.log_softmax(logits, axis=-1), axis=1)
    best = keras.ops.one_hot(keras.ops.argmax(together, axis=-1), genres)
    return keras.ops.sum(best * targets[:, :genres], axis=-1)


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


def _survey(shards: ShardSet, config: TrainConfig) -> tuple[list[tuple[np.ndarray, np.ndarray]], dataset.Claims]:
    """The tracks to watch, and how much each genre counts: rare genres more, by the square root of their rarity."""
    missing = set(shards.labels) - {g for s in config.splits if s in shards.splits for g in shards.splits[s].genres}
    if missing:
        raise UsageError(f"{shards.path}: no track of {', '.join(sorted(missing))} in {', '.join(config.splits)}")
    held_out: set[str] = set()
    counts: collections.Counter[str] = collections.Counter()
    watched = []
    for features, claim in shardset.read(shards, config.splits):
        held = config.fold is not None and fold_of(claim.group, config.fold[1]) == config.fold[0]
        if held:
            held_out.add(claim.group)
        if len(claim.genres) == 1:
            if held:
                watched.append((features.log_mel, dataset.claimed_vector(claim.genres, shards.labels)))
            else:
                counts[claim.genres[0]] += 1
    if config.fold is None and config.valid_split is not None:
        watched = [
            (features.log_mel, dataset.claimed_vector(claim.genres, shards.labels))
            for features, claim in shardset.read(shards, [config.valid_split])
            if len(claim.genres) == 1
        ]
    if not all(counts[label] for label in shards.labels):
        raise UsageError(f"{shards.path}: a genre has no track left to train on: {dict(counts)}")
    rarity = np.array([counts[label] ** -0.5 for label in shards.labels])
    weights = rarity * sum(counts.values()) / sum(r * counts[g] for r, g in zip(rarity, shards.labels, strict=True))
    return watched, dataset.Claims(
        shards.labels, tuple(map(float, weights)), config.several_weight, frozenset(held_out)
    )


def _network(shards: ShardSet, config: TrainConfig, init: Bundle | None) -> keras.Model:
    network = build_cnn(
        shards.front_end,
        shards.labels,
        widths=config.widths,
        hidden=config.hidden,
        dropout=config.dropout,
        floor_db=config.floor_db,
    )
    if init is None:
        return network
    _same_front_end(shards, init)
    sources = {layer.name: layer for layer in bundles.load_model(init).layers}
    for layer in network.layers:
        if layer.name in MEMBERS and init.labels != shards.labels:
            continue
        try:
            layer.set_weights(sources[layer.name].get_weights())
        except (KeyError, ValueError) as error:
            raise BundleError(
                f"{init.path}: layer {layer.name} is missing there or has another shape; it is of another architecture"
            ) from error
    return network


def _members(network: keras.Model) -> keras.Model:
    """The same network, answering with each member's logits, [batch, members, genres]: what training looks at."""
    return keras.Model(network.input, keras.ops.stack([network.get_layer(name).output for name in MEMBERS], axis=1))


def _steps(shards: ShardSet, config: TrainConfig, claims: dataset.Claims, teachers: Sequence[Bundle]) -> int:
    """Whole batches in one epoch."""
    usable = sum(
        1
        for _, claim in shardset.read(shards, config.splits)
        if claim.group not in claims.held_out and (teachers or set(claim.genres) & set(shards.labels))
    )
    steps = usable * config.crops_per_track // config.batch_size
    if steps == 0:
        raise UsageError(
            f"{shards.path}: {usable} tracks x {config.crops_per_track} crops do not fill one batch of "
            f"{config.batch_size}; lower --batch-size"
        )
    return steps


def _compile(network: keras.Model, config: TrainConfig, steps: int) -> None:
    total = steps * config.epochs
    warm_up = max(1, total // 15)
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20,
        max(1, total - warm_up),
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=warm_up,
    )
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=config.weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=config.ema
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    network.compile(
        optimizer,
        loss=claims_loss(config.label_smoothing, config.teacher_share),
        weighted_metrics=[],
        metrics=[chunk_accuracy],
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


def _teacher(shards: ShardSet, teachers: Sequence[Bundle]) -> dataset.Teacher:
    """The mean of the teachers' probabilities."""
    import tensorflow as tf

    for teacher in teachers:
        _same_front_end(shards, teacher)
        if teacher.labels != shards.labels:
            raise BundleError(f"{teacher.path}: a teacher must know the labels {', '.join(shards.labels)}")
    networks = [bundles.load_model(teacher) for teacher in teachers]

    def opinion(chunks: tf.Tensor) -> tf.Tensor:
        return tf.add_n([tf.nn.softmax(network(chunks, training=False)) for network in networks]) / len(networks)

    return opinion


def _must_not_have_heard(bundle: Bundle, shards: ShardSet, config: TrainConfig) -> None:
    """Knowledge of the held-out tracks must not come in through another network: figures on them would mean nothing."""
    recipe = bundle.provenance.get("recipe", {})
    if bundle.provenance.get("shards") != shards.fingerprint:
        return
    if config.fold is not None:
        if tuple(recipe.get("fold") or ()) != config.fold:
            told = "{}/{}".format(*config.fold)
            raise UsageError(
                f"{bundle.path}: has heard tracks of fold {told}; give a bundle trained with --fold {told}"
            )
    elif config.valid_split in recipe.get("splits", ()):
        raise UsageError(
            f"{bundle.path}: has heard the split {config.valid_split}, on which nothing could be measured then; "
            "give a bundle trained without it, or another --valid-split ('' for none)"
        )


def _same_front_end(shards: ShardSet, bundle: Bundle) -> None:
    if bundle.front_end != shards.front_end:
        raise BundleError(f"{bundle.path}: another front end: {bundle.front_end.differences(shards.front_end)}")


def _temperature(network: keras.Model, watched: list[Any], shards: ShardSet) -> float:
    from model.evaluate import fit_temperature

    logits = [dataset.chunk_logits(network, levels, shards.front_end) for levels, _ in watched]
    return fit_temperature(logits, np.array([int(claimed.argmax()) for _, claimed in watched]))


def _recipe(shards: ShardSet, config: TrainConfig, init: Bundle | None, teachers: Sequence[Bundle]) -> str:
    """What a checkpoint belongs to."""
    parts = [shards.fingerprint, repr(config), init and init.fingerprint, [t.fingerprint for t in teachers]]
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


def _provenance(
    shards: ShardSet, config: TrainConfig, init: Bundle | None, teachers: Sequence[Bundle]
) -> dict[str, Any]:
    return {
        "trained": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "recipe": dataclasses.asdict(config),
        "shards": shards.fingerprint,
        "tracks": {split: dataclasses.asdict(shards.splits[split]) for split in config.splits},
        "init": init and init.fingerprint,
        "teachers": [teacher.fingerprint for teacher in teachers],
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }
