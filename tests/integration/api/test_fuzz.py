"""The API against its own description: schemathesis, all phases, a real server, a fixed seed.

``make fuzz EXAMPLES=500 SEED=7`` looks longer and elsewhere.
"""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import uvicorn

from everbell.api.app import create_app
from everbell.config.schema import Api, Settings
from everbell.services.context import Services
from everbell.stores.sqlite import SqliteStore
from everbell.telemetry.clock import SystemClock, SystemEntropy
from everbell.testing.asgi import AsgiClient

HERE = Path(__file__).parent / "fuzz"
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "10")
SEED = os.environ.get("FUZZ_SEED", "1")
SECONDS = int(os.environ.get("FUZZ_SECONDS", "40"))
HOOK = {"kind": "http", "url": "http://example.com/hook"}


class Server(threading.Thread):
    """The API without an engine: what the fuzzer stores is never performed."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.up = threading.Event()

    def run(self):
        asyncio.run(self.serve())

    async def serve(self):
        store = await SqliteStore.open(self.path, synchronous="off")
        services = Services(
            store=store,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            settings=Settings(api=Api(max_body=500_000)),
            secret_key=b"k" * 32,
            checks={kind: lambda action: None for kind in ("http", "command", "script")},
        )
        app = create_app(services)
        local = AsgiClient(app, local=True)
        self.key = (await local.post("/credentials", {"scopes": ["admin"]})).data
        for number in range(5):
            body = {"name": f"job {number}", "schedule": "@hourly", "action": HOOK}
            made = (await local.post("/jobs", body)).data
            await local.post(f"/jobs/{made['id']}/runs")
        await local.post("/holds", {"scope": "all"})
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        await asyncio.gather(self.server.serve(), self.tell())
        await store.close()

    async def tell(self):
        while not self.server.started:
            await asyncio.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.up.set()


@pytest.fixture
def server(tmp_path):
    running = Server(tmp_path / "fuzz.db")
    running.start()
    assert running.up.wait(10)
    yield running
    running.server.should_exit = True
    running.join(10)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_api_keeps_to_its_description(server, tmp_path):
    base = f"http://127.0.0.1:{server.port}/api/v1"
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file"),
        *(str(HERE / "schemathesis.toml"), "run", f"{base}/openapi.json", "--url", base),
        *("-H", f"x-api-key: {server.key['api_key']}"),
        *("-H", f"x-secret-key: {server.key['api_secret']}"),
        *("--max-examples", EXAMPLES, "--seed", SEED, "--generation-database", "none"),
        *("--max-time", str(SECONDS), "--workers", "1", "--warnings", "off", "--no-color"),
    ]
    env = {**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "hooks"}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
        timeout=SECONDS + 120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
