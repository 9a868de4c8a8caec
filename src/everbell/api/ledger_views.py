"""The ledger's tools as the API shows them."""

from __future__ import annotations

from everbell.api import views
from everbell.api.ledger_shapes import SkippedOut
from everbell.services.skipping import Skipped


def skipped(it: Skipped) -> SkippedOut:
    """Show a skipped slot."""
    return SkippedOut(
        skipped=views.run(it.row, it.job),
        instead=None if it.run is None else views.run(it.run, it.job),
    )
