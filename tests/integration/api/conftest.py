"""One world per test: the API over each store engine, with a clock and chance of its own."""

import hashlib
from dataclasses import dataclass, field

import pytest

from everbell.api.app import create_app
from everbell.config.schema import Api, Callbacks, Settings
from everbell.domain.errors import RefusedError
from everbell.services.context import Services
from everbell.testing.asgi import AsgiClient

T0 = 1_770_000_000_000_000  # 2026-02-02T02:40:00Z


class Clock:
    def __init__(self):
        self.us = T0
        self.naps = 0
        self.on_sleep = []

    def now_us(self):
        return self.us

    def monotonic(self):
        return self.us / 1e6

    async def sleep(self, seconds):
        self.us += int(seconds * 1e6)
        self.naps += 1
        if self.on_sleep:
            await self.on_sleep.pop(0)()
        assert self.naps < 1000, "nothing ends this wait"


class Entropy:
    def __init__(self):
        self.count = 0

    def token_bytes(self, length):
        self.count += 1
        return hashlib.shake_128(str(self.count).encode()).digest(length)


class Hints:
    def __init__(self):
        self.changes = []

    def changed(self, change):
        self.changes.append(change)


def check_http(action):
    if "169.254" in action.url:
        raise RefusedError("the address 169.254.169.254 is refused", hint="list it to allow it")


def check_script(action):
    if action.interpreter not in ("sh", "bash", "python", "node"):
        raise RefusedError(
            f"the interpreter {action.interpreter!r} is not offered", hint="one of bash, node, sh"
        )


def check_command(action):
    if action.argv[0] == "absent-program":
        raise RefusedError("no program 'absent-program' on this node", hint="give its full path")


@dataclass
class World:
    store: object
    clock: Clock = field(default_factory=Clock)
    hints: Hints = field(default_factory=Hints)
    trouble: str = ""

    def __post_init__(self):
        self.services = Services(
            store=self.store,
            clock=self.clock,
            entropy=Entropy(),
            settings=Settings(
                api=Api(max_body=200_000, max_batch=20, max_page=50),
                callbacks=Callbacks(payload_max_mb=0.01),
            ),
            secret_key=b"k" * 32,
            checks={"http": check_http, "script": check_script, "command": check_command},
            hints=self.hints,
        )
        self.app = create_app(self.services, ready=lambda: self.trouble)
        self.local = AsgiClient(self.app, local=True)
        self.anyone = AsgiClient(self.app)

    async def client(self, **credential):
        made = await self.local.post("/credentials", credential)
        assert made.status == 201, made.text
        keys = {"x-api-key": made.data["api_key"], "x-secret-key": made.data["api_secret"]}
        return AsgiClient(self.app, headers=keys)

    async def job(self, **fields):
        body = {"name": "nightly", "schedule": "*/5 * * * *", **fields}
        body.setdefault("action", {"kind": "http", "url": "http://example.com/hook"})
        made = await self.local.post("/jobs", body)
        assert made.status == 201, made.text
        return made.data


@pytest.fixture(params=["memory", "sqlite"])
async def world(request, tmp_path):
    if request.param == "memory":
        from everbell.stores.memory import MemoryStore

        store = MemoryStore()
    else:
        from everbell.stores.sqlite import SqliteStore

        store = await SqliteStore.open(tmp_path / "everbell.db")
    try:
        yield World(store)
    finally:
        await store.close()
