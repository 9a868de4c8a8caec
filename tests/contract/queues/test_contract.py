"""Both adapters obey the ports."""

from everbell.testing.contracts.queue_hints import (
    MessageQueuesContract,
    RegistryContract,
    WakeUpsContract,
)
from everbell.testing.contracts.queue_offers import ReadyQueueContract


class TestReadyQueue(ReadyQueueContract):
    """See the contract."""


class TestMessageQueues(MessageQueuesContract):
    """See the contract."""


class TestWakeUps(WakeUpsContract):
    """See the contract."""


class TestRegistry(RegistryContract):
    """See the contract."""
