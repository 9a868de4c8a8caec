"""Which runs stand before and behind a run in its chain."""

from __future__ import annotations

import re
from typing import Any

from everbell.cli.base import ApiError
from everbell.cli.client import ApiClient, seg

LOOKED_AT = 200
_PARENT = re.compile(r"\w+ of (\d+-\d+\S*)")


def chain_of(client: ApiClient, run: dict[str, Any]) -> dict[str, Any]:
    """Return ``follows`` and ``then``, each with the state of what it names.

    Runs of a chain share the slot of its first, so that those behind this one stand near it.
    """
    found: dict[str, Any] = {}
    parent = _PARENT.fullmatch(str(run.get("reason") or ""))
    if run.get("trigger") == "chain" and parent:
        try:
            it = client.call("GET", f"/runs/{seg(parent[1])}")["data"]
            found["follows"] = f"{it['id']} ({it['job']}, {it['state']})"
        except ApiError:
            found["follows"] = parent[1]
    query = {
        "project": run["project_id"],
        "trigger": "chain",
        "from": run["slot"],
        "to": run["slot"],
    }
    near = client.pages("/runs", query, LOOKED_AT)["data"]
    behind = [it for it in near if str(it.get("reason")).endswith(f" of {run['id']}")]
    if behind:
        found["then"] = ", ".join(f"{it['id']} ({it['job']}, {it['state']})" for it in behind)
    return found
