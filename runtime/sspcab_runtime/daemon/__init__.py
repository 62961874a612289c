"""The on-device daemon: cameras and triggers in, events out, for years.

::

    capture process (one a camera) ──slots──┐
                                            ├─> supervisor ─> alarms ─> evidence ─> store ─> sinks
    worker process (one a bundle) <─slots──>┘        │
                                                     └─> health, metrics, page

Whatever can hang or crash in native code is a process that can be killed. Frames lie in shared memory; what
passes between processes are small messages about them.
"""

__all__: list[str] = []
