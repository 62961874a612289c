"""Makes engines lie, hang, crawl or crash, and threads fail, by files in ``$SSPCAB_TEST_FAULTS``.

Python imports this by itself where the folder is on the path. The product knows nothing of it. Files:
``shift`` (is added to all scores), ``slow`` (seconds per call), ``hang``, ``crash``. ``opened`` is made
when an engine is. In the daemon itself, ``throw`` names a thread that an error is raised in, once;
the file is removed then.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_TARGET = "sspcab_runtime.engines.base"


def _patch(module: ModuleType) -> None:
    folder = Path(os.environ["SSPCAB_TEST_FAULTS"])
    engine: Any = module.GraphEngine
    infer = engine.infer

    def broken(self: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if (folder / "crash").exists():
            os.abort()
        while (folder / "hang").exists():
            time.sleep(0.05)
        if (folder / "slow").exists():
            time.sleep(float((folder / "slow").read_text()))
        outputs = dict(infer(self, inputs))
        if (folder / "shift").exists():
            outputs["score"] = outputs["score"] + float((folder / "shift").read_text())
        return outputs

    engine.infer = broken
    make = engine.__init__

    def noted(self: Any, *arguments: Any, **named: Any) -> None:
        (folder / "opened").touch()
        make(self, *arguments, **named)

    engine.__init__ = noted


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _TARGET:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def execute(module: ModuleType) -> None:
            load(module)
            _patch(module)

        spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def _throw() -> None:
    file = Path(os.environ["SSPCAB_TEST_FAULTS"]) / "throw"
    while True:
        time.sleep(0.1)
        if not file.exists():
            continue
        name = file.read_text()
        file.unlink()
        for thread in threading.enumerate():
            if thread.name == name and thread.ident is not None:
                error = ctypes.py_object(ArithmeticError)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), error)


if "SSPCAB_TEST_FAULTS" in os.environ and any("daemon.cli" in word for word in sys.orig_argv):
    threading.Thread(target=_throw, daemon=True).start()

if "SSPCAB_TEST_FAULTS" in os.environ and any("daemon.worker" in word for word in sys.orig_argv):
    sys.meta_path.insert(0, _Finder())
