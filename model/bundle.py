"""A model bundle on disk: a trained network with everything one must know to use it.

A folder with `model.keras` (uint8 levels in, logits out), `config.json` (labels, front end, calibration,
fingerprint, where it came from) and, for people, `metrics.json` and `MODEL_CARD.md` (model/evaluate.py
writes those two). `embedding.npz` is the projection to embeddings (model/embedding.py); `network.tflite` holds network
and projection for CPUs (model/lite.py). A bundle made by `genrebeam learn` copies the network of another bundle; the
weights in `head.npz` replace its genre outputs. Reading the configuration needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import BundleError
from genrebeam.model.embedding import EMBEDDING, HEAD, EmbeddingSpace, Head, Projection
from genrebeam.model.lite import NETWORK
from genrebeam.model.voting import UNCALIBRATED, Calibration

if TYPE_CHECKING:
    import keras

SCHEMA_VERSION = 2  # 1: networks over single chunks, one genre of all
# The bundles that ship, by the names that `--model` takes; the first is the default (docs/models.md says why).
SHIPPED = {name: Path(__file__).parent / "pretrained" / name for name in ("genres16", "gtzan10")}
DEFAULT = SHIPPED["genres16"]
MODEL, CONFIG, METRICS, CARD = "model.keras", "config.json", "metrics.json", "MODEL_CARD.md"

_SAME_ANSWERS = 0.95  # share of tracks with the same first answer below which an exported network is not used

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """What config.json says.

    Attributes:
        path: the bundle's folder.
        model_id: a name for people, such as genrebeam-gtzan10-v1.
        labels: genre names in the order of the network's outputs.
        front_end: what made the levels that the network was trained on.
        calibration: how logits become scores.
        fingerprint: sixteen hex digits that differ when network, labels, front end or calibration differ.
        provenance: how the network was made and what it heard, so that it is not measured on that.
        embedding: which embeddings its network makes; None in bundles from before there were any.
        has_head: whether the labels are those of a head over embeddings, and not of the network.
        is_exported: whether its network can be run without TensorFlow.
    """

    path: Path
    model_id: str
    labels: tuple[str, ...]
    front_end: FrontEnd
    calibration: Calibration
    fingerprint: str
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    embedding: EmbeddingSpace | None = None
    has_head: bool = False
    is_exported: bool = False

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels) or not all(self.labels):
            raise ValueError(f"labels must be distinct, non-empty names, not {self.labels}")
        if len(self.calibration.genre_offsets) not in (0, len(self.labels)):
            raise ValueError(
                f"genre_offsets: {len(self.calibration.genre_offsets)} of them for {len(self.labels)} labels"
            )
        if self.has_head and self.embedding is None:
            raise ValueError("a head needs an embedding")

    def projection(self) -> Projection | None:
        """What makes embeddings, if anything does; raises BundleError where it is damaged."""
        return None if self.embedding is None else Projection.load(self.path)

    def head(self) -> Head | None:
        """What makes logits of embeddings, if anything does; raises BundleError where it is damaged."""
        return Head.load(self.path) if self.has_head else None


def load_config(path: str | os.PathLike[str]) -> Bundle:
    """Read what a bundle says about itself. Cheap: no TensorFlow, and the weights stay unread.

    Raises:
        BundleError: no such folder or file, broken JSON, another schema version, a field missing or out of range.
    """
    folder = Path(path)
    file = folder / CONFIG
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such model bundle; give a folder that `genrebeam train` has written")
    for needed in (file, folder / MODEL):
        _must_exist(needed, folder)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values["schema_version"]
        if version != SCHEMA_VERSION:
            raise BundleError(f"{file}: schema version {version}, this genrebeam reads {SCHEMA_VERSION}")
        embedding = values.get("embedding")
        bundle = Bundle(
            path=folder,
            model_id=str(values["model_id"]),
            labels=tuple(map(str, values["labels"])),
            front_end=FrontEnd.from_dict(values["front_end"]),
            calibration=_calibration(values["calibration"]),
            fingerprint=str(values["fingerprint"]),
            provenance=dict(values.get("provenance", {})),
            embedding=EmbeddingSpace(**embedding) if embedding else None,
            has_head=bool(values.get("has_head", False)),
            is_exported=bool(values.get("is_exported", False)),
        )
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise BundleError(f"{file}: field {error} is missing") from error
    except (ValueError, TypeError) as error:  # json.JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise BundleError(f"{file}: {error}") from error
    needs = {EMBEDDING: bundle.embedding is not None, HEAD: bundle.has_head, NETWORK: bundle.is_exported}
    for name, is_needed in needs.items():
        if is_needed:
            _must_exist(folder / name, folder)
    return bundle


def _must_exist(file: Path, folder: Path) -> None:
    if not file.is_file():
        raise BundleError(f"{file}: missing, so {folder} is no model bundle")


def _calibration(values: dict[str, Any]) -> Calibration:
    offsets = tuple(map(float, values.get("genre_offsets", ())))
    numbers = {name: float(value) for name, value in values.items() if name != "genre_offsets"}
    return Calibration(**numbers, genre_offsets=offsets)


def check(bundle: Bundle) -> None:
    """Raises BundleError where the files are not the ones that config.json was written for."""
    file = bundle.path / MODEL
    found = fingerprint(bundle)
    if found != bundle.fingerprint:
        raise BundleError(
            f"{file}: its fingerprint is {found}, {CONFIG} says {bundle.fingerprint}; "
            "the two were not written together, copy or train the bundle again"
        )
    projection = bundle.projection()
    if bundle.embedding is not None and projection is not None:
        trunk = trunk_fingerprint(file, bundle.front_end, projection, bundle.embedding.scale)
        if trunk != bundle.embedding.trunk:
            raise BundleError(
                f"{bundle.path / EMBEDDING}: its trunk is {trunk}, {CONFIG} says {bundle.embedding.trunk}; "
                "the two were not written together, copy or train the bundle again"
            )


def load_model(bundle: Bundle) -> keras.Model:
    """Load what a bundle answers: uint8 levels to float32 logits, as `genrebeam.model.network.Network.model` has them.

    Raises:
        BundleError: the files are not the ones that config.json was written for, or cannot be loaded.
    """
    network = load_network(bundle)
    projection, head = bundle.projection(), bundle.head()
    if projection is None or head is None:
        return network
    from genrebeam.model.network import with_words

    return with_words(network, projection.kernel @ head.kernel, projection.bias @ head.kernel + head.bias)


def load_network(bundle: Bundle) -> keras.Model:
    """Load the network of a bundle: of one with a head, the network that it was learned on.

    Raises:
        BundleError: as `load_model`.
    """
    check(bundle)
    file = bundle.path / MODEL
    import keras

    import genrebeam.model.network  # noqa: F401  registers the layers that Keras must find by name

    try:
        network: keras.Model = keras.saving.load_model(file, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{file}: Keras {keras.__version__} cannot load it: ...{reason[-200:]}") from error
    _check_shape(file, network, None if bundle.has_head else bundle.labels, bundle.front_end)
    return network


def save(
    path: str | os.PathLike[str],
    model: keras.Model,
    *,
    model_id: str,
    labels: tuple[str, ...],
    front_end: FrontEnd,
    calibration: Calibration = UNCALIBRATED,
    provenance: dict[str, Any] | None = None,
    embedding: tuple[Projection, float] | None = None,
    music: Sequence[NDArray[np.uint8]] = (),
) -> Bundle:
    """Write `model.keras`, `embedding.npz`, `network.tflite` and `config.json`; the folder is made if need be.

    The configuration goes last: a crash in between leaves a pair whose fingerprint does not fit, which
    `load_model` refuses, never a network under another one's labels.

    Args:
        embedding: as `genrebeam.model.embedding.fit_projection` gives it.
        music: log-Mels of tracks, uint8 [frames, mel_bands], to compare the exported network with the Keras model.
            If there are none, or Keras runs on another backend than TensorFlow, nothing is exported: TensorFlow runs
            the bundle.

    Raises:
        BundleError: the model does not take the front end's chunks or does not answer one logit per label.
    """
    import keras

    folder = Path(path)
    _check_shape(folder / MODEL, model, labels, front_end)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial-{MODEL}"  # Keras insists on the suffix
    # A copy without the optimizer, whose state would treble the file.
    plain = model.__class__.from_config(model.get_config())
    plain.set_weights(model.get_weights())
    plain.save(partial)
    _make_portable(partial)
    partial.replace(folder / MODEL)
    space = None
    if embedding is not None:
        projection, scale = embedding
        projection.save(folder)
        space = EmbeddingSpace(
            trunk_fingerprint(folder / MODEL, front_end, projection, scale), projection.kernel.shape[1], scale
        )
    saved = Bundle(folder, model_id, labels, front_end, calibration, "", provenance or {}, space)
    may_export = music and keras.backend.backend() == "tensorflow"
    return save_config(with_export(saved, plain, music) if may_export else saved)


def with_export(bundle: Bundle, network: keras.Model, music: Sequence[NDArray[np.uint8]]) -> Bundle:
    """Write `network.tflite` beside the files of a bundle; returns the bundle to give to `save_config`.

    If its answers differ too often from those of the Keras model, the bundle is marked as not exported.

    Args:
        network, music: as for `save`.
    """
    from genrebeam.model.export import export

    compared = export(network, bundle.projection(), bundle.front_end, bundle.path, music)
    is_good = compared["same_first_answer"] >= _SAME_ANSWERS
    if not is_good:
        logger.warning(
            "%s: answers otherwise than %s, so TensorFlow will run this bundle: %s", NETWORK, MODEL, compared
        )
    return dataclasses.replace(bundle, is_exported=is_good, provenance={**bundle.provenance, "export": compared})


def save_learned(
    path: str | os.PathLike[str],
    base: Bundle,
    head: Head,
    *,
    model_id: str,
    labels: tuple[str, ...],
    calibration: Calibration,
    provenance: dict[str, Any],
) -> Bundle:
    """Write a bundle of other words on top of a bundle's network, which is copied; needs no TensorFlow.

    Raises:
        BundleError: the network has no embedding, or is not the one that its config.json was written for.
        ValueError: labels that are no distinct names, or another number of them than the head has.
    """
    if base.embedding is None:
        raise BundleError(f"{base.path}: makes no embeddings to learn from; use a bundle that does (docs/models.md)")
    if head.kernel.shape != (base.embedding.size, len(labels) + 1):
        raise ValueError(f"a head of {head.kernel.shape} for {base.embedding.size} components and {len(labels)} labels")
    check(base)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MODEL, EMBEDDING, *([NETWORK] if base.is_exported else [])):
        partial = folder / f".partial-{name}"
        shutil.copyfile(base.path / name, partial)
        partial.replace(folder / name)
    head.save(folder)
    return save_config(
        dataclasses.replace(
            base,
            path=folder,
            model_id=model_id,
            labels=labels,
            calibration=calibration,
            provenance=provenance,
            has_head=True,
        )
    )


def save_config(bundle: Bundle) -> Bundle:
    """Write `config.json` beside the files of a bundle; returns it with their fingerprint."""
    folder = bundle.path
    bundle = dataclasses.replace(bundle, fingerprint=fingerprint(bundle))
    values = {"schema_version": SCHEMA_VERSION} | dataclasses.asdict(bundle)
    del values["path"]
    partial = folder / f".partial-{CONFIG}"
    partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(folder / CONFIG)
    return bundle


def fingerprint(bundle: Bundle) -> str:
    """Sixteen hex digits over everything that decides an answer.

    Raises:
        BundleError: a file is missing or damaged.
    """
    digest = hashlib.sha256()
    _add_network(digest, bundle.path / MODEL)
    if bundle.is_exported:
        digest.update(hashlib.sha256(_read(bundle.path / NETWORK)).digest())
    calibration = dataclasses.asdict(bundle.calibration)
    for name in ("genre_offsets", "further"):  # bundles from before there were any keep their fingerprints
        if calibration[name] == getattr(UNCALIBRATED, name):
            del calibration[name]
    meaning = {"labels": bundle.labels, "front_end": bundle.front_end.fingerprint(), "calibration": calibration}
    if bundle.embedding is not None:
        meaning["embedding"] = dataclasses.asdict(bundle.embedding)
    digest.update(json.dumps(meaning, sort_keys=True).encode())
    if (head := bundle.head()) is not None:
        digest.update(head.kernel.tobytes() + head.bias.tobytes())
    return digest.hexdigest()[:16]


def trunk_fingerprint(file: Path, front_end: FrontEnd, projection: Projection, scale: float) -> str:
    """Sixteen hex digits over everything that decides an embedding.

    Raises:
        BundleError: the network's file is missing or no .keras archive.
    """
    digest = hashlib.sha256()
    _add_network(digest, file)
    digest.update(front_end.fingerprint().encode())
    digest.update(projection.kernel.tobytes() + projection.bias.tobytes() + np.float64(scale).tobytes())
    return digest.hexdigest()[:16]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from error


def _add_network(digest: hashlib._Hash, file: Path) -> None:
    """Of a .keras archive only architecture and weights count: its metadata.json holds the date of saving, and the same
    network saved twice is the same network."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in sorted(set(archive.namelist()) - {"metadata.json"}):
                digest.update(member.encode() + b"\0" + hashlib.sha256(archive.read(member)).digest())
    except (OSError, zipfile.BadZipFile) as error:
        raise BundleError(f"{file}: not a readable Keras model: {error}") from error


