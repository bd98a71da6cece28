"""Files that a command writes."""

from __future__ import annotations

from pathlib import Path

from cuconv._atomic import replace_file
from cuconv._cli._errors import CliError


def write_atomically(path: Path, data: bytes) -> None:
    """The file appears whole or not at all."""
    if path.exists() and not path.is_file():
        raise CliError(f"cannot write {path}: it is not a regular file")
    try:
        replace_file(path, data)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror or error}") from None
