"""A process that measures one artifact: ``python -m sspcab_bench.bundle_worker``.

It reads a job from stdin and answers on stdout, both JSON. A process of its own for each backend keeps their
peaks of memory, their threads and their first inferences apart.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import msgspec

from sspcab_bench.artifact import Job, Measured, measure_artifact
from sspcab_edge.errors import EdgeError

__all__ = ["Answer", "Problem", "main"]


@dataclass(frozen=True, slots=True)
class Problem:
    """An error that ended a measurement: the name of its class, and its text."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a measuring process says: one of the two."""

    measured: Measured | None = None
    problem: Problem | None = None


def main() -> None:
    """Do the job on stdin and answer on stdout; what libraries print there goes to stderr instead."""
    answers = os.dup(1)
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        answer = Answer(measured=measure_artifact(job))
    except EdgeError as error:
        answer = Answer(problem=Problem(type(error).__name__, str(error)))
    except KeyboardInterrupt:
        os._exit(130)  # the process that waits for the answer tells the user
    with os.fdopen(answers, "wb") as stream:
        stream.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
