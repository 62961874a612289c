"""Bundles on disk: opened only when every byte is what the manifest says, written whole or not at all."""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sspcab_edge.errors import BundleError, OutputError
from sspcab_edge.local_path import local_path
from sspcab_edge.manifest import MANIFEST_NAME, FileEntry, Manifest, decode_manifest, encode_manifest

__all__ = ["Bundle", "check_output", "file_entry", "is_bundle", "replace_manifest", "staging", "write_bundle"]

MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_CHUNK = 1024 * 1024
_STAGING_SUFFIX = ".partial"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files were all checked against its manifest.

    Attributes:
        path: The folder.
        manifest: What it holds.
        digest: SHA-256 of the manifest's bytes; since they list every file's hash, of the whole bundle.
    """

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest and check that the folder holds exactly its files, unchanged.

        Raises:
            BundleError: No bundle; a file missing, changed or too many; a link; an unsafe path.
        """
        root = local_path(path)
        if not root.exists():
            raise BundleError(f"{root} does not exist, expected a bundle folder")
        if not is_bundle(root):
            raise BundleError(f"{root} is not a bundle: it has no {MANIFEST_NAME}")
        data = _read_manifest(root)
        manifest = decode_manifest(data)
        present = set(_files_below(root))
        listed = {entry.path for entry in manifest.files}
        for missing in sorted(listed - present):
            raise BundleError(f"{root} lacks {missing}, which its manifest lists: copy the bundle again")
        for extra in sorted(present - listed - {MANIFEST_NAME}):
            raise BundleError(f"{root} holds {extra}, which its manifest does not list: remove it")
        for entry in manifest.files:
            got = file_entry(root / entry.path, entry.path)
            if got != entry:
                what = "size" if got.size != entry.size else "SHA-256"
                raise BundleError(
                    f"{root / entry.path} was changed: its {what} is not the manifest's; copy it again"
                )
        return cls(root, manifest, hashlib.sha256(data).hexdigest())

    def file(self, path: str) -> Path:
        """The place of a listed file."""
        return self.path / path


def is_bundle(path: Path) -> bool:
    """Whether the folder calls itself a bundle (nothing is checked)."""
    return (path / MANIFEST_NAME).is_file()


def file_entry(path: Path, name: str) -> FileEntry:
    """Size and SHA-256 of the file at ``path``, listed as ``name``."""
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error
    return FileEntry(path=name, size=size, sha256=digest.hexdigest())


def _read_manifest(root: Path) -> bytes:
    path = root / MANIFEST_NAME
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error


def _files_below(root: Path) -> Iterator[str]:
    """Relative paths of all files, refusing links and whatever is no plain file."""
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise BundleError(f"{path} is not a plain file: a bundle holds neither links nor devices")
        for name in files:
            yield (Path(folder) / name).relative_to(root).as_posix()


def check_output(output: Path, force: bool) -> None:
    """Refuse early what :func:`write_bundle` would refuse late.

    Raises:
        OutputError: ``output`` exists and may not be replaced, or its parent folder does not exist.
    """
    if not output.parent.is_dir():
        raise OutputError(f"{output.parent} is not a folder: make it first, or choose another output")
    if not os.access(output.parent, os.W_OK):
        raise OutputError(f"{output.parent} is not writable")
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise OutputError(f"{output} exists and is no bundle: choose another output with -o")
    if output.is_dir() and any(output.iterdir()):
        if not is_bundle(output):
            raise OutputError(f"{output} is a folder with other content: choose another output with -o")
        if not force:
            raise OutputError(
                f"{output} exists already: choose another output with -o, or replace it with --force"
            )


@contextmanager
def staging(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` to build in; it is gone afterwards, whatever happens.

    It holds no manifest until :func:`write_bundle` moves it, so that it never looks like a bundle.

    Raises:
        OutputError: The disk is full or not writable (also for OSErrors raised inside the block).
    """
    folder = output.parent / f".{output.name}.{secrets.token_hex(4)}{_STAGING_SUFFIX}"
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_bundle(folder: Path, manifest: Manifest, output: Path, *, force: bool = False) -> Bundle:
    """Turn a finished staging folder into the bundle ``output``, in one step.

    ``manifest.files`` is filled in from the folder. An older bundle at ``output`` is exchanged atomically
    where the file system can, and stays untouched until then.

    Raises:
        OutputError: See :func:`check_output`; or the disk is full.
    """
    check_output(output, force)
    entries = tuple(file_entry(folder / name, name) for name in sorted(_files_below(folder)))
    finished = Manifest(**{**{f: getattr(manifest, f) for f in manifest.__struct_fields__}, "files": entries})
    data = encode_manifest(finished)
    decode_manifest(data)
    for entry in entries:
        _sync(folder / entry.path)
    _write_synced(folder / MANIFEST_NAME, data)
    _move_into_place(folder, output)
    return Bundle(output, finished, hashlib.sha256(data).hexdigest())


def replace_manifest(bundle: Bundle, manifest: Manifest) -> Bundle:
    """Give a bundle another manifest (a new threshold, say) in one atomic step; its files stay.

    Raises:
        OutputError: The folder is not writable or the disk is full.
    """
    data = encode_manifest(manifest)
    decode_manifest(data)
    beside = bundle.path.parent / f".{bundle.path.name}.{secrets.token_hex(4)}{_STAGING_SUFFIX}"
    try:
        _write_synced(beside, data)
        beside.replace(bundle.path / MANIFEST_NAME)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OutputError(f"cannot write {bundle.path / MANIFEST_NAME}: {error.strerror}") from error
    return Bundle(bundle.path, manifest, hashlib.sha256(data).hexdigest())


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _move_into_place(folder: Path, output: Path) -> None:
    if not output.exists():
        folder.rename(output)
    elif _exchange(folder, output):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        old = output.parent / f".{output.name}.{secrets.token_hex(4)}.old"
        output.rename(old)
        try:
            folder.rename(output)
        except OSError:
            old.rename(output)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders atomically (Linux renameat2 with RENAME_EXCHANGE); False where that is missing."""
    at_cwd, exchange = -100, 2
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), exchange) == 0)
