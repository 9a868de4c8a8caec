"""``everbell demo``: a node in a directory of its own that is gone when it ends."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import click

from everbell.cli.base import Command, UsageError, say, state, warn
from everbell.cli.client import LocalClient
from everbell.cli.init import generate_secrets
from everbell.config.loader import Loaded, load_settings
from everbell.config.secrets import CliKey, create_secrets, require_secrets, save_cli_key
from everbell.domain.errors import ConfigError

PORT = 9091
_COUNT = 'for i in 1 2 3 4 5; do echo "step $i of 5"; sleep 1; done'
_FLAKY = "echo attempt $EVERBELL_ATTEMPT; test $EVERBELL_ATTEMPT -ge 3"
_SCRIPT = "import json, sys\nprint('given:', json.load(sys.stdin))\nprint('sum:', sum(range(10)))\n"


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(0, 65535), help="Port (9091, or a free one).")
@click.option("--keep", is_flag=True, help="Do not remove the directory at the end.")
def demo(port: int | None, *, keep: bool) -> int:
    """Run a throw-away node with a dozen jobs of every kind, until Ctrl-C."""
    at = state()
    if at.server or at.config:
        hint = "`everbell start` runs a node of yours"
        raise UsageError("`demo` makes its own directory and node", hint=hint)
    home = Path(tempfile.mkdtemp(prefix="everbell-demo-"))
    try:
        return _run(home, _choose(port))
    finally:
        if keep:
            say(f"kept {home}: EVERBELL_CONFIG={home}/everbell.toml everbell start")
        else:
            shutil.rmtree(home, ignore_errors=True)
            say(f"removed {home}")


def _choose(port: int | None) -> int:
    """Return the port: the one given, else the usual one, else any that is free."""
    for number in (PORT, 0) if port is None else (port,):
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", number))
                return int(probe.getsockname()[1])
        except OSError:
            continue
    raise ConfigError(f"port {port} is taken", hint="choose another with --port")


def _run(home: Path, port: int) -> int:
    text = f"[server]\nport = {port}\n\n[execution]\nshutdown_grace = 3.0\n"
    (home / "everbell.toml").write_text(text, encoding="utf-8")
    # Nothing of the environment: a variable for another node must not lead into its database.
    loaded = load_settings(home / "everbell.toml", {})
    create_secrets(home, generate_secrets())
    count = _fill(loaded, f"http://127.0.0.1:{port}")
    from everbell.bootstrap import run_node
    from everbell.telemetry.logs import set_up

    set_up(loaded.settings.log, home)
    return run_node(loaded, require_secrets(home), lambda address: _tell(home, address, count))


def _fill(loaded: Loaded, address: str) -> int:
    client = LocalClient(loaded, require_secrets(loaded.directory))
    try:
        body = {"name": "demo", "scopes": ["read", "run", "write", "admin"]}
        made = client.call("POST", "/credentials", body=body)["data"]
        save_cli_key(
            loaded.directory, CliKey(api_key=made["api_key"], api_secret=made["api_secret"])
        )
        client.call("POST", "/projects", body={"name": "demo", "description": "sample jobs"})
        return len(client.call("POST", "/jobs", body=sample_jobs(address))["data"])
    finally:
        client.close()


def _tell(home: Path, address: str, count: int) -> None:
    say(f"{count} jobs run on {address} in {home}; Ctrl-C ends and removes all")
    if os.environ.get("EVERBELL_SERVER"):
        warn("EVERBELL_SERVER is set: unset it in the other terminal")
    say("in another terminal:")
    say(f"  export EVERBELL_CONFIG={home}/everbell.toml")
    for line in (
        "everbell job list                      # what is planned",
        "everbell run list --limit 20           # what became of it",
        "everbell run logs --job countdown -f   # output while it runs",
        "everbell run list --job flaky          # fails twice, then succeeds",
        "everbell run list --job crowded        # skipped while one runs",
        "everbell job resolve broken            # parked after three failures",
        "everbell job run extract --wait        # starts `load` when it succeeds",
        "everbell hold all --reason lunch       # and: everbell hold list",
    ):
        say(f"  {line}")


def sample_jobs(address: str) -> list[dict[str, Any]]:
    """Return the jobs: each shows another feature."""
    return [
        _job("hello", "@every 5s", ["echo", "hello from everbell"], "the simplest one"),
        _job("by-cron", "*/2 * * * *", ["date"], "every second minute, as in a crontab"),
        _job("three-times-a-day", "times 07:00,12:30,18:00", ["date"], "at times of day, in a zone",
             timezone="Europe/Berlin"),
        _job("month-end", "0 22 L * *", ["date"], "on the last day of each month"),
        {**_job("scripted", "@every 15s", [], "a script, given data"), "data": {"answer": 42},
         "action": {"kind": "script", "interpreter": "python", "text": _SCRIPT}},
        {**_job("own-health", "@every 10s", [], "a signed HTTP callback, here to the node itself"),
         "action": {"kind": "http", "method": "GET", "url": f"{address}/healthz"}},
        _job("flaky", "@every 20s", ["sh", "-c", _FLAKY], "fails twice, then succeeds",
             retry={"max": 3, "delay": 1.0}),
        _job("broken", "@every 10s", ["sh", "-c", "echo no such host >&2; exit 3"],
             "always fails: parked after three", on_failure={"park_after": 3}),
        _job("crowded", "@every 3s", ["sleep", "7"], "longer than its interval: skips"),
        _job("countdown", "@every 20s", ["sh", "-c", _COUNT], "output that can be followed"),
        _job("on-even-seconds", "@every 7s", ["echo", "there was something to do"],
             "a check decides whether there is anything to do",
             check={"kind": "command",
                    "argv": ["sh", "-c", "test $(($(date +%s) % 2)) -eq 0"]}),
        _job("extract", "@every 30s", ["echo", "extracted"], "starts `load` when it succeeds",
             then=[{"job": "load", "delay": 1.0}]),
        _job("load", None, ["echo", "loaded"], "has no schedule of its own"),
        _job("retired", "@every 1m", ["true"], "disabled by a person", enabled=False),
    ]  # fmt: skip


def _job(
    name: str, schedule: str | None, argv: list[str], about: str, **more: Any
) -> dict[str, Any]:
    body = {"name": name, "project": "demo", "description": about, **more}
    if schedule is not None:
        body["schedule"] = schedule
    return {**body, "action": {"kind": "command", "argv": argv}}
