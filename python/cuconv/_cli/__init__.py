"""The command line: `cuconv` and `python -m cuconv`.

`main` alone ends the process. Whatever the user can cause (a bad file, a wrong option, a full disk)
ends in one line on stderr and exit code 2; a traceback means a defect in cuconv.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

USER_ERROR = 2
INTERRUPTED = 128 + signal.SIGINT
EXTRAS = ("click", "rich", "cv2", "matplotlib")  # what "cuconv[cli]" brings


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    arguments = sys.argv[1:] if arguments is None else arguments
    # A killed process unwinds like an interrupted one, so that no temporary file stays behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows "?", not a traceback
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except OSError as error:
        code = _complain(f"cannot write to the standard output: {error.strerror}")
        # What is still buffered goes nowhere, or Python would report it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    missing = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    if missing and list(arguments) == ["info"]:
        from cuconv.config import show_config

        show_config()
        return 0
    if missing:
        return _complain(
            f"the command line needs {', '.join(missing)}, not installed here: "
            'pip install "cuconv[cli]"'
        )

    import click

    from cuconv._cli._group import group
    from cuconv.errors import CudaError, CudaUnavailableError, UnsupportedError

    try:
        code = group.main(list(arguments), prog_name="cuconv", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        return _complain(error.format_message())
    except (CudaError, CudaUnavailableError, UnsupportedError, ImportError) as error:
        return _complain(str(error))
    except MemoryError as error:
        return _complain(f"not enough memory: {error}")
    except OSError as error:
        text = error.strerror or str(error)
        return _complain(f"{error.filename}: {text}" if error.filename else text)
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        return INTERRUPTED


def _complain(message: str) -> int:
    """Prints one line, whatever the message contains."""
    print("cuconv:", " ".join(message.split()), file=sys.stderr)
    return USER_ERROR
