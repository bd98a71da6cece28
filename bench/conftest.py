"""`pytest bench/` in one process: pytest-benchmark measures in none that has neighbours."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """The project's default, `--dist`, is for tests; -n on the command line still counts."""
    if not getattr(config.option, "numprocesses", None) and hasattr(config.option, "dist"):
        config.option.dist = "no"