# Arguments that newer versions of Keras write out and the oldest one we support (3.12, the last for Python 3.10)
# does not know. They are left out where they have the value that changes nothing.
_NEWER_ARGUMENTS = {
    "renorm": False,  # BatchNormalization
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "input_axes": None,  # initializers
    "output_axes": None,
    "quantization_config": None,  # layers with a kernel
}


def _make_portable(file: Path) -> None:
    """Take out of a .keras archive what only the Keras that wrote it understands."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k not in _NEWER_ARGUMENTS or v != _NEWER_ARGUMENTS[k]}
        return [plain(item) for item in value] if isinstance(value, list) else value

    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = json.dumps(plain(json.loads(members["config.json"]))).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _check_shape(file: Path, network: keras.Model, labels: tuple[str, ...] | None, front_end: FrontEnd) -> None:
    """Whether a network fits a front end, and its outputs the labels; None if a head supplies the outputs."""
    takes, gives = tuple(network.input_shape), tuple(network.output_shape)
    segment = (front_end.chunk_step_frames, front_end.mel_bands)
    if takes[1:] != (None, *segment):
        raise BundleError(f"{file}: takes {takes[1:]}, but the front end has segments of {segment}")
    if labels is not None and gives[1:] != (None, len(labels) + 1):
        raise BundleError(f"{file}: gives {gives[1:]}, but there are {len(labels)} labels and none of them")
