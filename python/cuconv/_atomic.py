"""Files that appear whole or not at all, and small JSON files that several processes write.

A reader needs no lock: it sees the old file or the new one. Writers take turns, so that each adds
to what the one before it wrote.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_BYTES = 8 << 20  # of a JSON file that is read; what cuconv writes is far smaller
LOCK_SECONDS = 5.0  # a writer holds the lock for some milliseconds
LOCK_POLL = 0.002
SUFFIX = ".tmp"


def replace_file(file: Path, data: bytes) -> None:
    """Writes beside the target and renames: a failure leaves the old file, or none."""
    target = Path(os.path.realpath(file))  # a link keeps pointing where it did
    temporary = target.with_name(f"{temporary_prefix(target)}{secrets.token_hex(8)}{SUFFIX}")
    try:
        # Opened by hand, not by tempfile: the file gets the permissions a new file should have.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with open(handle, "wb") as out:
            out.write(data)
            out.flush()
            # A full disk may show only now. And the new name must not outlive a power failure that
            # its content does not.
            os.fsync(out.fileno())
        if target.exists():
            os.chmod(temporary, target.stat().st_mode & 0o7777)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def temporary_prefix(target: Path) -> str:
    return f".{target.name[:40]}-"  # cut: a name may be as long as the file system takes


def sync_folder(folder: Path) -> None:
    """The renaming itself outlives a power failure. Some file systems cannot; the file is whole."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ---- JSON ----


def read_json(file: Path) -> Any:
    """What a file holds. Raises OSError (FileNotFoundError where there is none) or ValueError.

    Whatever lies there: a pipe or a device is not waited for, a huge file not read.
    """
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is not a regular file")
        with open(handle, "rb", closefd=False) as source:
            data = source.read(MOST_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextmanager
def sole_writer(file: Path) -> Iterator[Path]:
    """The file to write, while no other process does. Raises OSError; TimeoutError is one.

    The lock is flock's, on a file beside the target (the target itself is replaced, and a lock on
    it with it). The kernel takes it back from a process that was killed, so none is ever stale.
    """
    target = Path(os.path.realpath(file))
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f"{target.name}.lock")
    # It stays: were it removed, two writers could hold locks on two files of one name.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(lock, flags, 0o666)
    try:
        acquire(handle, lock)
        try:
            remove_leftovers(target)
            yield target
        finally:
            # Said aloud: a child forked meanwhile has a copy of the handle that outlives ours.
            fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def acquire(handle: int, lock: Path) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"another process holds {lock}") from None
        time.sleep(LOCK_POLL)


def remove_leftovers(target: Path) -> None:
    """Temporary files of killed writers. To be called by the sole writer: those of others are."""
    prefix = temporary_prefix(target)
    with os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def update_json(file: Path, change: Callable[[], Any]) -> None:
    """Replaces a file by what `change` returns, or removes it where that is None.

    Other writers wait from before `change` is called, so it can read the file and add to it.
    """
    with sole_writer(file) as target:
        value = change()
        if value is None:
            target.unlink(missing_ok=True)
            return
        data = json.dumps(value, sort_keys=True, allow_nan=False)
        replace_file(target, data.encode() + b"\n")
