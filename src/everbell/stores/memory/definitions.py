"""Projects, credentials, jobs and holds in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from everbell.domain.decision import LeftBehind
from everbell.domain.errors import (
    ConflictError,
    credential_taken,
    job_changed,
    job_name_taken,
    no_such,
    project_changed,
    project_in_use,
    project_name_taken,
    slots_decided,
    too_many_jobs,
)
from everbell.domain.job import Job, JobVersion
from everbell.domain.records import Credential, Hold, Project
from everbell.ports.store import JobFilter, NewJob, Page, Revoked
from everbell.stores.memory.data import Data, by_id, covers, earliest, stored
from everbell.stores.memory.limits import MemoryLimits


class MemoryDefinitions(MemoryLimits):
    """Implements DefinitionStore; the obligations are written there."""

    def __init__(self) -> None:
        self._data = Data()

    async def add_project(self, project: Project) -> Project:
        """See DefinitionStore."""
        data = self._data
        for other in data.projects.values():
            if project.name == other.name or project.uuid == other.uuid:
                raise project_name_taken(project.name)
        added = replace(project, id=data.new_id("project"))
        data.projects[added.id] = added
        return added

    async def get_project(self, key: int | str) -> Project:
        """See DefinitionStore."""
        projects = self._data.projects
        found = by_id(projects, key)
        named = [it for it in projects.values() if it.uuid == key]
        named += [it for it in projects.values() if it.name == key]
        if found is None and not named:
            raise no_such("project", key)
        return found or named[0]

    async def list_projects(
        self, ids: tuple[int, ...] | None, page: Page
    ) -> tuple[list[Project], int]:
        """See DefinitionStore."""
        found = [it for it in self._data.projects.values() if ids is None or it.id in ids]
        return found[page.offset :][: page.limit], len(found)

    async def change_project(self, project: Project, expected_us: int | None = None) -> Project:
        """See DefinitionStore."""
        projects = self._data.projects
        old = projects.get(project.id)
        if old is None:
            raise no_such("project", project.id)
        _check_unchanged(old, expected_us)
        if any(it.name == project.name and it.id != project.id for it in projects.values()):
            raise project_name_taken(project.name)
        projects[old.id] = replace(
            old,
            name=project.name,
            description=project.description,
            updated_us=project.updated_us,
        )
        return projects[old.id]

    async def delete_project(self, project_id: int, expected_us: int | None = None) -> None:
        """See DefinitionStore."""
        data = self._data
        if project_id in data.projects:
            _check_unchanged(data.projects[project_id], expected_us)
        if any(job.project_id == project_id for job in data.jobs.values()):
            raise project_in_use()
        if project_id not in data.projects:
            raise no_such("project", project_id)
        del data.projects[project_id]
        _drop_holds(data, "project", project_id)
        for it in list(data.credentials.values()):
            if it.project_id == project_id:
                data.credentials[it.id] = replace(it, archived=True)

    async def add_credential(self, credential: Credential) -> Credential:
        """See DefinitionStore."""
        data = self._data
        for other in data.credentials.values():
            if credential.api_key == other.api_key or credential.uuid == other.uuid:
                raise credential_taken()
        added = replace(credential, id=data.new_id("credential"))
        data.credentials[added.id] = added
        return added

    async def find_credential(self, api_key: str) -> Credential | None:
        """See DefinitionStore."""
        found = [it for it in self._data.credentials.values() if it.api_key == api_key]
        return found[0] if found else None

    async def get_credential(self, key: int | str) -> Credential:
        """See DefinitionStore."""
        credentials = self._data.credentials
        found = by_id(credentials, key)
        named = [it for it in credentials.values() if it.uuid == key]
        named += [it for it in credentials.values() if it.api_key == key]
        if found is None and not named:
            raise no_such("credential", key)
        return found or named[0]

    async def list_credentials(self, page: Page) -> tuple[list[Credential], int]:
        """See DefinitionStore."""
        found = list(self._data.credentials.values())
        return found[page.offset :][: page.limit], len(found)

    async def change_credential(self, credential: Credential) -> Credential:
        """See DefinitionStore."""
        old = self._data.credentials.get(credential.id)
        if old is None:
            raise no_such("credential", credential.id)
        changed = replace(
            old,
            secret_hash=credential.secret_hash,
            scopes=credential.scopes,
            expires_us=credential.expires_us,
            archived=credential.archived,
            old_hash=credential.old_hash,
            old_until_us=credential.old_until_us,
        )
        self._data.credentials[old.id] = changed
        return changed

    async def add_jobs(
        self, jobs: Sequence[NewJob], now_us: int, most: int | None = None
    ) -> list[Job]:
        """See DefinitionStore."""
        data = self._data
        if most is not None:
            counts = Counter(job.project_id for job in data.jobs.values())
            counts.update(new.project_id for new in jobs)
            for new in jobs:
                if counts[new.project_id] > most:
                    raise too_many_jobs(counts[new.project_id], most)
        names = {(job.project_id, job.name) for job in data.jobs.values()}
        uuids = {job.uuid for job in data.jobs.values()}
        for new in jobs:
            if new.project_id not in data.projects:
                raise no_such("project", new.project_id)
            name = (new.project_id, new.definition.name)
            if name in names or new.uuid in uuids:
                raise job_name_taken(new.definition.name)
            names.add(name)
            uuids.add(new.uuid)
        return [self._add_job(new, now_us) for new in jobs]

    def _add_job(self, new: NewJob, now_us: int) -> Job:
        job = Job(
            id=self._data.new_id("job"),
            uuid=new.uuid,
            project_id=new.project_id,
            definition=stored(new.definition),
            version=1,
            enabled=new.enabled,
            created_us=now_us,
            updated_us=now_us,
            next_slot_us=new.next_slot_us,
        )
        self._store_version(job, now_us)
        return job

    def _store_version(self, job: Job, now_us: int) -> None:
        self._data.jobs[job.id] = job
        self._data.versions.setdefault(job.id, []).append(
            JobVersion(
                job_id=job.id,
                version=job.version,
                since_us=now_us,
                enabled=job.enabled,
                definition=job.definition,
            )
        )

    async def get_job(self, key: int | str) -> Job:
        """See DefinitionStore."""
        found = by_id(self._data.jobs, key)
        named = [job for job in self._data.jobs.values() if job.uuid == key]
        if found is None and not named:
            raise no_such("job", key)
        return found or named[0]

    async def get_jobs(self, ids: Sequence[int]) -> list[Job]:
        """See DefinitionStore."""
        jobs = self._data.jobs
        return [jobs[job_id] for job_id in sorted(set(ids)) if job_id in jobs]

    async def list_jobs(self, where: JobFilter, page: Page) -> tuple[list[Job], int]:
        """See DefinitionStore."""
        found = [job for job in self._data.jobs.values() if _matches(job, where)]
        return found[page.offset :][: page.limit], len(found)

    async def change_job(
        self,
        job: Job,
        expected_version: int,
        now_us: int,
        left_behind: LeftBehind | None = None,
    ) -> tuple[Job, Revoked]:
        """See DefinitionStore."""
        data = self._data
        old = data.jobs.get(job.id)
        if old is None:
            raise no_such("job", job.id)
        if old.version != expected_version:
            raise job_changed(job.id, old.version, expected_version)
        if left_behind is not None and (
            left_behind.cursor_us != old.next_slot_us or data.overlaps(job.id, left_behind.marks)
        ):
            raise slots_decided(job.id)
        for other in data.jobs.values():
            if other.id != old.id and (other.project_id, other.name) == (old.project_id, job.name):
                raise job_name_taken(job.name)
        if left_behind is not None:
            data.leave_behind(old, left_behind, now_us)
            old = data.jobs[job.id]
        keys = data.withdraw((job.id,), now_us)
        cursor = job.next_slot_us
        same = msgspec.json.encode(job.definition) == msgspec.json.encode(old.definition)
        if same and job.enabled:
            cursor = earliest(cursor, keys, job.id)
        changed = replace(
            old,
            definition=stored(job.definition),
            version=old.version + 1,
            enabled=job.enabled,
            parked=job.parked,
            quarantined=job.quarantined,
            failures=job.failures,
            next_slot_us=cursor,
            updated_us=now_us,
        )
        self._store_version(changed, now_us)
        for run in list(data.of_job(job.id).values()):
            data.skip_if_disabled(run, changed, now_us)
        return changed, Revoked(keys=keys)

    async def delete_job(
        self, job_id: int, now_us: int, expected_version: int | None = None
    ) -> Revoked:
        """See DefinitionStore."""
        data = self._data
        data.withdrawals += 1
        if job_id not in data.jobs:
            raise no_such("job", job_id)
        version = data.jobs[job_id].version
        if expected_version is not None and version != expected_version:
            raise job_changed(job_id, version, expected_version)
        runs = list(data.of_job(job_id).values())
        for run in runs:
            data.forget(run.key)
        for at in [at for at in data.output if at[0].job_id == job_id]:
            del data.output[at]
        del data.runs[job_id], data.jobs[job_id], data.versions[job_id]
        data.open.pop(job_id, None)
        _drop_holds(data, "job", job_id)
        claimed = (run.key for run in runs if run.state == "claimed" and run.due_us > now_us)
        return Revoked(keys=tuple(sorted(claimed)))

    async def job_versions(self, job_id: int) -> list[JobVersion]:
        """See DefinitionStore."""
        return list(self._data.versions.get(job_id, ()))

    async def add_hold(self, hold: Hold) -> tuple[Hold, Revoked]:
        """See DefinitionStore."""
        data = self._data
        for other in data.holds.values():
            if (hold.scope, hold.target_id) == (other.scope, other.target_id):
                message = f"this is held already ({hold.scope})"
                raise ConflictError(message, hint="release it first, or leave it")
        added = replace(hold, id=data.new_id("hold"))
        data.holds[added.id] = added
        jobs = [job for job in data.jobs.values() if covers(added, job)]
        keys = data.withdraw((job.id for job in jobs), hold.created_us)
        for job in jobs:
            cursor = earliest(job.next_slot_us, keys, job.id)
            data.jobs[job.id] = replace(job, next_slot_us=cursor)
        return added, Revoked(keys=keys)

    async def list_holds(self) -> list[Hold]:
        """See DefinitionStore."""
        return list(self._data.holds.values())

    async def release(
        self, hold_id: int, choice: Literal["skip", "once", "each"], now_us: int
    ) -> Hold:
        """See DefinitionStore."""
        data = self._data
        hold = data.holds.pop(hold_id, None)
        if hold is None:
            raise no_such("hold", hold_id)
        for job in list(data.jobs.values()):
            if covers(hold, job):
                data.jobs[job.id] = replace(job, release_policy=choice, release_until_us=now_us)
        return hold

    async def remember(self, scope: str, key: str, value: bytes, now_us: int) -> bytes | None:
        """See DefinitionStore."""
        earlier = self._data.remembered.get((scope, key))
        if earlier is not None:
            return earlier[0]
        self._data.remembered[scope, key] = (value, now_us)
        return None

    async def meta(self, key: str, value: str | None = None) -> str:
        """See DefinitionStore."""
        if value is not None:
            self._data.named.setdefault(key, value)
        return self._data.named.get(key, "")


def _check_unchanged(project: Project, expected_us: int | None) -> None:
    if expected_us is not None and project.updated_us != expected_us:
        raise project_changed(project.id)


def _drop_holds(data: Data, scope: str, target_id: int) -> None:
    for hold in list(data.holds.values()):
        if (hold.scope, hold.target_id) == (scope, target_id):
            del data.holds[hold.id]


def _matches(job: Job, where: JobFilter) -> bool:
    return (
        (where.project_ids is None or job.project_id in where.project_ids)
        and job.id > where.after
        and where.search.casefold() in job.name.casefold()
        and (where.name is None or job.name == where.name)
        and (where.enabled is None or job.enabled == where.enabled)
        and (where.parked is None or bool(job.parked) == where.parked)
    )
