"""A bundle says what it is, and nothing else passes for one."""

import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tiny_shards

from genrebeam.features.chunks import segments_of
from genrebeam.features.errors import BundleError
from genrebeam.model import bundle, export
from genrebeam.model.lite import NETWORK, LiteNetwork
from genrebeam.model.network import build_cnn
from genrebeam.model.predictor import BundlePredictor
from genrebeam.model.voting import Calibration

LABELS = tiny_shards.GENRES


@pytest.fixture(scope="module")
def network():
    return build_cnn(tiny_shards.FRONT_END, LABELS, widths=(4, 4, 4, 4)).model


def save(path, network, model_id):
    front_end, calibration = tiny_shards.FRONT_END, Calibration(1.5)
    return bundle.save(path, network, model_id=model_id, labels=LABELS, front_end=front_end, calibration=calibration)


@pytest.fixture
def saved(tmp_path, network):
    return save(tmp_path / "b", network, "tiny")


def test_what_is_saved_is_loaded(saved, network):
    loaded = bundle.load_config(saved.path)
    assert loaded == saved
    levels = np.random.default_rng(0).integers(0, 255, (3, 4, *network.input_shape[2:])).astype(np.uint8)
    np.testing.assert_allclose(bundle.load_model(loaded)(levels), network(levels), atol=1e-5)


def test_same_network_has_same_fingerprint_whenever_it_is_saved(saved, network, tmp_path):
    again = save(tmp_path / "again", network, "x")
    assert again.fingerprint == saved.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"calibration": Calibration(1.6)},
        {"calibration": Calibration(1.5, 0.1)},
        {"calibration": Calibration(1.5, genre_offsets=(0.0, 0.1, 0.0))},
        {"calibration": Calibration(1.5, further=1.2)},
        {"labels": ("low", "high", "middle")},
    ],
    ids=["temperature", "offset", "offset of a genre", "further genres", "order of labels"],
)
def test_whatever_changes_an_answer_changes_the_fingerprint(saved, change):
    changed = bundle.save_config(dataclasses.replace(saved, **change))
    assert changed.fingerprint != saved.fingerprint
    assert bundle.load_config(saved.path) == changed


def test_configuration_is_read_without_tensorflow(saved):
    code = (
        f"import sys, genrebeam.model.bundle as b; b.load_config({str(saved.path)!r}); "
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_weights_of_another_bundle_are_refused(saved, network, tmp_path):
    other = build_cnn(tiny_shards.FRONT_END, LABELS, widths=(4, 4, 4, 4)).model
    other.save(saved.path / bundle.MODEL)
    with pytest.raises(BundleError, match="not written together"):
        bundle.load_model(saved)


def test_labels_that_do_not_fit_the_outputs_are_refused(network, tmp_path):
    with pytest.raises(BundleError, match="2 labels"):
        bundle.save(tmp_path, network, model_id="x", labels=("a", "b"), front_end=tiny_shards.FRONT_END)


def _edit(saved, **values):
    file = saved.path / bundle.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: (b.path / bundle.CONFIG).unlink(), "config.json: missing"),
        (lambda b: (b.path / bundle.MODEL).unlink(), "model.keras: missing"),
        (lambda b: (b.path / bundle.CONFIG).write_text("{"), "config.json: Expecting"),
        (lambda b: (b.path / bundle.CONFIG).write_text("[]"), "config.json: "),
        (lambda b: (b.path / bundle.CONFIG).write_bytes(b"\xff\xfe"), "config.json: "),
        (lambda b: _edit(b, schema_version=99), "schema version 99"),
        (lambda b: _edit(b, front_end={"sample_rate_hz": 22050}), "missing fields"),
        (lambda b: _edit(b, labels=[]), "labels must be"),
        (lambda b: _edit(b, calibration={"temperature": 0}), "temperature must be above 0"),
        (lambda b: (b.path / bundle.MODEL).write_bytes(b"no zip"), "not a readable Keras model"),
    ],
)
def test_damage_is_named_in_one_line(saved, damage, message):
    damage(saved)
    with pytest.raises(BundleError, match=message) as error:
        bundle.load_model(bundle.load_config(saved.path))
    assert "\n" not in str(error.value)
    assert str(saved.path) in str(error.value)


