"""What every suite does with its report: print it, write it, and say by the exit code what to think of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sspcab_bench.report import encode
from sspcab_edge.errors import OutputError
from sspcab_runtime.cache import write_atomically

__all__ = ["STRICT", "check_output", "give", "strict_exit", "write"]

STRICT = 4
"""Exit code of ``--strict`` where a report has warnings."""


def check_output(*outputs: Path | None) -> None:
    """Refuse before a long measurement what could not be written after it.

    Raises:
        OutputError: The folder of one does not exist.
    """
    for output in outputs:
        if output is not None and not output.absolute().parent.is_dir():
            raise OutputError(
                f"{output.absolute().parent} does not exist: make it, or write {output.name} elsewhere"
            )


def write(output: Path, data: bytes) -> None:
    """Write it whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        write_atomically(output, data)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}") from error


def give(report: dict[str, Any], text: str, as_json: bool, output: Path | None) -> None:
    """Print a report as text or JSON, and write it as JSON too where that is wanted."""
    data = encode(report)
    click.echo(data.decode() if as_json else text, nl=not as_json)
    if output is not None:
        write(output, data)


def strict_exit(context: click.Context, strict: bool, warnings: Sequence[str]) -> None:
    """Exit 4 where ``--strict`` was given and there is anything to warn of."""
    if strict and warnings:
        click.echo(f"sspcab-bench: --strict, and {len(warnings)} warnings", err=True)
        context.exit(STRICT)
