"""A model bundle on disk: a trained network with everything one must know to use it.

A folder with `model.keras` (uint8 levels in, logits out), `config.json` (labels, front end, calibration,
fingerprint, where it came from) and, for people, `metrics.json` and `MODEL_CARD.md` (model/evaluate.py
writes those two). Reading the configuration needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import BundleError
from genrebeam.model.voting import UNCALIBRATED, Calibration

if TYPE_CHECKING:
    import keras

SCHEMA_VERSION = 2  # 1: networks over single chunks, one genre of all
# The bundles that ship, by the names that `--model` takes; the first is the default (docs/models.md says why).
SHIPPED = {name: Path(__file__).parent / "pretrained" / name for name in ("genres16", "gtzan10")}
DEFAULT = SHIPPED["genres16"]
MODEL, CONFIG, METRICS, CARD = "model.keras", "config.json", "metrics.json", "MODEL_CARD.md"


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
    """

    path: Path
    model_id: str
    labels: tuple[str, ...]
    front_end: FrontEnd
    calibration: Calibration
    fingerprint: str
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels) or not all(self.labels):
            raise ValueError(f"labels must be distinct, non-empty names, not {self.labels}")
        if len(self.calibration.genre_offsets) not in (0, len(self.labels)):
            raise ValueError(
                f"genre_offsets: {len(self.calibration.genre_offsets)} of them for {len(self.labels)} labels"
            )


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
        if not needed.is_file():
            raise BundleError(f"{needed}: missing, so {folder} is no model bundle")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values["schema_version"]
        if version != SCHEMA_VERSION:
            raise BundleError(f"{file}: schema version {version}, this genrebeam reads {SCHEMA_VERSION}")
        return Bundle(
            path=folder,
            model_id=str(values["model_id"]),
            labels=tuple(map(str, values["labels"])),
            front_end=FrontEnd.from_dict(values["front_end"]),
            calibration=_calibration(values["calibration"]),
            fingerprint=str(values["fingerprint"]),
            provenance=dict(values.get("provenance", {})),
        )
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise BundleError(f"{file}: field {error} is missing") from error
    except (ValueError, TypeError) as error:  # json.JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise BundleError(f"{file}: {error}") from error


def _calibration(values: dict[str, Any]) -> Calibration:
    offsets = tuple(map(float, values.get("genre_offsets", ())))
    numbers = {name: float(value) for name, value in values.items() if name != "genre_offsets"}
    return Calibration(**numbers, genre_offsets=offsets)


def load_model(bundle: Bundle) -> keras.Model:
    """Load the network: uint8 levels to float32 logits, as `genrebeam.model.network.Network.model` has them.

    Raises:
        BundleError: the network is not the one that config.json was written for, or cannot be loaded.
    """
    file = bundle.path / MODEL
    found = fingerprint(file, bundle.labels, bundle.front_end, bundle.calibration)
    if found != bundle.fingerprint:
        raise BundleError(
            f"{file}: its fingerprint is {found}, {CONFIG} says {bundle.fingerprint}; "
            "the two were not written together, copy or train the bundle again"
        )
    import keras

    import genrebeam.model.network  # noqa: F401  registers the layers that Keras must find by name

    try:
        network: keras.Model = keras.saving.load_model(file, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{file}: Keras {keras.__version__} cannot load it: ...{reason[-200:]}") from error
    _check_shape(file, network, bundle.labels, bundle.front_end)
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
) -> Bundle:
    """Write `model.keras` and `config.json`; the folder is made if need be.

    The configuration goes last: a crash in between leaves a pair whose fingerprint does not fit, which
    `load_model` refuses, never a network under another one's labels.

    Raises:
        BundleError: the model does not take the front end's chunks or does not answer one logit per label.
    """
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
    return save_config(
        folder,
        model_id=model_id,
        labels=labels,
        front_end=front_end,
        calibration=calibration,
        provenance=provenance,
    )


def save_config(
    path: str | os.PathLike[str],
    *,
    model_id: str,
    labels: tuple[str, ...],
    front_end: FrontEnd,
    calibration: Calibration = UNCALIBRATED,
    provenance: dict[str, Any] | None = None,
) -> Bundle:
    """Write `config.json` for the `model.keras` that lies in the folder, with its fingerprint."""
    folder = Path(path)
    bundle = Bundle(
        path=folder,
        model_id=model_id,
        labels=labels,
        front_end=front_end,
        calibration=calibration,
        fingerprint=fingerprint(folder / MODEL, labels, front_end, calibration),
        provenance=provenance or {},
    )
    values = {"schema_version": SCHEMA_VERSION} | dataclasses.asdict(bundle)
    del values["path"]
    partial = folder / f".partial-{CONFIG}"
    partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(folder / CONFIG)
    return bundle


def fingerprint(file: Path, labels: tuple[str, ...], front_end: FrontEnd, calibration: Calibration) -> str:
    """Sixteen hex digits over everything that decides an answer.

    Of the .keras archive only the architecture and the weights count: its metadata.json holds the date
    of saving, and the same network saved twice is the same network.

    Raises:
        BundleError: the file is missing or no .keras archive.
    """
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(file) as archive:
            for member in sorted(set(archive.namelist()) - {"metadata.json"}):
                digest.update(member.encode() + b"\0" + hashlib.sha256(archive.read(member)).digest())
    except (OSError, zipfile.BadZipFile) as error:
        raise BundleError(f"{file}: not a readable Keras model: {error}") from error
    said = dataclasses.asdict(calibration)
    for name in ("genre_offsets", "further"):  # bundles from before there were any keep their fingerprints
        if said[name] == getattr(UNCALIBRATED, name):
            del said[name]
    meaning = {"labels": labels, "front_end": front_end.fingerprint(), "calibration": said}
    digest.update(json.dumps(meaning, sort_keys=True).encode())
    return digest.hexdigest()[:16]


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


def _check_shape(file: Path, network: keras.Model, labels: tuple[str, ...], front_end: FrontEnd) -> None:
    takes, gives = tuple(network.input_shape), tuple(network.output_shape)
    segment = (front_end.chunk_step_frames, front_end.mel_bands)
    if takes[1:] != (None, *segment) or gives[1:] != (None, len(labels) + 1):
        raise BundleError(
            f"{file}: takes {takes[1:]} and gives {gives[1:]}, but the front end has segments of {segment} and there "
            f"are {len(labels)} labels and none of them"
        )
