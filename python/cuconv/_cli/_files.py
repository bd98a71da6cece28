"""Files that appear whole or not at all; one that cannot be written is the user's error."""

from __future__ import annotations

from pathlib import Path

from cuconv import _files
from cuconv._cli._errors import CliError


def write_atomically(path: Path, data: bytes) -> None:
    try:
        _files.write_atomically(path, data)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror or error}") from None
