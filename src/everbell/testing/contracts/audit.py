"""The audit log: no change without its entry, no entry without its change."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everbell.domain.audit import AuditEntry, digest
from everbell.domain.errors import ConflictError, EverbellError, NotFoundError
from everbell.domain.run import RunKey
from everbell.ports.store import NewJob, NewRun, Store
from everbell.testing.contracts.making import NOW, add_job, credential, hold, node, project


def entry(what: str = "project.create", **rest: object) -> AuditEntry:
    return replace(
        AuditEntry(at_us=NOW, who="ann", what=what, kind=what.split(".", maxsplit=1)[0]), **rest
    )


class AuditContract:
    """``audited``, ``list_audit``, ``purge_audit``."""

    async def test_a_change_and_its_entry_are_one(self, store: Store) -> None:
        full = entry(credential_id=7, address="::1", request_id="req_1", before="b")
        made = await store.audited(full).add_project(project("a"))
        (found,) = await store.list_audit(None, 10)
        assert found == replace(full, id=1, target="1", project_id=1, after=digest(made))
        await store.add_project(project("b"))
        assert len(await store.list_audit(None, 10)) == 1

    async def test_what_is_refused_leaves_no_entry(self, store: Store) -> None:
        await store.add_project(project("a"))
        noted = store.audited(entry())
        with pytest.raises(ConflictError):
            await noted.add_project(replace(project("a"), uuid="other"))
        with pytest.raises(NotFoundError):
            await noted.delete_project(9)
        with pytest.raises(NotFoundError):
            await noted.delete_job(9, NOW)
        job = await add_job(store, "j", project_id=1)
        with pytest.raises(EverbellError):
            await noted.change_job(job, job.version + 1, NOW)
        assert await store.list_audit(None, 10) == []

    async def test_each_of_several_jobs_has_its_entry(self, store: Store) -> None:
        job = await add_job(store)
        new = [
            NewJob(
                uuid=f"u{n}",
                project_id=job.project_id,
                definition=replace(job.definition, name=f"n{n}"),
                next_slot_us=None,
            )
            for n in range(3)
        ]
        made = await store.audited(entry("job.create")).add_jobs(new, NOW)
        found = await store.list_audit(None, 10)
        assert [it.target for it in found] == [str(it.id) for it in reversed(made)]
        assert {it.after for it in found} == {digest(it) for it in made}
        assert {it.project_id for it in found} == {job.project_id}

    async def test_every_changing_verb_is_noted(self, store: Store) -> None:
        def noted(what: str) -> Store:
            return store.audited(entry(what, target="t"))

        own = await noted("1").add_project(project())
        await noted("2").change_project(replace(own, name="n"))
        key = await noted("3").add_credential(credential())
        await noted("4").change_credential(replace(key, archived=True))
        job = await add_job(store, "j", project_id=own.id)
        job, _ = await noted("5").change_job(job, job.version, NOW)
        held, _ = await noted("6").add_hold(hold("job", job.id))
        await noted("7").release(held.id, "skip", NOW)
        run = NewRun(
            key=RunKey(NOW, job.id, "m"),
            project_id=own.id,
            version=job.version,
            trigger="manual",
            due_us=NOW,
        )
        for _ in range(2):
            await noted("8").enqueue(run, NOW)
        for _ in range(2):
            await noted("9").request_cancel(run.key, NOW)
        await noted("10").delete_job(job.id, NOW)
        await noted("11").delete_project(own.id)
        found = await store.list_audit(None, 50)
        assert [it.what for it in reversed(found)] == [str(n) for n in range(1, 12)]

    async def test_what_is_done_to_nodes_is_noted_once(self, store: Store) -> None:
        await store.heartbeat(node())
        await store.leave("n1", NOW)

        def noted(what: str) -> Store:
            return store.audited(entry(what, kind="node", target="n1"))

        for _ in range(2):
            await noted("drain").drain("n1", "why", NOW)
        for _ in range(2):
            await noted("resume").resume("n1")
        await noted("remove").remove_node("n1", NOW)
        with pytest.raises(NotFoundError):
            await noted("resume").resume("n1")
        found = await store.list_audit(None, 9)
        told = [(it.what, it.kind, it.target) for it in reversed(found)]
        assert told == [(what, "node", "n1") for what in ("drain", "resume", "remove")]

    async def test_entries_are_listed_by_project_and_page(self, store: Store) -> None:
        for name in "abc":
            await store.audited(entry()).add_project(project(name))
        assert [it.id for it in await store.list_audit(None, 2)] == [3, 2]
        assert [it.id for it in await store.list_audit(None, 2, 2)] == [1]
        assert [it.id for it in await store.list_audit((1, 3), 9)] == [3, 1]
        assert await store.list_audit((), 9) == []

    async def test_purge_forgets_old_entries(self, store: Store) -> None:
        for number, name in enumerate("abc"):
            await store.audited(entry(at_us=NOW + number)).add_project(project(name))
        assert await store.purge_audit(NOW + 2) == 2
        assert [it.id for it in await store.list_audit(None, 9)] == [3]
