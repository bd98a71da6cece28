"""The group of commands and its help."""

import click

from cuconv._cli.bench import bench
from cuconv._cli.check import check
from cuconv._cli.demo import demo
from cuconv._cli.filter import filter_image
from cuconv._cli.info import info
from cuconv._cli.tune import tune
from cuconv._version import __version__


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="cuconv")
@click.pass_context
def group(context: click.Context) -> None:
    """Convolution for CuPy and NumPy arrays: try it, test it, see what this machine has.

    \b
    Start here:
      cuconv demo                                   pictures of what convolutions do
      cuconv check --quick                          does everything here compute correctly?
      cuconv filter photo.jpg edges.png -k sobel    filter an image file
      cuconv bench --quick                          how fast is it here, beside whom?
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (info, check, filter_image, demo, tune, bench):
    group.add_command(command)