def test_an_archive_without_a_model_in_it_is_refused(saved):
    with zipfile.ZipFile(saved.path / bundle.MODEL, "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(BundleError):
        bundle.load_model(bundle.load_config(saved.path))


def test_a_bundle_says_nothing_that_only_the_newest_keras_understands():
    # Python 3.10 ends at Keras 3.12, which refuses arguments that it does not know.
    import zipfile

    with zipfile.ZipFile(bundle.DEFAULT / bundle.MODEL) as archive:
        text = archive.read("config.json")
    assert b"renorm" not in text
    assert b"input_axes" not in text


MUSIC = [tiny_shards.log_mel(genre, seed) for seed in range(3) for genre in tiny_shards.GENRES]


@pytest.fixture(scope="module")
def exported_once(network, tmp_path_factory):
    saved = save(tmp_path_factory.mktemp("exported"), network, "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "_SAME_ANSWERS", 0.0)  # an untrained network answers by a hair
        return bundle.save_config(bundle.with_export(saved, network, MUSIC))


@pytest.fixture
def exported(exported_once, tmp_path):
    return bundle.load_config(shutil.copytree(exported_once.path, tmp_path / "copy"))


def test_an_exported_network_answers_as_the_other(exported, network):
    assert exported.is_exported
    said = exported.provenance["export"]
    assert said["tracks"] == len(MUSIC)
    segments = segments_of(MUSIC[0], exported.front_end)
    lite = LiteNetwork(exported.path / NETWORK, exported.front_end)(segments)
    difference = np.abs(lite - np.asarray(network(segments[np.newaxis]))[0]).max()
    assert 0 < difference <= said["largest_logit_difference"] + 1e-3


def test_the_same_network_is_exported_to_the_same_file(exported, network, tmp_path):
    build_cnn(tiny_shards.FRONT_END, LABELS, widths=(4, 4, 4, 4))  # Keras counts what it has made
    again = bundle.with_export(save(tmp_path / "again", network, "tiny"), network, MUSIC)
    assert (again.path / NETWORK).read_bytes() == (exported.path / NETWORK).read_bytes()
    assert bundle.fingerprint(dataclasses.replace(again, is_exported=True)) == exported.fingerprint


def test_a_network_that_answers_otherwise_is_not_used(network, tmp_path, monkeypatch):
    monkeypatch.setattr(export.LiteNetwork, "__call__", lambda self, segments: -np.asarray(network(segments[None]))[0])
    saved = bundle.with_export(save(tmp_path / "b", network, "tiny"), network, MUSIC)
    assert not saved.is_exported
    assert saved.provenance["export"]["same_first_answer"] < 0.5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "missing"),
        (lambda file: file.write_bytes(b""), "not written together"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1000]), "not written together"),
        (lambda file: shutil.copyfile(bundle.DEFAULT / NETWORK, file), "not written together"),
    ],
    ids=["missing", "empty", "cut", "of another bundle"],
)
def test_damage_to_the_exported_network_is_named_in_one_line(exported, damage, message):
    damage(exported.path / NETWORK)
    with pytest.raises(BundleError, match=message) as error:
        BundlePredictor(bundle.load_config(exported.path))
    assert "\n" not in str(error.value)
    assert str(exported.path) in str(error.value)


@pytest.mark.parametrize("content", [b"no network", (bundle.DEFAULT / NETWORK).read_bytes()], ids=["broken", "other"])
def test_what_litert_cannot_load_or_takes_something_else_is_refused(exported, content):
    (exported.path / NETWORK).write_bytes(content)
    with pytest.raises(BundleError, match=r"cannot load it|the front end has batches of") as error:
        BundlePredictor(bundle.save_config(exported))
    assert "\n" not in str(error.value)


def test_a_shipped_network_is_small_and_says_how_far_it_is_from_its_source():
    for path in bundle.SHIPPED.values():
        said = bundle.load_config(path).provenance["export"]
        assert (path / NETWORK).stat().st_size < 2e6
        assert said["same_first_answer"] >= 0.985
