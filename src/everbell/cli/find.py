"""Names to ids: a job's name is enough where only one project has it."""

from __future__ import annotations

import difflib
import re
from typing import Any

from everbell.cli.base import ApiError, UsageError
from everbell.cli.client import ApiClient, seg
from everbell.domain.errors import NotFoundError

_ID = re.compile(r"\d+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def find_job(client: ApiClient, key: str, project: str | None) -> str:
    """Return the id of a job given by id, uuid or name.

    Raises NotFoundError with near names, UsageError if several projects have the name.
    """
    if _ID.fullmatch(key) and not project:
        return key
    query: dict[str, Any] = {"name": key, "project": project, "limit": 2}
    named = client.call("GET", "/jobs", query=query)["data"]
    if len(named) == 1:
        return str(named[0]["id"])
    if len(named) > 1:
        owners = " or ".join(f"--project {one['project']}" for one in named)
        raise UsageError(f"more than one project has a job named `{key}`", hint=f"add {owners}")
    if project:
        try:
            path = f"/jobs/{seg(key)}"
            return str(client.call("GET", path, query={"project": project})["data"]["id"])
        except ApiError as error:
            if error.status != 404:
                raise
    raise _missing(client, key, project)


def _missing(client: ApiClient, key: str, project: str | None) -> NotFoundError:
    listed = client.call("GET", "/jobs", query={"project": project, "limit": 200})["data"]
    names = list(dict.fromkeys(one["name"] for one in listed))
    near = difflib.get_close_matches(key, names, n=3)
    where = f" in project `{project}`" if project else ""
    see = "everbell job list" + (f" --project {project}" if project else "")
    hint = "" if near else f"`{see}` shows what is there"
    return NotFoundError(f"no job `{key}`{where}", hint=hint, suggestions=tuple(near))
