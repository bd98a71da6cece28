"""Where cuconv keeps what it has measured on this machine."""

from __future__ import annotations

import os
from pathlib import Path

DIRECTORY_VARIABLE = "CUCONV_CACHE_DIR"


def cache_folder() -> Path:
    """`CUCONV_CACHE_DIR`, else the user's cache folder."""
    folder = os.environ.get(DIRECTORY_VARIABLE)
    if not folder:
        try:
            import platformdirs

            folder = platformdirs.user_cache_dir("cuconv", appauthor=False)
        except ImportError:
            folder = os.path.join(os.path.expanduser("~"), ".cache", "cuconv")
    return Path(folder)
