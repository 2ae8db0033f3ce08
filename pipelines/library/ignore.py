"""Which files of a library are passed over, as if they were not there.

Two kinds: what other programs keep beside music (bins, snapshots, downloads that have not ended), and what the owner
excludes by `--exclude` or by a file `.genrebeamignore`, in the language of Git's `.gitignore`.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence

import pathspec

from genrebeam.features.errors import UsageError

IGNORE_FILE = ".genrebeamignore"

# Files and folders. Other names with a leading dot are looked at: there are folders called ".38 Special".
_NAMES = """
    .git .svn .hg .genrebeam-*
    ._* .DS_Store .AppleDouble .AppleDB .AppleDesktop .Spotlight-V100 .fseventsd .TemporaryItems
    .DocumentRevisions-V100 .MobileBackups .*.icloud
    .Trash* $RECYCLE.BIN RECYCLER RECYCLED Thumbs.db desktop.ini lost+found
    #recycle @Recycle .recycle .@__thumb @__thumb @eaDir @tmp @sharebin .@upload_cache @SynoEAStream @SynoResource
    #snapshot @Recently-Snapshot .snapshot .snapshots ~snapshot .snap .zfs .ckpt @GMT-*
    .stversions .stfolder .stignore .syncthing.*.tmp ~syncthing~*.tmp
    .sync .dropbox .dropbox.cache .SynologyWorkingDirectory .Qsync .qsync _gsdata_ .owncloudsync.log .sync_*.db*
    .tmp.drivedownload .tmp.driveupload .unison.*.tmp .nfs0* .fuse_hidden* ._sync_*
""".split()
_NAMES += ["System Volume Information", "Network Trash Folder", "Temporary Items"]
# Files only: an album may be called "Vol. 1.part".
_DOWNLOADS = """
    *.part *.partial *.crdownload *.download *.opdownload *.filepart *.aria2 *.ytdl *.!qB *.!ut *.!sync *.bc! *.az!
    *.ffs_tmp *.part.met INCOMPLETE~* *.~*
""".split()
# The hidden copy that rsync writes beside a song: it ends in a dot and six characters.
_RSYNC = r"\..+\.[A-Za-z0-9]{2,4}\.[A-Za-z0-9]{6}"

_is_ours = re.compile("|".join(map(fnmatch.translate, _NAMES)), re.IGNORECASE).match
_is_download = re.compile("|".join([*map(fnmatch.translate, _DOWNLOADS), _RSYNC + r"\Z"]), re.IGNORECASE).match


def is_junk(name: str, *, is_folder: bool = False) -> bool:
    """Whether a file or folder of this name belongs to another program, and is no part of the library."""
    return bool(_is_ours(name)) or (not is_folder and bool(_is_download(name)))


class Ignore:
    """The patterns that hold in a library. The ones nearest to a file decide, and of these the last that matches.

    Args:
        patterns: of the whole library, as `--exclude` gives them.

    Raises:
        UsageError: a pattern is invalid, naming it.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._specs = [("", _spec(patterns, "--exclude"))] if patterns else []

    def within(self, folder: str, text: str, name: str) -> Ignore:
        """The same with the lines of an IGNORE_FILE, which hold below its folder.

        Args:
            folder: relative to the library, "" for its top.
            text: of the file.
            name: of the file, for errors.
        """
        inner = Ignore()
        prefix = folder.rstrip("/") + "/" if folder else ""
        inner._specs = [*self._specs, (prefix, _spec(text.splitlines(), name))]
        return inner

    def __call__(self, name: str) -> bool:
        """Whether a file is excluded, by its own name or by that of a folder it is in; relative to the library."""
        for prefix, spec in reversed(self._specs):
            excluded = spec.check_file(name.removeprefix(prefix)).include
            if excluded is not None:
                return excluded
        return False

    def passes_over(self, name: str) -> bool:
        """Whether a file is junk or excluded by its own name or by that of a folder it is in."""
        *folders, file = name.split("/")
        if is_junk(file) or any(is_junk(folder, is_folder=True) for folder in folders):
            return True
        return self(name)


def _spec(patterns: Sequence[str], where: str) -> pathspec.GitIgnoreSpec:
    try:
        return pathspec.GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise UsageError(f"{where}: not a pattern as .gitignore has them: {' '.join(str(error).split())}") from error


def lines_of(folder: str) -> str | None:
    """The text of the IGNORE_FILE in a local folder, if there is one.

    Raises:
        UsageError: it is there and cannot be read: without it, what it excludes would be tagged.
    """
    path = os.path.join(folder, IGNORE_FILE)
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; what it excludes is not known") from error
