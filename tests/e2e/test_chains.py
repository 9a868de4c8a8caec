"""A chain, a shared limit and a check on a real node that is killed in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from everbell_e2e_nodes import NodeProcess, until

pytestmark = pytest.mark.timeout(120)

FINAL = {"succeeded", "failed", "timed_out", "cancelled", "skipped", "missed", "lost"}
WORK = 'echo "start $1" >> "$0"; sleep "$2"; echo "end $1" >> "$0"'


def _action(log: Path, name: str, lasts: float = 0.1) -> dict[str, Any]:
    return {"kind": "command", "argv": ["sh", "-c", WORK, str(log), name, str(lasts)]}


def _most_at_once(lines: list[str]) -> int:
    """Return how many were at work at once; a kill ends them all."""
    at_work: set[str] = set()
    most = 0
    for line in lines:
        word, _, name = line.partition(" ")
        if word == "start":
            at_work.add(name)
        elif word == "end":
            at_work.discard(name)
        else:
            at_work.clear()
        most = max(most, len(at_work))
    return most


def test_a_chain_is_complete_once_and_a_limit_holds_though_the_node_is_killed(
    new_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    node = new_node()
    node.start()
    chain_log, shared_log, flag = tmp_path / "chain", tmp_path / "shared", tmp_path / "flag"

    def job(name: str, action: Any, **more: Any) -> Any:
        return node.make("/api/v1/jobs", {"name": name, "action": action, **more})

    def runs(one: Any) -> list[dict[str, Any]]:
        return node.runs(f"&job={one['id']}")

    last = job("load", _action(chain_log, "load"))
    middle = job("transform", _action(chain_log, "transform", 2), then=[{"job": "load"}])
    first = job("extract", _action(chain_log, "extract"), then=[{"job": "transform"}])
    shared = [
        job(f"shared-{k}", _action(shared_log, f"shared-{k}", 0.3), limits=["db"],
            schedule="@every 1s", overlap="queue")
        for k in range(2)
    ]  # fmt: skip
    check = {"kind": "command", "argv": ["test", "-e", str(flag)]}
    checked = job("checked", _action(tmp_path / "checked", "checked"), schedule="@every 1s",
                  check=check)  # fmt: skip

    until(lambda: len(_lines(shared_log)) > 4, 20, "both share")
    node.make(f"/api/v1/jobs/{first['id']}/runs", {})
    until(lambda: "start transform" in _lines(chain_log), 20, "the second of the chain runs")
    node.kill()
    with shared_log.open("a") as file:
        file.write("killed\n")
    flag.write_text("work")
    node.start()

    until(lambda: [run["state"] for run in runs(last)] == ["succeeded"], 40, "the chain ends")
    time.sleep(2)
    for one in (first, middle, last):
        assert [run["state"] for run in runs(one)] == ["succeeded"], one["name"]
    assert _lines(chain_log) == [
        "start extract", "end extract", "start transform", "start transform", "end transform",
        "start load", "end load",
    ]  # fmt: skip
    assert runs(middle)[0]["attempt"] == 2
    [parent], [follower] = runs(middle), runs(last)
    assert (follower["trigger"], follower["reason"]) == ("chain", f"succeeded of {parent['id']}")

    for one in (*shared, checked):
        assert node.call("POST", f"/api/v1/jobs/{one['id']}/disable")[0] == 200
    until(lambda: all(run["state"] in FINAL for run in node.runs()), 40, "every run has an outcome")
    assert _most_at_once(_lines(shared_log)) == 1
    assert {line for line in _lines(shared_log) if line.startswith("end")} == {
        "end shared-0",
        "end shared-1",
    }
    ends = {(run["state"], run["reason"]) for run in runs(checked)}
    assert ("skipped", "nothing_to_do") in ends
    assert ("succeeded", "") in ends
    shown = node.call("GET", f"/api/v1/jobs/{checked['id']}")[1]["data"]
    assert shown["last_skipped"] is not None
    assert node.stop() == 0


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
