"""The package as others install it: built, installed in an environment of its own, used from another folder."""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
import synth
from commandline import ROOT

BUILD = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"


def run(*command, **kwargs):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with the wheel that is built from the sdist; what it needs comes from the one of this test.

    Folders named in a .pth file are searched, but their own .pth files (of editable installs) are not read.
    """
    folder = tmp_path_factory.mktemp("package")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if names.returncode:
        pytest.skip("not a git checkout: there is no list of what belongs to the project")
    for name in filter(None, names.stdout.split("\0")):
        source, copy = ROOT / name, folder / "tree" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(os.readlink(source))
        elif source.exists():
            copy.write_bytes(source.read_bytes())
    dist = folder / "dist"
    run(sys.executable, "-W", "ignore", "-c", BUILD.format("sdist"), dist, cwd=folder / "tree")
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (unpacked,) = (folder / "sdist").iterdir()
    run(sys.executable, "-W", "ignore", "-c", BUILD.format("wheel"), dist, cwd=unpacked)
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", site, wheel)
    return python, site


def test_nothing_but_genrebeam_is_put_where_everybody_imports_from(environment):
    _, site = environment
    assert {p.name for p in site.iterdir() if p.is_dir()} - {"bin"} == {
        "genrebeam",
        f"genrebeam-{importlib.metadata.version('genrebeam')}.dist-info",
    }
    assert not [p for p in site.rglob("*") if p.is_symlink()]


def test_what_the_pages_of_the_application_need_is_installed(environment):
    _, site = environment
    for folder in ("static", "templates"):
        names = {path.name for path in (ROOT / "app" / folder).iterdir()}
        assert {path.name for path in (site / "genrebeam" / "app" / folder).iterdir()} == names


def test_it_tags_beside_modules_of_the_users_that_have_the_names_of_our_folders(environment, tmp_path):
    python, site = environment
    for seed in range(4):
        synth.write(tmp_path / "music" / f"{seed}.flac", synth.music(8, seed=seed))
    for name in ("app", "model", "features", "pipelines"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is the file of the user')\n")
    command = ["-m", "genrebeam", "tag", "music", "--output", "out", "--workers", "2", "--quiet", "--format", "csv"]
    run(python, *command, cwd=tmp_path)
    script = tmp_path / "mine.py"
    script.write_text(
        "import genrebeam\n"
        "from genrebeam import GenreTagger, read_results\n"
        "print(genrebeam.__file__, genrebeam.__version__, len(read_results('out', ['genre'])))\n"
    )
    where, version, rows = run(python, script, cwd=tmp_path).split()
    assert Path(where).parent.parent == site
    assert version == importlib.metadata.version("genrebeam")
    assert int(rows) == 4
