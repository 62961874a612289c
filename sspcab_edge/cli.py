"""``sspcab-edge``: what is neither exporting, running nor benchmarking."""

from __future__ import annotations

from sspcab_edge.command import LazyGroup, common_options, run

__all__ = ["VERBS", "group", "main"]

VERBS: dict[str, tuple[str, str]] = {
    "doctor": ("sspcab_runtime.doctor:command", "Say what this machine has, and what is missing."),
    "inspect": ("sspcab_runtime.inspect:command", "Show what is in a bundle."),
    "verify": ("sspcab_runtime.verify:command", "Replay a bundle's parity pack on this device."),
    "tune": ("sspcab_runtime.tune_command:command", "Find the fastest way to run a bundle here."),
    "fit": ("sspcab_runtime.fit:command", "Fit a bundle's threshold to normal pictures."),
    "evaluate": ("sspcab_runtime.evaluate_command:command", "Judge labelled pictures: how good a bundle is."),
    "demo": ("sspcab_edge.demo:command", "Export, verify, run and benchmark the demo detector."),
}

group = common_options(
    LazyGroup(
        VERBS,
        name="sspcab-edge",
        help="Anomaly detectors with the SSPCAB block, on edge devices: check, verify and adjust bundles.",
    )
)


def main() -> None:
    """Entry point of ``sspcab-edge``."""
    run(group, "sspcab-edge")


if __name__ == "__main__":
    main()
