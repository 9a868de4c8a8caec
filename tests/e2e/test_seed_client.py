"""The JavaScript client of the Scheduler0 page against a real node."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from everbell_e2e_nodes import NodeProcess, until

pytestmark = pytest.mark.timeout(200)

CLIENT = Path(__file__).parent / "seed_client"
PAGE = Path(__file__).parents[3] / "shared" / "seeds" / "003_c88eab050d72105e.txt"


def _run_program(node: NodeProcess, source: Path, log: Path, spec: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "NODE_PATH": str(CLIENT / "node_modules"),
        "API_ENDPOINT": f"http://127.0.0.1:{node.port}",
        "API_KEY": node.headers["x-api-key"],
        "API_SECRET": node.headers["x-secret-key"],
        "SPEC": spec,
    }
    with log.open("wb") as out:
        return subprocess.Popen(
            ["node", str(source)], cwd=CLIENT, env=environment, stdout=out, stderr=out
        )


def test_a_client_in_the_manner_of_the_page_is_called_back(
    new_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    node = new_node()
    node.start()
    log = tmp_path / "program.log"
    program = _run_program(node, CLIENT / "program.js", log, "@every 1s")
    try:
        until(lambda: log.read_text().count("called") >= 3, 20, "three callbacks")
    finally:
        program.kill()
        program.wait(10)
    slots = [line.split()[1] for line in log.read_text().splitlines() if "called" in line]
    assert len(set(slots)) == len(slots)


# The program that the page prints is not ours to copy: tested where the page lies beside us.
if PAGE.exists():

    def test_the_printed_program_runs_unmodified_and_is_called_every_minute(
        new_node: Callable[..., NodeProcess], tmp_path: Path
    ) -> None:
        text = PAGE.read_text()
        source = tmp_path / "printed.js"
        source.write_text(text.split("```javascript\n", 1)[1].split("```", 1)[0])
        node = new_node()
        node.start()
        log = tmp_path / "program.log"
        began = time.time()
        program = _run_program(node, source, log, "")
        try:
            until(lambda: "app listening" in log.read_text(), 20, f"created: {log.read_text()}")
            until(
                lambda: len([r for r in node.runs() if r["state"] == "succeeded"]) >= 2,
                140,
                "two callbacks, a minute apart",
            )
        finally:
            program.kill()
            program.wait(10)
        job = node.call("GET", "/jobs")[1]["data"][0]
        assert job["spec"] == "@every 1m"
        assert job["callback_url"] == "http://localhost:3000/callback"
        slots = sorted(int(run["id"].split("-")[1]) for run in node.runs())
        assert slots[1] - slots[0] == 60_000_000
        assert slots[0] >= began * 1e6 + 58e6
