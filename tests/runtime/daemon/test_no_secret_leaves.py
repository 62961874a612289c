"""A password in an address, wherever it stands there, and nothing of it in what the programs give away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from definitions.asking_rtsp import AskingRtsp
from definitions.fake_camera import FakeCamera, noisy_scene
from definitions.running_daemon import RunningDaemon, wait_for

pytest.importorskip("av", reason="PyAV is not installed: no cameras")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: no daemon")

SECRET = "Zx9geheim"
FORMS = [
    "rtsp://admin:{}@127.0.0.1:9/live",
    "rtsp://admin:a/{}@127.0.0.1:9/live",
    "rtsp://admin:1/{}/2@127.0.0.1:9/live",
    "rtsp://admin:{}#a@127.0.0.1:9/live",
    "rtsp://admin:{}?a@127.0.0.1:9/live",
    "rtsp://admin:a@{}@127.0.0.1:9/live",
    "rtsp://ad min:{}@127.0.0.1:9/live",
    "rtsp://127.0.0.1:9/user=admin_password={}_channel=1_stream=0.sdp?real_stream",
    "rtsp://127.0.0.1:9/user=admin&password={}&channel=1",
    "http://127.0.0.1:9/video?usr=admin&pwd={}",
    "http://127.0.0.1:9/video?token={}",
    "http://127.0.0.1:9/video#auth={}",
    "http://127.0.0.1:9/token/{}/video",
    "http://127.0.0.1:{}/video",
    "http:/admin:{}@127.0.0.1/video",
    "admin:{}@127.0.0.1/live",
    "127.0.0.1/user=admin_password={}",
    "ftp://admin:{}@127.0.0.1/x.jpg",
    "file://admin:{}@127.0.0.1/x.jpg",
    "gst:rtspsrc location=rtsp://admin:{}@127.0.0.1:9/live ! rtph264depay ! avdec_h264",
    "gst:rtspsrc location=rtsp://127.0.0.1:9/live user-id=admin user-pw={} ! rtph264depay ! avdec_h264",
    "gst:user-pw={}",
]
PROGRAM = """
import importlib, json, os, sys
module = importlib.import_module(sys.argv[1])
for number, words in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if child == 0:
        out = os.open(f"{sys.argv[2]}/{number}", os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv = ["program", *words]
        module.main()
    os.waitpid(child, 0)
"""


def said(module: str, commands: list[list[str]], folder: Path) -> list[str]:
    """What each of the commands of a program writes, each in a process of its own."""
    folder.mkdir()
    words = [sys.executable, "-c", PROGRAM, module, str(folder)]
    alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # a fork of several threads may hang
    environment = {**os.environ, **alone}
    subprocess.run(words, input=json.dumps(commands), text=True, check=True, timeout=240, env=environment)
    return [(folder / str(number)).read_text() for number in range(len(commands))]


def filled(form: str) -> str:
    return form.replace("{}", SECRET)


def test_sspcab_run(pristine: Path, tmp_path: Path) -> None:
    sources = [*map(filled, FORMS), f"http://127.0.0.1:9/x?p={SECRET}"]
    commands = [[str(pristine), source, "--json", "-v"] for source in sources]
    files = [filled(form) for form in FORMS if form.startswith(("ftp", "file", "admin"))]
    commands.append([str(pristine), *files])
    commands.append([str(pristine), sources[0], sources[1]])
    commands.append([str(pristine), sources[-1], "--user", "admin", "--password", SECRET])
    commands.append([str(pristine), sources[-1], "--user", f"admin:{SECRET}"])
    for command, text in zip(commands, said("sspcab_runtime.cli", commands, tmp_path / "said"), strict=True):
        assert text.startswith(("program: ", "sspcab-run: ", "Usage: ", "DEBUG ")), text
        assert SECRET not in text, command


def test_other_programs(pristine: Path, tmp_path: Path) -> None:
    sources = [filled(form) for form in FORMS]
    verbs = (["inspect"], ["fit", str(pristine)], ["evaluate", str(pristine)], ["doctor", "--device-report"])
    commands = [[*verbs[number % len(verbs)], source] for number, source in enumerate(sources)]
    for command, text in zip(commands, said("sspcab_edge.cli", commands, tmp_path / "edge"), strict=True):
        assert "sspcab-edge" in text or "Usage" in text, (command, text)
        assert SECRET not in text, command
    begin = f"[bundles.tiny]\npath = '{pristine}'\n"
    commands = []
    for number, source in enumerate(sources):
        file = tmp_path / f"{number}.toml"
        file.write_text(f"{begin}[cameras.one]\nsource = '{source}'\nbundle = 'tiny'\n")
        at = ["--config", str(file)]
        commands.append(
            ["check", *at] if number % 2 else ["learn", *at, "--camera", "one", "--source", source]
        )
    commands += [["learn", *at, "--camera", "one"], ["status", *at]]
    tables = [
        f"[sinks.a]\nkind = 'webhook'\nurl = 'http://admin:{SECRET}@127.0.0.1/x'",
        f"[sinks.a]\nkind = 'webhook'\nurl = 'http://admin:1/{SECRET}@127.0.0.1/x'",
        f"[sinks.a]\nkind = 'webhook'\nurl = 'http://admin:{SECRET}/1@127.0.0.1/x'",
        f"[sinks.a]\nkind = 'mqtt'\nhost = 'mqtt://admin:{SECRET}@127.0.0.1'\nuser = 'a'\npassword = 'env:X'",
        f"[sinks.a]\nkind = 'mqtt'\nhost = '127.0.0.1'\nuser = 'a'\npassword = '{SECRET}'",
        f"[web]\nlisten = 'admin:{SECRET}@127.0.0.1:80'",
    ]
    for number, table in enumerate(tables):
        file = tmp_path / f"table{number}.toml"
        file.write_text(f"{begin}[cameras.one]\nsource = 'rtsp://127.0.0.1/x'\nbundle = 'tiny'\n{table}\n")
        commands.append(["check", "--config", str(file)])
    texts = said("sspcab_runtime.daemon.cli", commands, tmp_path / "daemon")
    for command, text in zip(commands, texts, strict=True):
        assert SECRET not in text, command
        if "table" in command[-1]:
            assert text.startswith("sspcab-daemon: "), text


def children(of: int) -> Iterator[int]:
    """All processes that a process started, and those that these did."""
    for found in Path(f"/proc/{of}/task").glob("*/children"):
        for child in map(int, found.read_text().split()):
            yield child
            yield from children(child)


def test_the_daemon(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA", SECRET)
    camera, rtsp = FakeCamera(noisy_scene(96, 128)), AskingRtsp(['Digest realm="c", nonce="n"'])
    sources = {
        "fine": f"{camera.uri}?channel=1&pwd={SECRET}",
        "path": f"rtsp://127.0.0.1:9/user=admin_password={SECRET}_channel=1_stream=0.sdp?real_stream",
        "part": f"http://127.0.0.1:9/token/{SECRET}/video",
        "file": f"127.0.0.1/user=admin_password={SECRET}",
        "login": rtsp.uri,
    }
    if shutil.which("gst-launch-1.0") is not None:
        sources["gst"] = f"gst:videotestsrc is-live=true name=token={SECRET} ! video/x-raw,width=64,height=48"
        sources["lost"] = f"gst:rtspsrc location=rtsp://a:{SECRET}@127.0.0.1:9/x user-pw={SECRET} ! decodebin"
    cameras = "".join(
        f"[cameras.{name}]\nsource = '{source}'\nbundle = 'tiny'\nuser = 'admin'\npassword = 'env:CAMERA'\n"
        f"open_s = 1.0\n[cameras.{name}.alarm]\nthreshold = 0.0\nneeded = 1\nof = 1\n"
        for name, source in sources.items()
    )
    sinks = (
        f"[sinks.hook]\nkind = 'webhook'\nurl = 'http://127.0.0.1:9/{SECRET}?token={SECRET}'\n"
        "token = 'env:CAMERA'\n[sinks.lines]\nkind = 'jsonl'\npath = 'lines.jsonl'\n"
        "[sinks.broker]\nkind = 'mqtt'\nhost = '127.0.0.1'\nport = 9\nuser = 'a'\npassword = 'env:CAMERA'\n"
    )
    given: list[bytes] = []
    lines = tmp_path / "lines.jsonl"
    with RunningDaemon(tmp_path, f"[bundles.tiny]\npath = '{pristine}'\n{cameras}{sinks}") as daemon:
        wait_for(lambda: daemon.answers(), 30, "a page")

        def all_heard() -> bool:
            lost = lines.exists() and all(name in lines.read_text() for name in sources)
            return lost and daemon.camera("fine")["scored"] > 3 and len(rtsp.logins()) > 2

        wait_for(all_heard, 40, "an event of every camera")
        words = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(daemon.pid)]
        assert any(b"gst_child" in word for word in words) == ("gst" in sources)
        given += words
        pages = ["/", "/health", "/events", "/metrics", "/readyz", "/healthz", "/api/status", "/api/cameras"]
        pages += ["/api/events?limit=500", *(f"/cameras/{name}" for name in sources), "/picture/fine.jpg"]
        given += [daemon.request(page)[1] for page in pages]
        for more in ([], ["--json"]):
            asked = [sys.executable, "-m", "sspcab_runtime.daemon.cli", "status", *more]
            asked += ["--config", str(tmp_path / "edge.toml")]
            done = subprocess.run(asked, capture_output=True, check=False)
            assert b"fine" in done.stdout
            given += [done.stdout, done.stderr]
        given += ["\n".join(daemon.said()).encode()]
        daemon.stop()
        given.append(daemon.log.encode())
    camera.kill()
    rtsp.close()
    kept = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "edge.toml"]
    assert lines in kept
    assert any("evidence" in str(file) for file in kept)
    for data in (*given, *(file.read_bytes() for file in kept)):
        assert SECRET.encode() not in data, data[:2000]
    assert b"127.0.0.1:9" in given[-1], "which camera it is can be told"
