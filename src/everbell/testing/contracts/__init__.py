"""The store's contract: every obligation of ``everbell.ports.store`` as a test in its words.

An engine proves itself by a fixture ``store`` (empty, fresh) and a subclass of each class here::

    class TestClaims(ClaimsContract): ...
"""

from everbell.testing.contracts.audit import AuditContract
from everbell.testing.contracts.claims import ClaimsContract
from everbell.testing.contracts.cluster import ClusterContract
from everbell.testing.contracts.definitions import DefinitionsContract
from everbell.testing.contracts.history import HistoryContract
from everbell.testing.contracts.jobs import JobsContract
from everbell.testing.contracts.ledger import LedgerContract
from everbell.testing.contracts.placement import PlacementContract
from everbell.testing.contracts.queue import QueueContract
from everbell.testing.contracts.recovery import RecoveryContract
from everbell.testing.contracts.sharing import SharingContract
from everbell.testing.contracts.withdrawal import WithdrawalContract

__all__ = [
    "AuditContract",
    "ClaimsContract",
    "ClusterContract",
    "DefinitionsContract",
    "HistoryContract",
    "JobsContract",
    "LedgerContract",
    "PlacementContract",
    "QueueContract",
    "RecoveryContract",
    "SharingContract",
    "WithdrawalContract",
]
