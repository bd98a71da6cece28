"""The error that a user can mend: one line, exit code 2."""

import click


class CliError(click.ClickException):
    exit_code = 2
