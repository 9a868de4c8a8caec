# Generated from everbell/client/aio by scripts/gen_client.py; change that instead.
"""Projects, credentials, nodes, the audit log and health."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import msgspec

from everbell.client.cluster import Cluster, Node
from everbell.client.errors import AnswerUnreadable
from everbell.client.records import AuditEntry, Credential, Health, Project
from everbell.client.sync.core import Core, Pages
from everbell.client.sync.jobs import ProjectRef
from everbell.client.wire import Ask, given


class Projects:
    """``client.projects``. ``if_match`` is the ``etag`` of the project as ``get`` told it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def create(
        self, name: str, *, description: str = "", idempotency_key: str | None = None
    ) -> Project:
        """Create a project. Raises Conflict if the name is taken."""
        body = {"name": name, "description": description}
        ask = Ask("projects_create", body=body, idempotency_key=idempotency_key)
        return self._core.data(ask, Project)

    def list(self, *, limit: int | None = None, offset: int | None = None) -> Pages[Project]:
        """List projects in order of id; ``limit`` is the size of a page."""
        ask = Ask("projects_list", query={"limit": limit, "offset": offset})
        return Pages(self._core, ask, Project)

    def get(self, project: ProjectRef) -> Project:
        """Return a project by id, uuid or name. Raises NotFound."""
        return self._core.data(Ask("projects_get", project), Project)

    def replace(
        self, project: ProjectRef, name: str, *, description: str = "", if_match: str | None = None
    ) -> Project:
        """Replace name and description. Raises VersionMismatch."""
        body = {"name": name, "description": description}
        ask = Ask("projects_replace", project, body=body, if_match=if_match)
        return self._core.data(ask, Project)

    def change(
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
        return self._core.data(ask, Project)

    def delete(self, project: ProjectRef, *, if_match: str | None = None) -> None:
        """Delete an empty project. Raises Conflict if it has jobs."""
        self._core.nothing(Ask("projects_delete", project, if_match=if_match))


class Credentials:
    """``client.credentials``; needs the scope ``admin``."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def create(
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
        return self._core.data(Ask("credentials_create", body=body), Credential)

    def list(self, *, limit: int | None = None, offset: int | None = None) -> Pages[Credential]:
        """List credentials, without secrets."""
        ask = Ask("credentials_list", query={"limit": limit, "offset": offset})
        return Pages(self._core, ask, Credential)

    def get(self, credential: int | str) -> Credential:
        """Return a credential, without its secret."""
        return self._core.data(Ask("credentials_get", credential), Credential)

    def revoke(self, credential: int | str) -> None:
        """Revoke a credential for good."""
        self._core.nothing(Ask("credentials_revoke", credential))

    def rotate(self, credential: int | str, *, grace: float | None = None) -> Credential:
        """Give a credential a new secret; the old one stays good for ``grace`` seconds."""
        ask = Ask("credentials_rotate", credential, body=given(grace=grace))
        return self._core.data(ask, Credential)


class Nodes:
    """``client.nodes``."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def list(self) -> Pages[Node]:
        """List the nodes of the cluster."""
        return Pages(self._core, Ask("nodes_list"), Node)

    def drain(self, node: str, *, reason: str = "") -> Node:
        """Let the nodes of a name take no new work; what runs may end. By name, or a node's id."""
        return self._core.data(Ask("nodes_drain", node, body={"reason": reason}), Node)

    def resume(self, node: str) -> Node:
        """Let drained nodes take work again."""
        return self._core.data(Ask("nodes_resume", node), Node)

    def remove(self, node: str) -> None:
        """Forget a node that is gone. Raises Conflict while it is alive."""
        self._core.nothing(Ask("nodes_remove", node))

    def cluster(self) -> Cluster:
        """Tell how the work is spread over the nodes."""
        return self._core.data(Ask("cluster_get"), Cluster)


class Audit:
    """``client.audit``; needs the scope ``admin``."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def list(
        self, *, limit: int | None = None, cursor: int | str | None = None
    ) -> Pages[AuditEntry]:
        """List who changed what, newest first; ``cursor`` is the ``next`` of an earlier page."""
        ask = Ask("audit_list", query={"limit": limit, "cursor": cursor})
        return Pages(self._core, ask, AuditEntry)


class HealthChecks:
    """``client.health``; needs no key."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def live(self) -> Health:
        """Say that the process lives."""
        return self._core.data(Ask("health_live"), Health)

    def ready(self) -> Health:
        """Say that the node can work. Raises ServerFailed if it can't, after repetitions."""
        return self._core.data(Ask("health_ready"), Health)

    def openapi(self) -> dict[str, Any]:
        """Return the server's description of its API. Raises AnswerUnreadable."""
        reply = self._core.reply(Ask("openapi"))
        try:
            return msgspec.json.decode(reply.body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise AnswerUnreadable(f"the description can't be read: {error}") from error
