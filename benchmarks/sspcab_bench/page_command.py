"""``sspcab-bench page``: reports as a page to look at."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from sspcab_bench.giving import check_output, write
from sspcab_bench.page import html_page
from sspcab_edge.command import LocalPath, common_options
from sspcab_edge.errors import InputError

__all__ = ["page"]


@click.command("page", short_help="Reports as one HTML page.")
@click.argument("reports", nargs=-1, required=True, type=LocalPath(dir_okay=False, exists=True))
@click.option(
    "-o",
    "--output",
    required=True,
    type=LocalPath(dir_okay=False),
    help="The page to write.",
)
@common_options
def page(reports: tuple[Path, ...], output: Path) -> None:
    """Draw REPORTS (JSON of sspcab-bench BUNDLE and of sspcab-bench sustained) as one HTML page.

    The page has everything in it: no script, no network, light and dark, readable on a phone.
    """
    check_output(output)
    read = []
    for path in reports:
        try:
            report = msgspec.json.decode(path.read_bytes())
            html_page([report])
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(
                f"{path} is no report of sspcab-bench BUNDLE or sspcab-bench sustained: {error!r}"
            ) from error
        read.append(report)
    write(output, html_page(read).encode())
    click.echo(f"wrote {output}")
