"""Runs a GStreamer pipeline as ``gst-launch-1.0 -v`` does, but takes its words from standard input.

Every user of a machine can see the words of a command (ps), so a pipeline with a login must not be some. This
file is run by itself, with nothing of the project around it; what it prints is what ``gst`` reads.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["main"]

_NULL, _PLAYING, _FAILED = 1, 4, 0
_EOS, _ERROR = 1 << 0, 1 << 1
_WAIT_NS = 50_000_000


class _Problem(ctypes.Structure):
    """GError."""

    _fields_ = (("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p))


class _Message(ctypes.Structure):
    """GstMessage, up to its type: a GstMiniObject stands before it."""

    _fields_ = (
        ("kind", ctypes.c_size_t), ("references", ctypes.c_int), ("lock", ctypes.c_int),
        ("flags", ctypes.c_uint), ("copy", ctypes.c_void_p), ("dispose", ctypes.c_void_p),
        ("free", ctypes.c_void_p), ("parents", ctypes.c_uint), ("parent", ctypes.c_void_p),
        ("type", ctypes.c_int),
    )  # fmt: skip


def main() -> int:
    """Words separated by NUL on stdin; the element named ``sspcab`` has the caps that are printed."""
    words = sys.stdin.buffer.read().split(b"\0")
    try:
        gst = ctypes.CDLL("libgstreamer-1.0.so.0")
    except OSError:
        print("ERROR: libgstreamer-1.0.so.0 is not installed: apt-get install libgstreamer1.0-0", flush=True)
        return 1
    pointer = ctypes.c_void_p
    for name in ("parse_launchv", "bin_get_by_name", "element_get_static_pad", "element_get_bus",
                 "pad_get_current_caps", "caps_to_string", "bus_timed_pop_filtered"):  # fmt: skip
        getattr(gst, f"gst_{name}").restype = pointer
    gst.gst_init(None, None)
    problem = ctypes.POINTER(_Problem)()
    vector = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    pipeline = pointer(gst.gst_parse_launchv(vector, ctypes.byref(problem)))
    if not pipeline.value or problem:
        print(
            f"WARNING: erroneous pipeline: {_text(problem.contents.message) if problem else ''}", flush=True
        )
        return 1
    last = pointer(gst.gst_bin_get_by_name(pipeline, b"sspcab"))
    pad = pointer(gst.gst_element_get_static_pad(last, b"src"))
    bus = pointer(gst.gst_element_get_bus(pipeline))
    failed = gst.gst_element_set_state(pipeline, _PLAYING) == _FAILED
    shown = ""
    while True:
        caps = pointer(gst.gst_pad_get_current_caps(pad))
        if caps.value:
            text = _text(ctypes.cast(gst.gst_caps_to_string(caps), ctypes.c_char_p).value)
            if text != shown:
                shown = text
                print(f"/GstPipeline:pipeline0/GstIdentity:sspcab.GstPad:src: caps = {text}", flush=True)
            gst.gst_mini_object_unref(caps)
        message = pointer(
            gst.gst_bus_timed_pop_filtered(bus, ctypes.c_uint64(_WAIT_NS), ctypes.c_int(_EOS | _ERROR))
        )
        if message.value or failed:
            break
    if message.value and ctypes.cast(message, ctypes.POINTER(_Message)).contents.type == _ERROR:
        detail = ctypes.c_char_p()
        gst.gst_message_parse_error(message, ctypes.byref(problem), ctypes.byref(detail))
        print(f"ERROR: {_text(problem.contents.message)}\n{_text(detail.value)}", flush=True)
    elif failed:
        print("ERROR: the pipeline does not start", flush=True)
    gst.gst_element_set_state(pipeline, _NULL)
    return 1


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
