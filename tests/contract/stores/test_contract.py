"""Every engine obeys the port."""

from everbell.testing import contracts


class TestDefinitions(contracts.DefinitionsContract):
    """See the contract."""


class TestJobs(contracts.JobsContract):
    """See the contract."""


class TestWithdrawal(contracts.WithdrawalContract):
    """See the contract."""


class TestClaims(contracts.ClaimsContract):
    """See the contract."""


class TestQueue(contracts.QueueContract):
    """See the contract."""


class TestLedger(contracts.LedgerContract):
    """See the contract."""


class TestRecovery(contracts.RecoveryContract):
    """See the contract."""


class TestHistory(contracts.HistoryContract):
    """See the contract."""


class TestCluster(contracts.ClusterContract):
    """See the contract."""


class TestAudit(contracts.AuditContract):
    """See the contract."""


class TestSharing(contracts.SharingContract):
    """``set_limit``, ``list_limits``, ``delete_limit``, and ``then``."""


class TestPlacement(contracts.PlacementContract):
    """See the contract."""
