"""What ``everbell doctor`` looks at outside of the database: machine, clock, network, programs."""

from __future__ import annotations

import ctypes
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from everbell.config.schema import Settings
from everbell.domain.errors import ConfigError
from everbell.domain.records import Node
from everbell.telemetry.clock import SystemClock
from everbell.telemetry.zone_rules import package_version, system_version

OK, WARN, BAD = "ok", "warn", "bad"
REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs"}
)
TIME_ERROR = 5
"""Answer of ``adjtimex(2)``: the clock is not synchronised."""


class Finding(NamedTuple):
    """One line: how bad, about what, what was found, what to do."""

    level: str
    what: str
    found: str
    hint: str = ""


def disk(path: Path) -> Iterable[Finding]:
    """Judge the disk that holds the database."""
    home = path.parent
    try:
        usage = shutil.disk_usage(home)
    except OSError as error:
        yield Finding(BAD, "disk", f"{home}: {error.strerror or error}", "make the directory")
        return
    text = f"{usage.free / 1e9:.1f} GB free on the disk of {home}"
    if usage.free < 50e6:
        yield Finding(BAD, "disk", text, "free some: nothing can be written soon")
    elif usage.free < 1e9 or usage.free < usage.total * 0.05:
        yield Finding(WARN, "disk", text, "free some; engine.history_days bounds the history")
    else:
        yield Finding(OK, "disk", text)
    kind = _file_system(home)
    if kind in REMOTE:
        text = f"the database lies on a network file system ({kind})"
        hint = "SQLite needs a local disk: locks over the network lose data"
        yield Finding(BAD, "disk", text, hint)


def _file_system(home: Path) -> str:
    best, kind = "", ""
    for part in psutil.disk_partitions(all=True):
        inside = home.resolve().is_relative_to(part.mountpoint)
        if inside and len(part.mountpoint) >= len(best):
            best, kind = part.mountpoint, part.fstype
    return kind


def clocks(home: Path) -> Iterable[Finding]:
    """Compare the clock with the file system's, and ask the kernel whether it is synchronised."""
    try:
        with tempfile.NamedTemporaryFile(dir=home, prefix=".everbell-doctor-") as file:
            off_s = abs(Path(file.name).stat().st_mtime - SystemClock().now_us() / 1e6)
    except OSError as error:
        text = f"can't write in {home}: {error.strerror or error}"
        yield Finding(BAD, "directory", text, "give it to the user that runs the node")
    else:
        if off_s > 2:
            text = f"the file system's clock differs by {off_s:.0f} s from this machine's"
            yield Finding(WARN, "clock", text, "is it a network file system?")
    year = SystemClock().now_us() / 1e6 / 86_400 / 365.25 + 1970
    if year < 2025:
        text = f"the clock says it is {year:.0f}"
        yield Finding(BAD, "clock", text, "set it: slots are decided by it")
    synchronised = _synchronised()
    if synchronised is None:
        yield Finding(OK, "clock", "whether it is synchronised can't be read here")
    elif synchronised:
        yield Finding(OK, "clock", "synchronised, as the kernel says")
    else:
        hint = "run chrony, ntpd or systemd-timesyncd (in a container: on its host)"
        yield Finding(WARN, "clock", "the kernel says that it is not synchronised", hint)


def _synchronised() -> bool | None:
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else answer != TIME_ERROR


def zones() -> Finding:
    """Tell which time zone data is used: all nodes must have the same."""
    import zoneinfo

    package = package_version()
    for directory in zoneinfo.TZPATH:
        if (Path(directory) / "UTC").exists():
            own = system_version(Path(directory))
            if own and own != package:
                text = f"{own} of this system ({directory}); the package tzdata has {package}"
                hint = "all nodes must agree: update both, or set PYTHONTZPATH= to use the package"
                return Finding(WARN, "time zones", text, hint)
            return Finding(OK, "time zones", f"{own or 'of this system'} ({directory})")
    return Finding(OK, "time zones", f"{package} (package tzdata)")


def port(settings: Settings, alive: Sequence[Node]) -> Iterable[Finding]:
    """Tell who listens on the configured port."""
    from everbell.api.serving import listen

    server = settings.server
    where = f"{server.host}:{server.port}"
    ours = [one for one in alive if one.address.endswith(f":{server.port}")]
    if ours and server.port:
        yield Finding(OK, "port", f"{where} is {ours[0].name}'s")
        return
    try:
        listen(settings).close()
    except ConfigError as error:
        holder = _listener(server.port)
        hint = f"it is held by {holder}" if holder else error.hint
        yield Finding(BAD, "port", error.message, hint)
    else:
        yield Finding(OK, "port", f"{where} is free")


def _listener(number: int) -> str:
    try:
        for one in psutil.net_connections("tcp"):
            if (
                one.status == psutil.CONN_LISTEN
                and getattr(one.laddr, "port", 0) == number
                and one.pid
            ):
                return f"{psutil.Process(one.pid).name()} (pid {one.pid})"
    except (psutil.Error, OSError):
        return ""
    return ""


def descriptors(settings: Settings, alive: Sequence[Node]) -> Iterable[Finding]:
    """Compare the limit of open files with what the settings may need."""
    import resource

    # A process has three pipes, a callback one connection; clients of the API need the rest.
    need = settings.engine.max_workers * 3 + settings.callbacks.max_connections + 100
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    whose = "here"
    for node in alive:
        try:
            limit, whose = psutil.Process(node.pid).rlimit(psutil.RLIMIT_NOFILE)[0], node.name
        except (psutil.Error, OSError, AttributeError):
            continue
        if limit < need:
            break
    if 0 <= limit < need:
        text = f"{limit} files may be open ({whose}); the settings may need {need}"
        hint = "raise LimitNOFILE or `ulimit -n`, or lower engine.max_workers"
        yield Finding(WARN, "open files", text, hint)
    else:
        yield Finding(OK, "open files", f"{limit} may be open ({whose}), about {need} needed")


def interpreters(settings: Settings, used: Sequence[str]) -> Iterable[Finding]:
    """Look for the programs that scripts are given to."""
    known = settings.execution.interpreters
    for name in used:
        if name not in known:
            hint = "add it to execution.interpreters, or change the jobs"
            text = f"scripts name `{name}`, which is not offered"
            yield Finding(BAD, "interpreters", text, hint)
    missing = [name for name, program in known.items() if not _program(name, program)]
    for name in missing:
        if name in used:
            text = f"`{name}` ({known[name]}) is not on this machine; jobs use it"
            yield Finding(BAD, "interpreters", text, "install it")
    there = [name for name in known if name not in missing]
    absent = f"; not here: {', '.join(missing)}" if missing else ""
    yield Finding(OK, "interpreters", f"{', '.join(there)}{absent}")


def _program(name: str, program: str) -> bool:
    own = name == "python" and program == "python3" and bool(sys.executable)
    return own or shutil.which(program) is not None


def callbacks(settings: Settings) -> Iterable[Finding]:
    """Judge what HTTP actions may reach."""
    shared = settings.server.host not in {"127.0.0.1", "::1", "localhost"}
    private = settings.callbacks.private_addresses
    if private == "allow" and shared:
        text = "callbacks may reach private addresses, and the API is open to other machines"
        hint = 'callbacks.private_addresses = "deny", unless all who may create jobs are trusted'
        yield Finding(WARN, "callbacks", text, hint)
    else:
        yield Finding(OK, "callbacks", f"private addresses: {private}")
    if shared and settings.server.protocol == "http":
        text = "the API speaks plain HTTP to other machines"
        yield Finding(WARN, "network", text, "put a proxy with TLS in front of it")
