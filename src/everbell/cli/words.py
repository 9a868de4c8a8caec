"""Runs in words, for people: what started one, why it ended so, what it waits for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from everbell.cli.base import ApiError
from everbell.cli.client import ApiClient, seg
from everbell.telemetry.clock import SystemClock

TRIGGERS = {
    "schedule": "schedule",
    "catch_up": "catch-up",
    "manual": "by hand",
    "retry": "retry",
    "chain": "other run",
    "backfill": "backfill",
}
REASONS = {
    "by_hand": "skipped by hand",
    "cancelled": "cancelled by hand",
    "disabled": "the job was disabled",
    "fenced": "its node lost its lease",
    "held": "the job was held",
    "job_deleted": "the job was deleted",
    "misfire": "too late (misfire policy)",
    "node_stopped": "its node stopped",
    "nothing_to_do": "its check found nothing to do",
    "overlap": "another run was at work (overlap policy)",
    "quarantined": "the job was in quarantine",
    "queue_full": "too many runs waited",
    "rescheduled": "the schedule was changed",
    "superseded": "another node had taken it over",
}
SOON_S = 2.0
"""A run that is due within this time is not said to wait."""


def run_in_words(run: dict[str, Any]) -> dict[str, Any]:
    """Return the run with its trigger, and why it is as it is, in words."""
    reason = str(run.get("reason") or "")
    word, _, rest = reason.partition(": ")
    if word == "by_hand" and rest:
        reason = f"{REASONS[word]}: {rest}"
    why = str(run.get("error") or "") or REASONS.get(reason, reason)
    count = run.get("count") or 1
    if count > 1:
        why = f"{count} slots: {why}" if why else f"{count} slots"
    trigger = str(run.get("trigger") or "")
    return {**run, "trigger": TRIGGERS.get(trigger, trigger), "error": why, "reason": ""}


def is_ahead(run: dict[str, Any]) -> bool:
    """Whether a run has not started, and could not have: it is queued, or claimed ahead."""
    return run.get("state") == "queued" or (
        run.get("state") == "claimed" and not run.get("started_at") and _due_in_s(run) > 0
    )


def _due_in_s(run: dict[str, Any]) -> float:
    due = datetime.fromisoformat(str(run.get("due_at") or run["slot"]))
    return due.timestamp() - datetime.fromtimestamp(SystemClock().now_us() / 1e6, UTC).timestamp()


def what_it_waits_for(client: ApiClient, run: dict[str, Any]) -> str:
    """Say what a run that has not started waits for; nothing if it will start at once."""
    if not is_ahead(run):
        return ""
    if _due_in_s(run) > SOON_S:
        return f"it is due at {run['due_at']}"
    if run["state"] == "claimed":
        return ""
    return _held(client, run) or _job(client, run) or _nodes(client)


def _held(client: ApiClient, run: dict[str, Any]) -> str:
    for hold in client.call("GET", "/holds")["data"]:
        target = {"all": 0, "project": run["project_id"], "job": run["job_id"]}[hold["scope"]]
        if hold["target_id"] == target:
            what = "every job is" if hold["scope"] == "all" else f"its {hold['scope']} is"
            why = f" ({hold['reason']})" if hold["reason"] else ""
            end = f"until {hold['until']}" if hold.get("until") else "until somebody releases it"
            release = f"everbell hold release {hold['id']} --missed once|each|skip"
            return f"{what} held{why}, {end}: {release}"
    return ""


def _job(client: ApiClient, run: dict[str, Any]) -> str:
    try:
        job = client.call("GET", f"/jobs/{seg(run['job_id'])}")["data"]
    except ApiError:
        return ""
    if run["trigger"] != "manual" and run["attempt"] == 1:
        if not job["enabled"]:
            return f"the job is disabled: everbell job enable {job['id']}"
        if job["parked"]:
            return f"the job is parked ({job['parked']}): everbell job resolve {job['id']}"
    if job["overlap"] != "allow":
        query = {"job": job["id"], "state": "claimed,running", "limit": job["max_running"]}
        listed = client.call("GET", "/runs", query=query)["data"]
        # It may have been taken meanwhile: a run does not wait for itself.
        active = [one for one in listed if one["id"] != run["id"]]
        if len(active) >= job["max_running"]:
            ids = ", ".join(one["id"] for one in active[:3])
            return f"the job has as many runs at work as it may ({ids})"
    return ""


def _nodes(client: ApiClient) -> str:
    nodes = client.call("GET", "/nodes")["data"]
    if any(one["state"] == "up" for one in nodes):
        return ""
    busy = [one for one in nodes if one["state"] == "throttled"]
    if busy:
        why = busy[0].get("reason") or "its limits are reached"
        return f"no node takes new work ({busy[0]['name']}: {why})"
    return "no node is up (`everbell start`)"
