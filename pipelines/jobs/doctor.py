"""What of genrebeam works on this machine, what does not, and what to do: one list of checks.

Each check looks at the thing itself (hears a tone, asks Docker's daemon) and never raises. Nothing is downloaded, and
nothing is left behind.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from genrebeam.features.errors import GenrebeamError, how_to_install

_PACKAGES = ("apache-beam", "ai-edge-litert", "numpy", "pyarrow", "mutagen", "soundfile", "av")
_TRAINING = ("tensorflow", "keras", "librosa")
# FFmpeg's decoder for each format that people have; libsndfile reads some of them first.
_DECODERS = {
    "MP3": "mp3float",
    "AAC": "aac",
    "ALAC": "alac",
    "FLAC": "flac",
    "Vorbis": "vorbis",
    "Opus": "opus",
    "WMA": "wmav2",
    "WavPack": "wavpack",
    "Monkey's Audio": "ape",
    "Musepack": "mpc8",
    "TTA": "tta",
    "DSD": "dsd_lsbf",
    "AC-3": "ac3",
    "PCM": "pcm_s16le",
}
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg")  # the latter in WSL 2
_AGAIN = "pip install --force-reinstall . in genrebeam's folder"
_ENOUGH_BYTES = 1 << 30
_PATIENCE_S = 20.0


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        needed: tagging a local library cannot work without it.
        found: what is there, or why it does not work; one line.
        advice: what to do; empty where it works.
    """

    name: str
    works: bool
    needed: bool
    found: str
    advice: str = ""


def checks(model: str | None = None) -> Iterator[Check]:
    """Look at everything, cheap things first. `model` is the folder or URL of a bundle; None is the one that ships."""
    yield _python()
    yield _system()
    yield _packages("packages", _PACKAGES, is_needed=True)
    yield _packages("for training and GPUs", _TRAINING, is_needed=False)
    yield _decoders()
    yield from _model(model)
    yield _gpu()
    yield _extra("pictures", "matplotlib", "app", "`genrebeam show` needs it")
    yield _extra("application", "fastapi", "app", "`genrebeam app` needs it")
    yield _extra("training", "sklearn", "train", "`genrebeam shards`, `evaluate` and `compare` need it")
    yield _disk("disk, here", Path.cwd())
    yield _disk("disk, temporary files", Path(tempfile.gettempdir()))
    yield _store("s3://", "boto3", "aws", _aws_account)
    yield _store("gs://", "google.cloud.storage", "gcp", _google_account)
    yield _program("Java", ["java", "-version"], "install Java 11 or newer; only Beam's Flink runner needs it")
    yield _job_server()
    docker = ["docker", "version", "--format", "{{.Server.Version}}"]
    yield _program("Docker", docker, "install Docker and start it; only images and clusters need it")


def can_tag(found: list[Check]) -> bool:
    """Whether everything works that tagging a local library needs."""
    return all(check.works for check in found if check.needed)


def _python() -> Check:
    version = sys.version_info
    return Check(
        "Python",
        (3, 10) <= version[:2] < (3, 14),
        True,
        f"{platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "" if (3, 10) <= version[:2] < (3, 14) else "use Python 3.10 to 3.13",
    )


def _system() -> Check:
    system = platform.system()
    is_linux = system == "Linux"
    limits = "" if is_linux else "; it has not been tried there, and decoders have no memory limit on macOS"
    return Check(
        "system",
        is_linux,
        system == "Windows",  # cannot work there; elsewhere it may
        f"{platform.platform(terse=True)}{limits}",
        "" if is_linux else "use Linux; on Windows that is WSL 2",
    )


def _packages(title: str, names: Sequence[str], *, is_needed: bool) -> Check:
    versions, missing = [], []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check(title, False, is_needed, f"missing: {', '.join(missing)}", _AGAIN)
    return Check(title, True, is_needed, ", ".join(versions))


def _decoders() -> Check:
    try:
        import av
        import soundfile
    except (ImportError, OSError) as error:
        return Check("decoders", False, True, _line(error), "pip install --force-reinstall soundfile av")
    missing = [name for name, decoder in _DECODERS.items() if decoder not in av.codecs_available]
    present = [name for name in _DECODERS if name not in missing]
    library = f"libsndfile {soundfile.__libsndfile_version__}, FFmpeg by PyAV {av.__version__}"
    if missing:
        advice = "such files become rejects; pip install av without --no-binary brings all decoders"
        return Check("decoders", False, False, f"{library}; no decoder for {', '.join(missing)}", advice)
    return Check("decoders", True, True, f"{library}: {', '.join(present)}")


