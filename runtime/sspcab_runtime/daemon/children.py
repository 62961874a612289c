"""Child processes: started as modules with one end of a wire, killed and reaped without waiting for ever."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
from typing import Generic, TypeVar

import msgspec

from sspcab_runtime.daemon.wire import Wire, WireClosed, pair

__all__ = ["Child", "adopt"]

_In = TypeVar("_In")

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


class Child(Generic[_In]):
    """A child as its parent sees it.

    Args:
        module: Run as ``python -m module``; its ``main`` begins with :func:`adopt`.
        incoming: Type of what the child says.
        environment: Variables on top of this process's own.

    Attributes:
        wire: To the child; it does not block.
        stderr: Descriptor of what it writes to stderr; it does not block.

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(self, module: str, incoming: type[_In], environment: dict[str, str] | None = None) -> None:
        ours, theirs = pair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C is for the parent; a kill of the group reaches grandchildren
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        assert self._process.stderr is not None
        self.stderr = self._process.stderr.fileno()
        os.set_blocking(self.stderr, False)
        ours.setblocking(False)
        self.wire: Wire[_In] = Wire(ours, incoming)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, message: msgspec.Struct, fds: tuple[int, ...] = ()) -> bool:
        """Send a message; False where the child is gone or does not read."""
        try:
            self.wire.send(message, fds)
        except WireClosed:
            return False
        return True

    def exited(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs. Reaps it."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL it and all that it started. It still has to be reaped: :meth:`exited`."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def wait(self, seconds: float) -> bool:
        """Wait for its end for so long at most; whether it ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Close what this process holds of it: wire and stderr."""
        self.wire.close()
        assert self._process.stderr is not None
        self._process.stderr.close()


def adopt(arguments: list[str], incoming: type[_In]) -> Wire[_In]:
    """What a child does first: tie its life to its parent's, give up privileges, take its end of the wire.

    Args:
        arguments: ``sys.argv`` without the program: descriptor and parent, from :class:`Child`.
        incoming: Type of what the parent says.

    Raises:
        SystemExit: It was not started by :class:`Child`, or the parent is gone.
    """
    import socket

    if len(arguments) != 2 or not all(value.isdigit() for value in arguments):
        raise SystemExit("this is a part of sspcab-daemon, which starts it by itself")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.current_thread().name = "main"
    if os.getppid() != int(arguments[1]):
        raise SystemExit("the daemon is gone")
    try:
        end = socket.socket(fileno=int(arguments[0]))
    except OSError as error:
        raise SystemExit(f"no wire to the daemon: {error.strerror}") from error
    end.set_inheritable(False)
    return Wire(end, incoming)
