"""Where objects may be in a frame: one file for each way to look, and one line in the table."""

from sspcab_runtime.frontends.proposals.table import PROPOSERS, Proposer, open_proposer

__all__ = ["PROPOSERS", "Proposer", "open_proposer"]
