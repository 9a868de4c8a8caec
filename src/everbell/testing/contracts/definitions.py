"""Projects, credentials, remembered answers and named values."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everbell.domain.errors import ConflictError, NotFoundError, StoreConflict
from everbell.ports.store import Page, Store
from everbell.testing.contracts.making import (
    NOW,
    add_job,
    credential,
    hold,
    project,
)


class DefinitionsContract:
    """Projects, credentials, ``remember`` and ``meta``."""

    async def test_a_project_gets_an_id_of_its_own(self, store: Store) -> None:
        first = await store.add_project(project("a"))
        second = await store.add_project(replace(project("b"), id=77))
        assert (first.id, second.id) == (1, 2)
        assert await store.get_project(2) == replace(project("b"), id=2)

    async def test_names_of_projects_are_unique(self, store: Store) -> None:
        first = await store.add_project(project("a"))
        second = await store.add_project(project("b"))
        with pytest.raises(ConflictError) as caught:
            await store.add_project(replace(project("a"), uuid="other"))
        assert caught.value.hint
        with pytest.raises(ConflictError):
            await store.change_project(replace(second, name="a"))
        await store.change_project(first)

    async def test_a_project_is_found_by_id_uuid_or_name_in_this_order(self, store: Store) -> None:
        a = await store.add_project(project("a"))
        await store.add_project(project("1"))
        other = await store.add_project(replace(project("x"), name="uuid-a"))
        assert await store.get_project(1) == a
        assert await store.get_project("1") == a
        assert await store.get_project("uuid-a") == a
        assert await store.get_project("uuid-x") == other
        assert (await store.get_project("a")).id == 1

    @pytest.mark.parametrize("key", [0, -1, 9, 2**70, "9", "nobody", "", "٣", "9" * 40])
    async def test_a_key_of_nothing_is_not_found(self, store: Store, key: int | str) -> None:
        for get in (store.get_project, store.get_credential, store.get_job):
            with pytest.raises(NotFoundError):
                await get(key)

    async def test_projects_are_listed_in_order_of_id_and_counted(self, store: Store) -> None:
        for name in "cab":
            await store.add_project(project(name))
        listed, total = await store.list_projects(None, Page(limit=2, offset=1))
        assert ([it.name for it in listed], total) == (["a", "b"], 3)
        listed, total = await store.list_projects((3, 1, 99), Page())
        assert ([it.id for it in listed], total) == ([1, 3], 2)
        assert await store.list_projects((), Page()) == ([], 0)

    async def test_changing_a_project_stores_name_and_description(self, store: Store) -> None:
        old = await store.add_project(project("a"))
        new = replace(old, name="n", description="e", updated_us=NOW + 1)
        assert await store.change_project(replace(new, uuid="no", created_us=1)) == new
        with pytest.raises(NotFoundError):
            await store.change_project(replace(new, id=9))

    async def test_a_project_is_changed_or_deleted_only_as_expected(self, store: Store) -> None:
        old = await store.add_project(project("a"))
        new = replace(old, name="n", updated_us=NOW + 1)
        for again in (store.change_project(new, NOW - 1), store.delete_project(old.id, NOW - 1)):
            with pytest.raises(StoreConflict):
                await again
        assert await store.get_project(old.id) == old
        assert await store.change_project(new, NOW) == new
        with pytest.raises(StoreConflict):
            await store.change_project(new, NOW)
        for gone in (store.change_project(replace(new, id=9), 1), store.delete_project(9, 1)):
            with pytest.raises(NotFoundError):
                await gone
        await store.delete_project(old.id, NOW + 1)
        assert await store.list_projects(None, Page()) == ([], 0)

    async def test_a_project_that_has_jobs_cannot_be_deleted(self, store: Store) -> None:
        job = await add_job(store)
        with pytest.raises(ConflictError):
            await store.delete_project(job.project_id)
        await store.delete_job(job.id, NOW)
        await store.delete_project(job.project_id)
        with pytest.raises(NotFoundError):
            await store.delete_project(job.project_id)

    async def test_with_a_project_go_its_hold_and_the_use_of_its_keys(self, store: Store) -> None:
        own = await store.add_project(project())
        await store.add_hold(hold("project", own.id))
        key = await store.add_credential(credential(project_id=own.id))
        await store.delete_project(own.id)
        assert await store.list_holds() == []
        assert (await store.get_credential(key.id)).archived

    async def test_a_credential_is_found_by_id_uuid_or_api_key(self, store: Store) -> None:
        stored = await store.add_credential(credential(expires_us=5, project_id=3))
        assert stored == credential(id=1, expires_us=5, project_id=3)
        for key in (1, "1", "uuid-c", "key-c"):
            assert await store.get_credential(key) == stored
        assert await store.find_credential("key-c") == stored
        assert await store.find_credential("1") is None
        with pytest.raises(ConflictError):
            await store.add_credential(credential(uuid="other"))

    async def test_changing_a_credential_stores_hashes_scopes_expiry_and_archived(
        self, store: Store
    ) -> None:
        old = await store.add_credential(credential())
        new = replace(
            old,
            secret_hash="h2",
            old_hash="h1",
            old_until_us=9,
            scopes=("admin",),
            expires_us=8,
            archived=True,
        )
        assert await store.change_credential(replace(new, api_key="no", name="no")) == new
        assert await store.get_credential(old.id) == new
        with pytest.raises(NotFoundError):
            await store.change_credential(replace(new, id=9))

    async def test_credentials_are_listed_in_order_of_id_and_counted(self, store: Store) -> None:
        for name in "cab":
            await store.add_credential(credential(name))
        listed, total = await store.list_credentials(Page(limit=1, offset=2))
        assert ([it.name for it in listed], total) == (["b"], 3)

    async def test_an_answer_is_remembered_once(self, store: Store) -> None:
        assert await store.remember("s", "k", b"one", NOW) is None
        assert await store.remember("s", "k", b"two", NOW) == b"one"
        assert await store.remember("t", "k", b"", NOW) is None
        assert await store.remember("t", "k", b"x", NOW) == b""

    async def test_purge_forgets_old_answers(self, store: Store) -> None:
        await store.remember("s", "old", b"1", NOW)
        await store.remember("s", "new", b"1", NOW + 5)
        assert await store.purge(NOW + 5, 10) == 0
        assert await store.remember("s", "old", b"2", NOW) is None
        assert await store.remember("s", "new", b"2", NOW) == b"1"

    async def test_a_named_value_is_set_only_if_none_is_there(self, store: Store) -> None:
        assert await store.meta("k") == ""
        assert await store.meta("k", "1") == "1"
        assert await store.meta("k", "2") == "1"
        assert await store.meta("k") == "1"

    async def test_close_may_be_called_twice(self, store: Store) -> None:
        await store.close()
        await store.close()