def _model(model: str | None) -> Iterator[Check]:
    """The bundle, and a tone heard with it, which takes the whole way of a track."""
    try:
        from genrebeam.pipelines.dataset.inputs import bundle_at

        bundle = bundle_at(model)
    except Exception as error:
        yield Check("model", False, True, _line(error), "give --model a folder that `genrebeam train` has written")
        return
    yield Check("model", True, True, f"{bundle.model_id} ({bundle.fingerprint}): {', '.join(bundle.labels)}")
    try:
        from genrebeam.pipelines.api import GenreTagger

        with tempfile.TemporaryDirectory(prefix="genrebeam-") as folder, GenreTagger(str(bundle.path)) as tagger:
            heard = tagger.hear(_tone(Path(folder, "tone.wav"), bundle.front_end.sample_rate_hz))
    except Exception as error:
        yield Check("hearing a tone", False, True, _line(error), _AGAIN)
        return
    yield Check("hearing a tone", True, True, f"decoded and scored in {len(heard.times_s)} chunks")


def _tone(path: Path, sample_rate_hz: int) -> Path:
    import numpy as np  # here, so that a machine without it gets an answer and no traceback

    times_s = np.arange(9 * sample_rate_hz) / sample_rate_hz
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes((8000 * np.sin(2 * np.pi * 440 * times_s)).astype("<i2").tobytes())
    return path


def _gpu() -> Check:
    if not shutil.which("nvidia-smi") and not any(map(os.path.exists, _GPU_DEVICES)):
        # Without a driver TensorFlow can see none either, and asking it takes seconds.
        return Check("GPU", False, False, "none; the processors do the work", "nothing to do, unless there is one")
    try:
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    except Exception as error:
        return Check("GPU", False, False, _line(error), how_to_install("gpu"))
    if names:
        return Check("GPU", True, False, ", ".join(map(str, names)))
    return Check("GPU", False, False, "there is a driver, and TensorFlow sees no GPU", how_to_install("gpu"))


def _extra(name: str, package: str, extra: str, why: str) -> Check:
    """A package that tagging does not need, imported to see whether it works."""
    try:
        version = getattr(importlib.import_module(package), "__version__", "of an unknown version")
    except ModuleNotFoundError:
        return Check(name, False, False, f"{package} is not installed", f"{how_to_install(extra)}; {why}")
    except Exception as error:
        return Check(name, False, False, _line(error), f"pip install --force-reinstall {package}; {why}")
    return Check(name, True, False, f"{package} {version}")


def _disk(name: str, folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(name, False, False, _line(error), "choose another folder")
    found = f"{free / 1e9:.1f} GB free in {folder}"
    enough = free >= _ENOUGH_BYTES
    return Check(name, enough, False, found, "" if enough else "make room: tagged files are copied before they change")


def _store(scheme: str, package: str, extra: str, account: Callable[[], str | None]) -> Check:
    advice = f"{how_to_install(extra)}; only libraries on {scheme} need it"
    try:
        if importlib.util.find_spec(package) is None:
            return Check(scheme, False, False, f"{package} is not installed", advice)
        found = account()
    except ModuleNotFoundError:
        return Check(scheme, False, False, f"{package} is not installed", advice)
    except Exception as error:
        return Check(scheme, False, False, _line(error), "sign in, or set the credentials in the environment")
    if found is None:
        return Check(scheme, False, False, "no credentials", "sign in, or set the credentials in the environment")
    return Check(scheme, True, False, f"credentials found ({found}); whether a bucket lets them in is not asked")


def _aws_account() -> str | None:
    import boto3

    credentials = boto3.session.Session().get_credentials()
    return None if credentials is None else str(credentials.method)


def _google_account() -> str | None:
    import google.auth
    import google.auth.exceptions

    try:
        credentials, project = google.auth.default()
    except google.auth.exceptions.DefaultCredentialsError:
        return None
    return f"{type(credentials).__name__}, project {project or 'unknown'}"


def _program(name: str, command: list[str], advice: str) -> Check:
    """Whether a program answers: its first line of output."""
    if shutil.which(command[0]) is None:
        return Check(name, False, False, f"{command[0]} is not installed", advice)
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, False, False, _line(error), advice)
    said = (run.stdout.strip() or run.stderr.strip() or "no answer").splitlines()[0]
    return Check(name, run.returncode == 0, False, said, "" if run.returncode == 0 else advice)


def _job_server() -> Check:
    """The jar that Beam's Flink runner starts, where Beam keeps what it has fetched."""
    jars = sorted(Path("~/.apache_beam/cache/jars").expanduser().glob("beam-runners-flink*job-server*.jar"))
    if jars:
        return Check("Flink job server", True, False, jars[-1].name)
    return Check(
        "Flink job server", False, False, "no jar yet", "nothing to do: Beam fetches it for the first Flink run"
    )


def _line(error: BaseException) -> str:
    said = " ".join(str(error).split())[:300]
    return said if isinstance(error, GenrebeamError) else f"{type(error).__name__}: {said}"
