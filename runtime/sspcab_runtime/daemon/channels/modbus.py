"""Triggers over Modbus/TCP: the daemon is the server, the line's controller writes and reads registers.

Each triggered camera is a unit. Its registers, the same as holding and as input registers, big-endian:

====================  ======================================================================================
0, 1                  part, a 32-bit number
2                     deadline in milliseconds from now on; 0: the camera's own
3                     sequence number, not 0; writing it is the trigger
16 + 8 x (seq % 64)   the answer to that sequence number, 8 registers: sequence, decision, reason,
                      milliseconds from trigger to decision, part (2), score (2, IEEE 754 single)
====================  ======================================================================================

Modbus has neither passwords nor encryption: whoever reaches the port may trigger.
"""

from __future__ import annotations

import asyncio
import importlib.util
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, get_args

from sspcab_edge.errors import ConfigError, MissingPackageError
from sspcab_runtime.daemon.addresses import split_listen
from sspcab_runtime.daemon.config import ModbusConfig
from sspcab_runtime.daemon.kept_thread import KeptThread
from sspcab_runtime.daemon.parts import Decision, PartDecision, Reason, Trigger
from sspcab_runtime.daemon.status import Observed

if TYPE_CHECKING:
    from pymodbus.constants import ExcCodes

__all__ = ["ANSWERS_AT", "ANSWERS_KEPT", "ANSWER_REGISTERS", "ModbusTriggers", "parse_answer"]

_PART, _DEADLINE, _SEQUENCE = 0, 2, 3
ANSWERS_AT, ANSWERS_KEPT, ANSWER_REGISTERS = 16, 64, 8
_ANSWER = struct.Struct(">HHHHIf")
_DECISIONS: tuple[str, ...] = get_args(Decision)
_REASONS: tuple[str, ...] = get_args(Reason)
_LONGEST_MS = 60_000
_START_S = 5.0
_LOOK_S = 0.1


def parse_answer(registers: Sequence[int]) -> tuple[int, str, str, int, int, float]:
    """The eight registers of an answer: sequence, decision, reason, milliseconds, part, score.

    The decision is ``""`` while there is none.
    """
    sequence, decision, reason, latency, part, score = _ANSWER.unpack(struct.pack(">8H", *registers))
    if decision == 0:
        return sequence, "", "", latency, part, score
    return sequence, _DECISIONS[decision - 1], _REASONS[reason - 1], latency, part, score


class _Unit:
    """The registers of one camera."""

    def __init__(self, camera: str, deadline_s: float, observed: Observed) -> None:
        self._camera, self._deadline_s, self._observed = camera, deadline_s, observed
        self._lock = threading.Lock()
        self._answers = [0] * (ANSWERS_KEPT * ANSWER_REGISTERS)

    async def action(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """What the server does before it reads or writes registers; an exception code refuses."""
        from pymodbus.constants import ExcCodes

        if not written:
            with self._lock:
                registers[ANSWERS_AT - start : ANSWERS_AT - start + len(self._answers)] = self._answers
            return None
        if address + count > ANSWERS_AT:
            return ExcCodes.ILLEGAL_ADDRESS
        if not address <= _SEQUENCE < address + count:
            return None
        request = [*registers[: _SEQUENCE + 1]]
        request[address : _SEQUENCE + 1] = [int(value) for value in written[: _SEQUENCE + 1 - address]]
        sequence, deadline_ms = request[_SEQUENCE], request[_DEADLINE]
        if sequence == 0 or deadline_ms > _LONGEST_MS:
            return ExcCodes.ILLEGAL_VALUE
        received_s = time.monotonic()
        within_s = deadline_ms / 1e3 if deadline_ms else self._deadline_s
        part = request[_PART] << 16 | request[_PART + 1]
        self._store(sequence, _ANSWER.pack(sequence, 0, 0, 0, part, 0.0))
        self._observed.trigger(
            Trigger(
                camera=self._camera, part=str(part), received_s=received_s, deadline_s=received_s + within_s
            ),
            partial(self._answer, sequence, part),
        )
        return None

    def _answer(self, sequence: int, part: int, decision: PartDecision) -> None:
        self._store(
            sequence,
            _ANSWER.pack(
                sequence,
                1 + _DECISIONS.index(decision.decision),
                1 + _REASONS.index(decision.reason),
                min(round(decision.latency_ms), 0xFFFF),
                part,
                float("nan") if decision.score is None else decision.score,
            ),
        )

    def _store(self, sequence: int, packed: bytes) -> None:
        at = sequence % ANSWERS_KEPT * ANSWER_REGISTERS
        with self._lock:
            self._answers[at : at + ANSWER_REGISTERS] = struct.unpack(">8H", packed)


class ModbusTriggers:
    """Listens, and keeps the last 64 answers of each camera.

    Args:
        config: Where to listen and which unit is which camera.
        observed: The daemon.
        deadlines: Default seconds for a part, by triggered camera.

    Raises:
        MissingPackageError: pymodbus is not installed.
    """

    def __init__(self, config: ModbusConfig, observed: Observed, deadlines: Mapping[str, float]) -> None:
        if importlib.util.find_spec("pymodbus") is None:
            raise MissingPackageError("pymodbus", "daemon", "triggers over Modbus")
        self._listen = config.listen
        self._units = {
            unit: _Unit(camera, deadlines[camera], observed) for camera, unit in config.units.items()
        }
        self._listening = threading.Event()
        self._failed: OSError | None = None
        self.thread = KeptThread("modbus triggers", self._run)

    def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: The address cannot be listened on.
        """
        self.thread.start()
        if not self._listening.wait(_START_S) or self._failed is not None:
            reason = self._failed.strerror if self._failed is not None else "no answer"
            raise ConfigError(f"modbus: cannot listen on {self._listen}: {reason}")

    def stop(self, seconds: float) -> None:
        """Hang up."""
        self.thread.join(seconds)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            if self._listening.is_set():
                raise
            self._failed = error  # at the start, whoever starts is told
            self.thread.ending.set()
            self._listening.set()

    async def _serve(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        host, port = split_listen(self._listen)
        size = ANSWERS_AT + ANSWERS_KEPT * ANSWER_REGISTERS
        devices = [
            SimDevice(
                unit, [SimData(0, values=0, count=size, datatype=DataType.REGISTERS)], action=registers.action
            )
            for unit, registers in self._units.items()
        ]
        server = ModbusTcpServer(devices, address=(host, port))
        try:
            if not await server.listen():
                raise OSError(0, "the address is in use, or is not this machine's")
            self._listening.set()
            while not self.thread.ending.is_set():
                await asyncio.sleep(_LOOK_S)
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]
