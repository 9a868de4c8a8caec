"""A database that is taken away under a node: nothing more is acknowledged into nowhere."""

import shutil

import pytest

from everbell.domain.errors import StoreCorrupt
from everbell.stores.sqlite import SqliteStore


async def opened(tmp_path):
    return await SqliteStore.open(tmp_path / "everbell.db")


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
async def test_a_file_taken_away_is_noticed(tmp_path, how):
    store = await opened(tmp_path)
    try:
        await store.change_counter()
        file = tmp_path / "everbell.db"
        if how == "removed":
            file.unlink()
        else:
            file.rename(tmp_path / "old.db")
        if how == "replaced":
            shutil.copy(tmp_path / "old.db", file)
        with pytest.raises(StoreCorrupt) as caught:
            await store.change_counter()
        assert "while it was in use" in caught.value.message
        assert "stop every node" in caught.value.hint
    finally:
        await store.close()


async def test_a_database_in_memory_has_no_file_to_lose():
    store = await SqliteStore.open(":memory:")
    await store.change_counter()
    await store.close()
