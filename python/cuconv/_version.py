"""The package's version, from its installed metadata or, in a source tree, from here."""

from importlib import metadata

try:
    __version__ = metadata.version("cuconv")
except metadata.PackageNotFoundError:
    __version__ = "0.1.0"
