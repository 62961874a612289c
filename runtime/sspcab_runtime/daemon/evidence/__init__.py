"""Pictures of events: what a person looks at to decide whether an alarm was right."""

from sspcab_runtime.daemon.evidence.keeper import EvidenceKeeper

__all__ = ["EvidenceKeeper"]
