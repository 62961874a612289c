"""The frame around every command: errors in one line, exit codes, logging, verbs imported on use."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, TypeVar

import click

from sspcab_edge import __version__
from sspcab_edge.errors import EdgeError
from sspcab_edge.local_path import local_path
from sspcab_edge.printable import one_line
from sspcab_edge.shown_address import shown_text

__all__ = ["PATH", "LazyGroup", "LocalPath", "common_options", "json_option", "run"]

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})

_Command = TypeVar("_Command", bound=Callable[..., Any])


def run(command: click.Command, name: str) -> NoReturn:
    """Run a command and exit: 0 fine, 1 an EdgeError, 2 usage, 3 a gate not passed, 130 Ctrl-C.

    An EdgeError is one line on stderr, with its traceback after ``-v``. SIGTERM is treated as Ctrl-C, so that
    what is half-written is removed.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    sys.excepthook = _say_crash
    try:
        code = command.main(prog_name=name, standalone_mode=False)
    except EdgeError as error:
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            logging.getLogger(name).debug("traceback", exc_info=error)
        click.echo(f"{name}: {one_line(shown_text(str(error)))}", err=True)
        if error.advice is not None:
            click.echo(f"  {error.advice}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        click.echo(shown_text(said.getvalue()), err=True, nl=False)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"{name}: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # files are mapped where they are written: what is left is standard output
        if error.errno not in _UNWRITABLE:
            raise
        click.echo(f"{name}: cannot write to standard output: {error.strerror}", err=True)
        _forget_output()
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _forget_output() -> None:
    """Let nothing be written at exit that cannot be."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The traceback of a bug, as Python prints it, without the logins that its texts may hold."""
    sys.stderr.write(shown_text("".join(traceback.format_exception(kind, error, trace))))


class _Lines(logging.Formatter):
    """Log lines without the logins of addresses."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several where there is a traceback."""
        return shown_text(super().format(record))


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


class LocalPath(click.Path):
    """What :func:`sspcab_edge.local_path.local_path` reads, as the type of an option.

    Raises:
        OptionError: As there.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(path_type=Path, **attributes)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, checked as :class:`click.Path` does."""
        return super().convert(local_path(value), param, ctx)


PATH: Final = LocalPath()
"""The type of an option that wants nothing else of its path."""


def common_options(command: _Command) -> _Command:
    """Add ``--verbose`` and ``--version``, the options that every command has."""
    verbose = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set_up_logging,
        help="Log every step, and show tracebacks.",
    )
    version = click.version_option(__version__, package_name="sspcab-edge", message="%(version)s")
    return verbose(version(command))


def json_option(command: _Command) -> _Command:
    """Add ``--json``: results for machines on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")(command)


def _set_up_logging(context: click.Context, parameter: click.Parameter, verbose: bool) -> None:
    del parameter
    if context.resilient_parsing or (not verbose and logging.getLogger().handlers):
        return
    level = logging.DEBUG if verbose else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in ("torch", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


class LazyGroup(click.Group):
    """A group whose verbs live in other packages and are imported when they are used.

    ``table`` maps a verb to ``("module:attribute", "its help in one line")``.
    """

    def __init__(self, table: dict[str, tuple[str, str]], **attributes: Any) -> None:
        super().__init__(**attributes)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name not in self.table:
            return None
        module, attribute = self.table[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, help_) for verb, (_, help_) in self.table.items()])
