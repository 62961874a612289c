"""Bundles that were changed by accident or on purpose are refused before any parser of theirs runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import BundleError
from sspcab_edge.manifest import decode_manifest, encode_manifest

Command = Callable[..., subprocess.CompletedProcess[str]]

FILES = [
    "model.fp32.onnx",
    "openvino/model.fp32.xml",
    "openvino/model.fp32.bin",
    "parity/000.png",
    "parity/index.json",
    "parity/maps.npz",
]


def flip_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x01
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_one_changed_bit(bundle_path: Path, name: str, where: str) -> None:
    path = bundle_path / name
    size = path.stat().st_size
    flip_byte(path, {"first": 0, "middle": size // 2, "last": size - 1}[where])
    with pytest.raises(BundleError, match=f"{name} was changed: its SHA-256 is not the manifest's"):
        Bundle.open(bundle_path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_grown_or_gone(bundle_path: Path, name: str) -> None:
    path = bundle_path / name
    data = path.read_bytes()
    for changed in (data[:-1], data + b"\0", b""):
        path.write_bytes(changed)
        with pytest.raises(BundleError, match="its size is not the manifest's"):
            Bundle.open(bundle_path)
    path.unlink()
    with pytest.raises(BundleError, match=f"lacks {name}, which its manifest lists"):
        Bundle.open(bundle_path)


@pytest.mark.parametrize("name", ["extra.onnx", "parity/extra.png", ".hidden", "openvino/deep/er/x"])
def test_a_file_too_many(bundle_path: Path, name: str) -> None:
    (bundle_path / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle_path / name).write_bytes(b"x")
    with pytest.raises(BundleError, match=f"holds {name}, which its manifest does not list"):
        Bundle.open(bundle_path)


@pytest.mark.parametrize("kind", ["link to the same", "link to elsewhere", "folder link", "dangling", "fifo"])
def test_what_is_no_plain_file(bundle_path: Path, tmp_path: Path, kind: str) -> None:
    victim = bundle_path / "model.fp32.onnx"
    if kind == "link to the same":
        shutil.move(victim, tmp_path / "moved")
        victim.symlink_to(tmp_path / "moved")
    elif kind == "link to elsewhere":
        victim.unlink()
        victim.symlink_to("/etc/passwd")
    elif kind == "folder link":
        shutil.move(bundle_path / "parity", tmp_path / "parity")
        (bundle_path / "parity").symlink_to(tmp_path / "parity")
    elif kind == "dangling":
        (bundle_path / "more").symlink_to(tmp_path / "nothing")
    else:
        os.mkfifo(bundle_path / "pipe")
    with pytest.raises(BundleError, match="is not a plain file: a bundle holds neither links nor devices"):
        Bundle.open(bundle_path)


def rewrite(bundle_path: Path, change: Callable[[Any], None]) -> None:
    """Change a manifest as an attacker would: consistently, in its canonical form."""
    path = bundle_path / "manifest.json"
    plain = msgspec.json.decode(path.read_bytes())
    change(plain)
    path.write_bytes(msgspec.json.encode(plain))


@pytest.mark.parametrize(
    "name",
    [
        "../outside.onnx",
        "parity/../../outside.onnx",
        "/etc/passwd",
        "./model.fp32.onnx",
        "parity//000.png",
        "parity/",
        "",
        "..",
        "a\\..\\b",
        "manifest.json",
        "nul\0byte",
    ],
)
def test_paths_that_leave_the_bundle(bundle_path: Path, name: str) -> None:
    def change(plain: Any) -> None:
        plain["files"].append({"path": name, "size": 1, "sha256": "0" * 64})

    (bundle_path.parent / "outside.onnx").write_bytes(b"x")
    rewrite(bundle_path, change)
    with pytest.raises(BundleError, match="lists the unsafe path"):
        Bundle.open(bundle_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema=2), "has schema 2, expected 1"),
        (lambda m: m.pop("schema"), "has schema None, expected 1"),
        (lambda m: m.update(more=1), "unknown field `more`"),
        (lambda m: m["decision"].update(more=1), "unknown field `more`"),
        (lambda m: m.pop("ports", m.pop("inputs")), "missing required field `inputs`"),
        (lambda m: m["artifacts"][0].update(target="tpu"), "Invalid enum value 'tpu'"),
        (
            lambda m: m["artifacts"][0].update(files=["other.onnx"]),
            "refers to 'other.onnx', which it does not",
        ),
        (lambda m: m["artifacts"][0].update(files=[]), "has no files for artifact onnx-fp32"),
        (lambda m: m["artifacts"].append(m["artifacts"][0]), "expected one or more, each once"),
        (lambda m: m.update(artifacts=[]), "expected one or more, each once"),
        (lambda m: m["files"].append(m["files"][0]), "lists a file twice"),
        (lambda m: m["files"][0].update(sha256="xyz"), "no usable size and SHA-256"),
        (lambda m: m["files"][0].update(size=-1), "no usable size and SHA-256"),
        (lambda m: m["parity_pack"].update(index="parity/none.json"), "refers to 'parity/none.json'"),
        (lambda m: m["preprocess"].update(width=10**6), "asks for frames of 1000000x24 pixels"),
        (lambda m: m["preprocess"].update(width=0), "asks for frames of 0x24 pixels"),
        (
            lambda m: m["artifacts"][0].update(score_map={"artifact": [0, 1], "source": [1, 1]}),
            "the score map of onnx-fp32 is not strictly increasing",
        ),
    ],
)
def test_manifests_that_contradict_themselves(
    bundle_path: Path, change: Callable[[Any], None], message: str
) -> None:
    rewrite(bundle_path, change)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle_path)


def test_a_manifest_cut_anywhere(bundle_path: Path) -> None:
    path = bundle_path / "manifest.json"
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 2, 97), len(whole) - 2]:
        path.write_bytes(whole[:length])
        with pytest.raises(BundleError, match=r"manifest\.json is not JSON"):
            Bundle.open(bundle_path)


@pytest.mark.parametrize(
    "data",
    [b"null", b"[]", b"3", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"schema":1}', b'{"schema":true}'],
    ids=["null", "list", "number", "string", "bytes", "deep", "bare", "bool"],
)
def test_manifests_that_are_none(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest.json"):
        decode_manifest(data)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_noise_is_no_manifest(data: bytes) -> None:
    with pytest.raises(BundleError):
        decode_manifest(data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(position=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_manifest_with_one_other_byte_is_refused_or_another_bundle(
    pristine: Path, position: int, byte: int
) -> None:
    """Nothing but a BundleError ever comes out, and what is accepted has another digest."""
    data = bytearray((pristine / "manifest.json").read_bytes())
    position %= len(data)
    if data[position] == byte:
        return
    data[position] = byte
    try:
        manifest = decode_manifest(bytes(data))
    except BundleError:
        return
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_numbers_that_are_too_large_for_a_float(bundle_path: Path) -> None:
    path = bundle_path / "manifest.json"
    text = path.read_text()
    assert '"threshold": 0.6' in text
    path.write_text(text.replace('"threshold": 0.6', '"threshold": 1e999'))
    with pytest.raises(BundleError, match=r"not JSON|not a valid manifest"):
        Bundle.open(bundle_path)


def test_a_pack_that_is_none(bundle_path: Path) -> None:
    """Consistently forged, so that hashes match: still one clear line."""
    from sspcab_edge.bundle import file_entry
    from sspcab_runtime import Detector

    outside = b'{"name":"x","kind":"picture","file":"../x.png","score":0,"label":null}'
    for name, content in (
        ("parity/index.json", b'{"schema":1,"entries":[]}'),
        ("parity/index.json", b'{"schema":1,"entries":[%s]}' % outside),
        ("parity/index.json", b"nonsense"),
        ("parity/maps.npz", b"PK\x03\x04nonsense"),
        ("parity/000.png", b"no picture"),
    ):  # fmt: skip
        victim = shutil.copytree(bundle_path, bundle_path.parent / f"forged{abs(hash(content))}")
        (victim / name).write_bytes(content)
        entry = file_entry(victim / name, name)

        def change(plain: Any, entry: Any = entry, name: str = name) -> None:
            listed = next(e for e in plain["files"] if e["path"] == name)
            listed.update(size=entry.size, sha256=entry.sha256)

        rewrite(victim, change)
        with pytest.raises(BundleError, match=r"parity"):
            Detector.open(victim)


@pytest.mark.parametrize("module", ["sspcab_runtime.cli", "sspcab_edge.cli"])
def test_commands_say_it_in_one_line(command: Command, bundle_path: Path, folder: Path, module: str) -> None:
    flip_byte(bundle_path / "model.fp32.onnx", 40)
    arguments = (bundle_path, folder) if module.startswith("sspcab_runtime") else ("inspect", bundle_path)
    done = command(module, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "model.fp32.onnx was changed: its SHA-256 is not the manifest's; copy it again" in done.stderr
