"""A library in a bucket through deploy/dataflow/launch.sh: submitted, polled, and run from what was staged.

In place of Google's services stand tests/dataflow.py and PyPI's storage emulator.
"""

import json
import os
import subprocess
import sys

import buckets
import pyarrow.parquet as pq
import pytest
import synth
from commandline import GENREBEAM, ROOT, shown_by
from dataflow import Dataflow

from genrebeam.model import shardset
from genrebeam.pipelines.dataset.ledger import newest_results

PER_RUN = ["run_id", "processed_at", "uri", "mtime"]
NEEDS = "needs pip install 'apache-beam[gcp]' gcp-storage-emulator, which `make setup` leaves out: a hundred packages"
server = pytest.importorskip("gcp_storage_emulator.server", reason=NEEDS)
pytest.importorskip("google.cloud.dataflow", reason=NEEDS)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    for seed, suffix in enumerate(("mp3", "flac", "wav")):
        synth.write(folder / f"{seed}.{suffix}", synth.music(6.0, seed=seed))
    (folder / "broken.mp3").write_bytes(b"ID3 but nothing behind it" * 40)
    return folder


@pytest.fixture
def cloud(library, monkeypatch):
    """A bucket of the emulator with the library in it, and the service."""
    from google.cloud import storage

    emulator = server.create_server("localhost", 0, in_memory=True, default_bucket="b")
    emulator.start()
    try:
        port = emulator._api._httpd.socket.getsockname()[1]
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{port}")
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        buckets.forget_clients()
        service = Dataflow()
        with buckets.serve(service) as endpoint:
            service.endpoint = endpoint.replace("127.0.0.1", "localhost")
            service.bucket = storage.Client.create_anonymous_client().bucket("b")
            for path in library.iterdir():
                service.bucket.blob(f"music/{path.name}").upload_from_filename(path)
            yield service
    finally:
        emulator.stop()
        buckets.forget_clients()


@pytest.fixture(scope="module")
def local_rows(library, tmp_path_factory):
    output = tmp_path_factory.mktemp("tagged")
    command = [*GENREBEAM, "tag", library, "--output", output, "--max-reject-share", "1"]
    subprocess.run([*command, "--quiet", "--workers", "1"], cwd=ROOT, check=True)
    return newest_results(output).drop_columns(PER_RUN).to_pylist()


TAG = ("tag", "gs://b/music", "--output", "gs://b/out", "--max-reject-share", "1")
ALL = ("--yes", "--min-confidence", "0", "--max-unknown", "1")


def launch(cloud, tmp_path, *arguments):
    """What deploy/dataflow/launch.sh shows."""
    genrebeam = tmp_path / "genrebeam"
    genrebeam.write_text(f'#!/bin/sh\nexec {sys.executable} -m genrebeam "$@"\n')
    genrebeam.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    given = {"PATH": path, "PROJECT": "p", "REGION": "r", "BUCKET": "gs://b", "IMAGE": "registry/worker:1"}
    service = ["--dataflow_endpoint", cloud.endpoint, "--no_auth"]
    done = subprocess.run(
        [ROOT / "deploy" / "dataflow" / "launch.sh", *map(str, arguments), *service],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_a_library_in_a_bucket_is_tagged_as_on_this_machine(cloud, local_rows, tmp_path):
    assert "tagged 3" in (shown := launch(cloud, tmp_path, *TAG))
    assert "rejected 1" in shown
    assert len(cloud.jobs) == 1
    assert newest_results("gs://b/out").drop_columns(PER_RUN).to_pylist() == local_rows
    left = {blob.name.split("/")[1] for blob in cloud.bucket.list_blobs(prefix="out/")}
    assert {name for name in left if not name.startswith("run-")} <= {"results", "rejects", "logs"}
    assert "done before 4" in launch(cloud, tmp_path, *TAG)
    assert len(cloud.jobs) == 1  # nothing was left to submit


def test_tags_are_written_as_by_this_machine_and_come_off_again(cloud, tmp_path):
    def songs():
        return {blob.name: blob.download_as_bytes() for blob in cloud.bucket.list_blobs(prefix="music/")}

    launch(cloud, tmp_path, *TAG)
    before = songs()
    assert "changed 3" in shown_by("apply", "gs://b/out", *ALL)
    tagged = songs()
    assert "changed 3" in shown_by("undo", "gs://b/out", "--yes")
    assert songs() == before

    assert "changed 3" in launch(cloud, tmp_path, "apply", "gs://b/out", *ALL)
    assert songs() == tagged != before
    shown = launch(cloud, tmp_path, "apply", "gs://b/out", *ALL)
    assert "changed 0 same 3" in shown
    assert len(cloud.jobs) == 3
    assert "changed 3" in shown_by("undo", "gs://b/out", "--yes")
    assert songs() == before


def test_a_template_is_written_and_claims_no_run_until_it_is_launched(cloud, local_rows, tmp_path):
    shown = launch(cloud, tmp_path, *TAG, "--template_location", "gs://b/templates/tag")
    assert "a template of 4 tracks -> gs://b/templates/tag; nothing has been tagged yet" in shown
    assert "tagged 0" not in shown
    assert not cloud.jobs
    assert len(newest_results("gs://b/out")) == 0
    (run,) = (blob for blob in cloud.bucket.list_blobs(prefix="out/run-"))
    assert json.loads(run.download_as_bytes())["status"] == "template"

    cloud.create(json.loads(cloud.bucket.blob("templates/tag").download_as_bytes()))
    cloud.wait()
    assert newest_results("gs://b/out").drop_columns(PER_RUN).to_pylist() == local_rows


def test_shards_hold_the_same_as_those_of_this_machine(cloud, library, tmp_path):
    def contents(folder):
        """What lies in a folder of shards, without where the library was and when it was written there."""
        found = shardset.load(folder)
        records = [
            (*(getattr(track.track, name) for name in ("track_id", "size")), track.audio, track.log_mel.tolist(), said)
            for track, said in shardset.read(found, ["train"])
        ]
        rejects = pq.read_table(folder / "rejects.parquet", columns=["track_id", "stage", "error"]).to_pylist()
        return found.splits, found.labels, found.notes, records, rejects

    def fetched():
        folder = tmp_path / "fetched"
        folder.mkdir(exist_ok=True)
        for blob in cloud.bucket.list_blobs(prefix="shards/", delimiter="/"):
            blob.download_to_filename(folder / blob.name.partition("/")[2])
        return folder

    labels = tmp_path / "labels.csv"
    labels.write_text("track_id,genre\n0.mp3,blues\n1.flac,jazz\n2.wav,rock\nbroken.mp3,rock\n")
    options = ("--labels", labels, "--split-shares", "train=1", "--tracks-per-shard", "2")
    shown_by("shards", library, "--output", tmp_path / "here", *options, "--workers", "1")
    shown = launch(cloud, tmp_path, "shards", "gs://b/music", "--output", "gs://b/shards", *options)
    assert "tracks 3" in shown and "rejected: 1" in shown
    assert contents(fetched()) == contents(tmp_path / "here")
    assert len(cloud.jobs) == 1
    launch(cloud, tmp_path, "shards", "gs://b/music", "--output", "gs://b/shards", *options)
    assert len(cloud.jobs) == 1  # what is finished is not submitted again
