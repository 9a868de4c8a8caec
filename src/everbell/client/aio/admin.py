"""Projects, credentials, nodes, the audit log and health."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import msgspec

from everbell.client.aio.core import AsyncCore, AsyncPages
from everbell.client.aio.jobs import ProjectRef
from everbell.client.cluster import Cluster, Node
from everbell.client.errors import AnswerUnreadable
from everbell.client.records import AuditEntry, Credential, Health, Project
from everbell.client.wire import Ask, given


class AsyncProjects:
    """``client.projects``. ``if_match`` is the ``etag`` of the project as ``get`` told it."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def create(
        self, name: str, *, description: str = "", idempotency_key: str | None = None
    ) -> Project:
        """Create a project. Raises Conflict if the name is taken."""
        body = {"name": name, "description": description}
        ask = Ask("projects_create", body=body, idempotency_key=idempotency_key)
        return await self._core.data(ask, Project)

    def list(self, *, limit: int | None = None, offset: int | None = None) -> AsyncPages[Project]:
        """List projects in order of id; ``limit`` is the size of a page."""
        ask = Ask("projects_list", query={"limit": limit, "offset": offset})
        return AsyncPages(self._core, ask, Project)

    async def get(self, project: ProjectRef) -> Project:
        """Return a project by id, uuid or name. Raises NotFound."""
        return await self._core.data(Ask("projects_get", project), Project)

    async def replace(
        self, project: ProjectRef, name: str, *, description: str = "", if_match: str | None = None
    ) -> Project:
        """Replace name and description. Raises VersionMismatch."""
        body = {"name": name, "description": description}
        ask = Ask("projects_replace", project, body=body, if_match=if_match)
        return await self._core.data(ask, Project)

    async def change(
        self,
        project: ProjectRef,
        *,
        name: str | None = None,
        description: str | None = None,
        if_match: str | None = None,
    ) -> Project:
        """Change what is given, keep the rest. Raises VersionMismatch."""
        body = given(name=name, description=description)
        ask = Ask("projects_change", project, body=body, if_match=if_match)
        return await self._core.data(ask, Project)

    async def delete(self, project: ProjectRef, *, if_match: str | None = None) -> None:
        """Delete an empty project. Raises Conflict if it has jobs."""
        await self._core.nothing(Ask("projects_delete", project, if_match=if_match))


class AsyncCredentials:
    """``client.credentials``; needs the scope ``admin``."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def create(
        self,
        *,
        name: str = "",
        scopes: Collection[str] | None = None,
        project: ProjectRef | None = None,
        expires_at: datetime | str | None = None,
        expires_in: float | None = None,
    ) -> Credential:
        """Make a credential. Its secret is in this answer and nowhere else.

        Is not repeated when the answer is lost: look for the name, revoke, and make another.
        """
        body = given(
            name=name,
            scopes=scopes,
            project=project,
            expires_at=expires_at,
            expires_in=expires_in,
        )
        return await self._core.data(Ask("credentials_create", body=body), Credential)

    def list(
        self, *, limit: int | None = None, offset: int | None = None
    ) -> AsyncPages[Credential]:
        """List credentials, without secrets."""
        ask = Ask("credentials_list", query={"limit": limit, "offset": offset})
        return AsyncPages(self._core, ask, Credential)

    async def get(self, credential: int | str) -> Credential:
        """Return a credential, without its secret."""
        return await self._core.data(Ask("credentials_get", credential), Credential)

    async def revoke(self, credential: int | str) -> None:
        """Revoke a credential for good."""
        await self._core.nothing(Ask("credentials_revoke", credential))

    async def rotate(self, credential: int | str, *, grace: float | None = None) -> Credential:
        """Give a credential a new secret; the old one stays good for ``grace`` seconds."""
        ask = Ask("credentials_rotate", credential, body=given(grace=grace))
        return await self._core.data(ask, Credential)


class AsyncNodes:
    """``client.nodes``."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    def list(self) -> AsyncPages[Node]:
        """List the nodes of the cluster."""
        return AsyncPages(self._core, Ask("nodes_list"), Node)

    async def drain(self, node: str, *, reason: str = "") -> Node:
        """Let the nodes of a name take no new work; what runs may end. By name, or a node's id."""
        return await self._core.data(Ask("nodes_drain", node, body={"reason": reason}), Node)

    async def resume(self, node: str) -> Node:
        """Let drained nodes take work again."""
        return await self._core.data(Ask("nodes_resume", node), Node)

    async def remove(self, node: str) -> None:
        """Forget a node that is gone. Raises Conflict while it is alive."""
        await self._core.nothing(Ask("nodes_remove", node))

    async def cluster(self) -> Cluster:
        """Tell how the work is spread over the nodes."""
        return await self._core.data(Ask("cluster_get"), Cluster)


class AsyncAudit:
    """``client.audit``; needs the scope ``admin``."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    def list(
        self, *, limit: int | None = None, cursor: int | str | None = None
    ) -> AsyncPages[AuditEntry]:
        """List who changed what, newest first; ``cursor`` is the ``next`` of an earlier page."""
        ask = Ask("audit_list", query={"limit": limit, "cursor": cursor})
        return AsyncPages(self._core, ask, AuditEntry)


class AsyncHealthChecks:
    """``client.health``; needs no key."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def live(self) -> Health:
        """Say that the process lives."""
        return await self._core.data(Ask("health_live"), Health)

    async def ready(self) -> Health:
        """Say that the node can work. Raises ServerFailed if it can't, after repetitions."""
        return await self._core.data(Ask("health_ready"), Health)

    async def openapi(self) -> dict[str, Any]:
        """Return the server's description of its API. Raises AnswerUnreadable."""
        reply = await self._core.reply(Ask("openapi"))
        try:
            return msgspec.json.decode(reply.body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise AnswerUnreadable(f"the description can't be read: {error}") from error
