"""What the surroundings do to a run, for tests: system calls that fail for some files, and killed decoders.

`preloaded` gives an environment for a process, in which opening, reading and looking at files fails as on a drive that
goes away. It needs a C compiler, and skips the test where there is none. `kill_decoders` needs nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ERRORS = ("EIO", "EACCES", "ENOENT", "ESTALE", "ENOSPC")
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* FAULT_SWITCH: a file; faults are there while it is. FAULT_PATH: part of the names concerned. */
static int is_on(const char *call, const char *path) {
    const char *calls = getenv("FAULT_CALLS"), *part = getenv("FAULT_PATH"), *sw = getenv("FAULT_SWITCH");
    static int (*look)(const char *, int);
    if (!look) look = dlsym(RTLD_NEXT, "access");
    if (!calls || !part || !sw || !path || !strstr(calls, call) || !strstr(path, part)) return 0;
    int before = errno, there = look(sw, F_OK) == 0;
    errno = there ? atoi(getenv("FAULT_ERRNO")) : before;
    return there;
}
static int is_on_fd(const char *call, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return is_on(call, path);
}
#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define MODE va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest)
int open(const char *path, int flags, ...) { REAL(open); MODE; return is_on("open", path) ? -1 : real(path, flags, mode); }
int open64(const char *path, int flags, ...) { REAL(open64); MODE; return is_on("open", path) ? -1 : real(path, flags, mode); }
int stat(const char *path, struct stat *s) { REAL(stat); return is_on("stat", path) ? -1 : real(path, s); }
int stat64(const char *path, struct stat64 *s) { REAL(stat64); return is_on("stat", path) ? -1 : real(path, s); }
ssize_t read(int fd, void *to, size_t n) {
    REAL(read);
    const char *after = getenv("FAULT_AFTER");
    if (lseek(fd, 0, SEEK_CUR) >= (after ? atol(after) : 0) && is_on_fd("read", fd)) return -1;
    return real(fd, to, n);
}
ssize_t pread(int fd, void *to, size_t n, off_t at) { REAL(pread); return is_on_fd("read", fd) ? -1 : real(fd, to, n, at); }
ssize_t pread64(int fd, void *to, size_t n, off64_t at) { REAL(pread64); return is_on_fd("read", fd) ? -1 : real(fd, to, n, at); }
int flock(int fd, int how) { REAL(flock); return (how & LOCK_EX) && is_on_fd("flock", fd) ? -1 : real(fd, how); }
int fsync(int fd) {
    REAL(fsync);
    struct stat s;
    return fstat(fd, &s) == 0 && S_ISDIR(s.st_mode) && is_on_fd("syncdir", fd) ? -1 : real(fd);
}
"""  # noqa: E501 - C


def preloaded(folder: Path, *, error: str, calls: str = "open", path: str, after_bytes: int = 0) -> dict[str, str]:
    """Variables of an environment in which calls for files fail while the file `folder/faults` is there.

    Args:
        folder: where the library is built, and the switch lies; it is on at first.
        error: a name of `errno`.
        calls: of open, stat, read, flock (exclusive) and syncdir (fsync of a folder), joined by commas.
        path: part of the names of the files concerned.
        after_bytes: reading fails from that offset on.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.uname().sysname != "Linux":
        pytest.skip("no C compiler, or no Linux: failing system calls were NOT tried")
    folder.mkdir(parents=True, exist_ok=True)
    library, source, switch = folder / "faults.so", folder / "faults.c", folder / "faults"
    if not library.exists():
        source.write_text(_SOURCE)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    switch.touch()
    return {
        "LD_PRELOAD": str(library),
        "FAULT_CALLS": calls,
        "FAULT_PATH": path,
        "FAULT_ERRNO": str(getattr(errno, error)),
        "FAULT_SWITCH": str(switch),
        "FAULT_AFTER": str(after_bytes),
    }


def decoders_of(pid: int) -> list[psutil.Process]:
    """The decoding processes among the descendants of a process."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "genrebeam.features.child" in process.cmdline():
                    found.append(process)
    return found


@contextlib.contextmanager
def kill_decoders(
    pid: int, *, times: int, how: signal.Signals = signal.SIGKILL, after_s: float = 0.0
) -> Iterator[list]:
    """Kill that many decoding processes of a process, each when it has worked; yields the list of those killed.

    Args:
        after_s: processor time beyond its start that each may use first, in seconds.
    """
    killed: list[int] = []
    done = threading.Event()

    def hunt() -> None:
        began: dict[int, float] = {}
        while not done.is_set() and len(killed) < times:
            for process in decoders_of(pid):
                with contextlib.suppress(psutil.Error):
                    used_s = sum(process.cpu_times()[:2])
                    if used_s - began.setdefault(process.pid, used_s) >= after_s and process.pid not in killed:
                        process.send_signal(how)
                        killed.append(process.pid)
                        break
            time.sleep(0.01)

    hunter = threading.Thread(target=hunt, daemon=True)
    hunter.start()
    try:
        yield killed
    finally:
        done.set()
        hunter.join()
