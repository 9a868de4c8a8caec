"""``Everbell``: the jobs of a Python program, and a node that runs inside of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import msgspec

from everbell.api.job_input import to_draft
from everbell.config.loader import Loaded, load_settings
from everbell.domain.errors import ConflictError, FieldProblem, ValidationError
from everbell.domain.job import PythonAction
from everbell.domain.schedule.builder import When
from everbell.integrations import declare
from everbell.integrations.background import Background
from everbell.integrations.job import AppJob
from everbell.integrations.sync import Report, synchronise
from everbell.ports.functions import Functions, describe
from everbell.services.context import Actor, Services
from everbell.services.validate import Draft

if TYPE_CHECKING:
    from everbell.bootstrap import Embedded, Program
    from everbell.integrations.asgi import AsgiApp

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Everbell:
    """The jobs of one program.

    Args:
        name: tells this program's jobs from those of others in the same store; by default the
            module that makes the object.
        project: where its jobs live; made if it is missing.
        config: a configuration file; by default as for ``everbell start``: ``EVERBELL_CONFIG``, or
            ``everbell.toml`` in the working directory.
        database: short for ``settings={"database.url": ...}``.
        settings: values of settings by their dotted names; they win over file and environment.
        retire: whether jobs that the code no longer has are disabled at the start.
        policies: defaults for all jobs, as for ``job``.
    """

    def __init__(
        self,
        name: str = "",
        *,
        project: str = "default",
        config: str | Path | None = None,
        database: str | None = None,
        settings: Mapping[str, Any] | None = None,
        retire: bool = True,
        **policies: Any,
    ) -> None:
        caller = str(sys._getframe(1).f_globals.get("__name__", "app"))  # noqa: SLF001
        self.name = name or declare.module_name(caller)
        self.project = project
        self.actor = Actor(name=f"app:{self.name}", scopes=("admin",))
        self.functions = Functions()
        self.jobs: dict[str, AppJob[..., Any]] = {}
        self.report = Report()
        """What the last start did to the stored jobs."""
        self.failure = ""
        """Why the node stopped by itself; empty = it did not."""
        self._config = Path(config) if config is not None else None
        self.settings: dict[str, Any] = dict(settings or {})
        if database is not None:
            self.settings["database.url"] = database
        self._retire = retire
        self._defaults = policies
        self._node: Embedded | None = None
        self._services: Services | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._background = Background(self)

    # --- jobs ------------------------------------------------------------------------------------

    @overload
    def job(  # type: ignore[overload-overlap]  # a When can be called too
        self, schedule: declare.ScheduleLike = None, /, **options: Any
    ) -> Callable[[Callable[P, R]], AppJob[P, R]]: ...

    @overload
    def job(self, schedule: Callable[P, R], /) -> AppJob[P, R]: ...

    def job(self, schedule: Any = None, /, **options: Any) -> Any:
        """Make a job of the decorated function; without a schedule it runs when asked to.

        ``options`` are those of ``add``. Raises ScheduleError, ValidationError: at once, with the
        field and what to do.
        """
        if callable(schedule) and not isinstance(schedule, When):
            return self.add(schedule)

        def decorate(function: Callable[P, R]) -> AppJob[P, R]:
            return self.add(function, schedule, **options)

        return decorate

    def add(
        self,
        function: Callable[P, R],
        schedule: declare.ScheduleLike = None,
        *,
        name: str = "",
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        mode: str = "auto",
        check: Callable[..., Any] | None = None,
        **policies: Any,
    ) -> AppJob[P, R]:
        """Make a job of a function.

        Args:
            function: sync or async, importable or not (``mode="subprocess"`` needs its name).
            schedule: text, or what ``every``, ``on``, ``cron`` and ``at`` make.
            name: of the job; by default the function's name.
            args: positional arguments, JSON values.
            kwargs: keyword arguments, JSON values.
            mode: ``auto``, ``thread``, ``inline`` or ``subprocess``.
            check: called first in planned runs; a falsy answer skips the run.
            policies: as in the HTTP API (``timezone``, ``misfire``, ``overlap``, ``retry``,
                ``timeout``, ``data``, ``tags``, ...), also in the short forms of ``declare``.

        Raises:
            ScheduleError, ValidationError: what is wrong, where, and what to do.
        """
        if isinstance(function, AppJob):
            function = function.function
        body = {"description": declare.first_line(function), **self._defaults}
        if isinstance(schedule, When):
            body["timezone"] = schedule.timezone or body.get("timezone", "UTC")
            schedule = schedule.text
        body = declare.policies({**body, **policies})
        body["name"] = name or getattr(function, "__name__", type(function).__name__)
        body["schedule"] = schedule
        called = {"args": args, "kwargs": dict(kwargs or {}), "mode": mode}
        body["action"] = self._action(function, body["name"], called)
        if check is not None:
            body["check"] = self._action(check, body["name"], {}, check=True)
        if body["name"] in self.jobs:
            message = f"this program has a job {body['name']!r} already"
            problem = FieldProblem("/name", message, hint="give one of them a name=...")
            raise ValidationError(message, hint=problem.hint, problems=(problem,))
        draft, _ = to_draft(_as_json(body))
        declare.refuse(draft)
        self.jobs[body["name"]] = found = AppJob(
            self, function, msgspec.structs.replace(draft, project=self.project)
        )
        return found

    def _action(
        self, function: Callable[..., Any], job: str, called: dict[str, Any], *, check: bool = False
    ) -> dict[str, Any]:
        name = declare.function_name(function)
        if check:
            name += "#check"
        mode = called.get("mode", "auto")
        if mode == "subprocess" and ("<" in name or name.startswith("__main__:")):
            hint = "define it at the top of a module"
            message = f"{name} has no name that another process could import it by"
            problem = FieldProblem("/action/mode", message, hint=hint)
            raise ValidationError(message, hint=hint, problems=(problem,))
        known = self.functions.find(PythonAction(function=name, app=self.name))
        if known is not None and known.call is not function:
            name += f"#{job}"
        self.functions.add(self.name, describe(name, function, check=check))
        return {"kind": "python", "function": name, "app": self.name, **called}

    # --- the node --------------------------------------------------------------------------------

    @property
    def services(self) -> Services:
        """The use cases of the running node. Raises ConflictError if none runs here."""
        if self._services is None:
            raise _not_running(self.name)
        return self._services

    @property
    def node(self) -> Embedded | None:
        """The node inside of this program, while it runs."""
        return self._node

    @property
    def drafts(self) -> dict[str, Draft]:
        """The jobs of the code, by name."""
        return {name: job.draft for name, job in self.jobs.items()}

    async def prepare(self, services: Services) -> None:
        """Make the stored jobs those of the code. Raises ConflictError for a name that is taken."""
        self.report = await synchronise(
            services, self.name, self.project, self.drafts, retire=self._retire
        )
        self._services = services
        self._loop = asyncio.get_running_loop()

    def program(self) -> Program:
        """Return what a node needs to run this program's jobs."""
        from everbell.bootstrap import Program

        return Program(self.functions, self.prepare)

    def load(self) -> Loaded:
        """Read the settings. Raises ConfigError."""
        return load_settings(self._config, os.environ, self.settings)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Everbell]:
        """Run a node in this loop until the block ends.

        Raises ConfigError, StoreError, ConflictError if it can't begin. A node that fails later
        says so in the log and in ``failure``; the program goes on.
        """
        from everbell.bootstrap import embedded, ready_secrets

        if self._node is not None:
            raise ConflictError(f"{self.name} runs in this process already")
        loaded = self.load()
        secrets = ready_secrets(loaded.directory, loaded.settings.database.url)
        async with embedded(loaded, secrets, self.program()) as node:
            self._node = node
            self.failure = ""
            watch = asyncio.get_running_loop().create_task(self._watch(node))
            try:
                yield self
            finally:
                watch.cancel()
                self._node = None
                self._services = None
                self._loop = None

    async def _watch(self, node: Embedded) -> None:
        await node.engine.failed.wait()
        self.failure = node.engine.failure
        log.critical("the node inside of %s stopped: %s", self.name, self.failure)

    def lifespan(self, asgi_app: object = None) -> contextlib.AbstractAsyncContextManager[None]:
        """Run with an ASGI application: ``FastAPI(lifespan=app.lifespan)``."""
        del asgi_app
        return self._lifespan()

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with self.running():
            yield

    @property
    def asgi(self) -> AsgiApp:
        """The HTTP API as an ASGI application, to be mounted, or served alone."""
        from everbell.integrations.asgi import AsgiApp

        return AsgiApp(self)

    def middleware(self, inner: Any) -> Any:
        """Wrap an ASGI application so that the node starts and stops with it."""
        from everbell.integrations.asgi import EverbellMiddleware

        return EverbellMiddleware(inner, self)

    def run(self) -> int:
        """Run a node alone, without HTTP, until SIGTERM or SIGINT; return the exit code."""
        from everbell.bootstrap import SWITCH_S, run_embedded

        sys.setswitchinterval(SWITCH_S)
        return run_embedded(self._until_signal())

    async def _until_signal(self) -> int:
        import signal

        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with self.running():
            node = self.node
            assert node is not None
            log.info("%s runs %d jobs", self.name, len(self.jobs))
            ends = [loop.create_task(one.wait()) for one in (stop, node.engine.failed)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        return 1 if self.failure else 0

    # --- programs without a loop -----------------------------------------------------------------

    def start_background(self, *, delay_s: float = 0.5) -> None:
        """Run a node in a thread of its own; see ``integrations.background``."""
        self._background.start(delay_s)

    def stop_background(self, timeout_s: float = 60.0) -> None:
        """Stop that thread in good order, and wait for it."""
        self._background.stop(timeout_s)

    def wait_background(self, timeout_s: float = 30.0) -> bool:
        """Wait until the node in the thread runs; return whether it does."""
        return self._background.wait_ready(timeout_s)

    def forget(self) -> tuple[object, ...]:
        """Let go, in a forked child, of what belongs to the parent, and return it."""
        inherited = (self._node, self._services, self._loop)
        self._node = self._services = self._loop = None
        return inherited

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Perform a coroutine on the node's loop, from another thread, and return its result."""
        loop = self._loop
        if loop is None:
            work.close()
            raise _not_running(self.name)
        try:
            inside = asyncio.get_running_loop() is loop
        except RuntimeError:
            inside = False
        if inside:
            work.close()
            raise ConflictError(
                "this would wait for the loop that it runs on", hint="await the async form"
            )
        return asyncio.run_coroutine_threadsafe(work, loop).result()


def _not_running(name: str) -> ConflictError:
    return ConflictError(
        f"{name} does not run in this process",
        hint="use `async with app.running():`, or app.start_background()",
    )


def _as_json(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body as the store will give it back. Raises ValidationError."""
    try:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        message = f"args, kwargs and data are JSON values: {error}"
        raise ValidationError(
            message, problems=(FieldProblem("/action", message),), hint="pass a name or an id"
        ) from None
    return plain
