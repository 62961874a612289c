"""Triggered mode: every part exactly one answer, in time, whatever happens meanwhile."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.fake_camera import FakeCamera
from definitions.running_daemon import RunningDaemon, free_port, wait_for
from sspcab_runtime.daemon.config import TriggerConfig
from sspcab_runtime.daemon.parts import PartDecision, Trigger
from sspcab_runtime.daemon.triggered import PartQueue

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["trigger", "frame", "judged", "failed", "camera", "engine", "ready", "tick"]),
        st.floats(0.0, 0.4),
    ),
    max_size=60,
)


@given(_STEPS)
def test_each_part_is_decided_once_and_in_time(steps: list[tuple[str, float]]) -> None:
    queue = PartQueue("one", TriggerConfig(delay_s=0.05, waiting=4))
    now, number, parts = 0.0, 0, 0
    taken: dict[int, float] = {}
    triggers: dict[str, Trigger] = {}
    decided: list[tuple[PartDecision, float]] = []
    queue.engine_ready()
    for what, wait in steps:
        now += wait
        made: list[PartDecision] = []
        # the supervisor wakes up at every deadline
        while (due := queue.next_deadline()) is not None and due <= now:
            decided += [(decision, due) for decision in queue.tick(due)]
        if what == "trigger":
            parts += 1
            trigger = Trigger(camera="one", part=str(parts), received_s=now, deadline_s=now + 0.5)
            triggers[trigger.part] = trigger
            made = queue.trigger(trigger, now)
        elif what == "frame":
            number += 1
            taken[number] = now
            queue.frame(now, number)
        elif what == "judged":
            made = queue.judged(number, 1.0, 0.5, True, now)
        elif what == "failed":
            made = queue.failed(number, "engine", "", now)
        elif what == "camera":
            made = queue.camera_fault("gone", now)
        elif what == "engine":
            made = queue.engine_fault("gone", now)
        elif what == "ready":
            queue.engine_ready()
        else:
            made = queue.tick(now)
        decided += [(decision, now) for decision in made]
    decided += [(decision, now) for decision in queue.close("stopped", now)]
    assert Counter(decision.part for decision, _ in decided) == Counter(list(triggers))
    for decision, at in decided:
        trigger = triggers[decision.part]
        assert at <= trigger.deadline_s
        if decision.decision != "no decision":
            assert decision.frame is not None
            assert taken[decision.frame] >= trigger.received_s + 0.05


@pytest.fixture
def line(toml: str) -> str:
    """A camera that looks at parts."""
    return toml.replace('bundle = "tiny"\n', 'bundle = "tiny"\nmode = "triggered"\n').replace(
        "threshold = 10.0", "threshold = 0.6"
    )


def test_a_line_of_parts(tmp_path: Path, line: str, camera: FakeCamera, scale: int) -> None:
    """Row 8: parts = pass + fail + no decision, each once, none after its deadline; faults mixed in."""
    parts, deadline_s, workers = 10_000 if scale > 1 else 300, 0.4, 8
    answers: dict[str, tuple[dict[str, Any], float]] = {}
    lock, chance = threading.Lock(), random.Random(8)
    with RunningDaemon(tmp_path, line) as daemon:
        wait_for(lambda: any("READY=1" in text for text in daemon.said()), 20, "ready")
        wait_for(lambda: daemon.camera()["state"] == "fine", 10, "a camera")
        names = iter(range(parts))

        def ask() -> None:
            while True:
                with lock:
                    number = next(names, None)
                    pause = chance.uniform(0, 0.06)
                if number is None:
                    return
                body = json.dumps({"part": f"p{number}", "deadline_ms": deadline_s * 1e3}).encode()
                begin = time.monotonic()
                code, data = daemon.request("/api/cameras/one/parts", method="POST", body=body)
                took = time.monotonic() - begin
                assert code == 200, data
                with lock:
                    answers[f"p{number}"] = (json.loads(data), took)
                time.sleep(pause)

        threads = [threading.Thread(target=ask) for _ in range(workers)]
        for thread in threads:
            thread.start()
        step = 0
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.7)
            step += 1
            camera.mode = "same" if step % 5 == 3 else "freeze" if step % 5 == 0 else "fine"
            daemon.fault("slow", "0.6" if step % 4 == 2 else None)
        for thread in threads:
            thread.join()
        counted = Counter(found["decision"] for found, _ in answers.values())
        reasons = Counter(found["reason"] for found, _ in answers.values())
        print(f"{parts} parts: {dict(counted)}, {dict(reasons)}")
        assert len(answers) == parts == sum(counted.values())
        assert counted["no decision"] > 0
        assert counted["pass"] + counted["fail"] > parts / 4
        assert all(found["latency_ms"] <= deadline_s * 1e3 for found, _ in answers.values())
        wait_for(lambda: sum(daemon.camera()["parts"].values()) == parts, 3, "all parts counted")
        again = json.loads(daemon.request("/api/cameras/one/parts", method="POST", body=b'{"part": "p0"}')[1])
        assert again["repeated"]
        assert again["decision"] == answers["p0"][0]["decision"]
        daemon.stop()


def test_parts_over_modbus(tmp_path: Path, line: str, camera: FakeCamera) -> None:
    """A controller writes four registers and finds the answer in eight, in time; what is wrong is refused."""
    from pymodbus.client import ModbusTcpClient

    from sspcab_runtime.daemon.channels.modbus import ANSWER_REGISTERS, ANSWERS_AT, ANSWERS_KEPT, parse_answer

    port = free_port()
    toml = line.replace(
        "[cameras.one.integrity]", '[cameras.one.trigger]\nchannel = "modbus"\n[cameras.one.integrity]'
    )
    toml += f'[modbus]\nlisten = "127.0.0.1:{port}"\nunits = {{one = 7}}\n'
    with RunningDaemon(tmp_path, toml) as daemon:
        wait_for(lambda: any("READY=1" in text for text in daemon.said()), 20, "ready")
        wait_for(lambda: daemon.camera()["state"] == "fine", 10, "a camera")
        client: Any = ModbusTcpClient("127.0.0.1", port=port)
        assert client.connect()
        decisions = []
        for sequence in range(1, 81):
            part = 70_000 + sequence
            if sequence == 60:
                camera.mode = "freeze"
            wrote = client.write_registers(0, [part >> 16, part & 0xFFFF, 400, sequence], device_id=7)
            assert not wrote.isError()
            begin = time.monotonic()
            while True:
                at = ANSWERS_AT + sequence % ANSWERS_KEPT * ANSWER_REGISTERS
                answer = parse_answer(
                    client.read_input_registers(at, count=ANSWER_REGISTERS, device_id=7).registers
                )
                assert answer[0] == sequence
                assert answer[4] == part
                if answer[1]:
                    break
                assert time.monotonic() - begin < 0.5
            decisions.append(answer[1:4])
        counted = Counter(decision for decision, _, _ in decisions)
        print(counted)
        assert sum(counted.values()) == 80
        assert counted["pass"] + counted["fail"] > 40
        assert counted["no decision"] >= 18
        assert all(latency_ms <= 400 for _, _, latency_ms in decisions)
        for address, values in ((0, [0, 1, 400, 0]), (0, [0, 1, 60_001, 5]), (16, [1]), (9999, [1])):
            assert client.write_registers(address, values, device_id=7).isError()
        assert client.write_registers(0, [0, 1, 0, 1], device_id=8).isError()
        wait_for(lambda: sum(daemon.camera()["parts"].values()) == 80, 3, "all parts counted")
        client.close()
        daemon.stop()
