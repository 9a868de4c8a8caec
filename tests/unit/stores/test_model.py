"""Random verbs: SQLite answers as the oracle in memory does."""

from hypothesis import settings

from everbell.ports.store import Store
from everbell.stores.sqlite import SqliteStore
from everbell.testing.contracts.model import Model, done


class SqliteModel(Model):
    """The default engine, without its threads."""

    def open(self) -> Store:
        store: Store = done(SqliteStore.open(":memory:", inline=True))
        return store


TestModel = SqliteModel.TestCase
TestModel.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, derandomize=True
)
