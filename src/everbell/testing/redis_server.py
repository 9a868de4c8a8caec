"""A private Redis server on a free loopback port, for tests and benchmarks."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from everbell.testing.certificates import make_certificates
from everbell.testing.free_ports import free_port

START_S = 10.0


def program() -> str:
    """Return the server's program. Raises RuntimeError if there is none."""
    found = shutil.which("redis-server")
    if found is None:
        message = "Redis is not installed; run `make test-setup`"
        raise RuntimeError(message)
    return found


class RedisServer:
    """A server in a temporary directory, without persistence: a restart forgets everything.

    ``password`` is the default user's. ``tls``: no plain connections, and clients must show a
    certificate; the files lie in ``directory`` (see ``make_certificates``).
    """

    def __init__(self, *, password: str = "", tls: bool = False) -> None:
        self._program = program()
        self.password = password
        self.tls = tls
        self.directory = Path(tempfile.mkdtemp(prefix="everbell-redis-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if tls:
                make_certificates(self.directory)
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def addr(self) -> str:
        """The address as ``redis.addr`` takes it."""
        return f"{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    @property
    def socket_path(self) -> Path:
        """The Unix socket on which the server listens too."""
        return self.directory / "socket"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {
            "bind": "127.0.0.1",
            "port": 0 if self.tls else self.port,
            "unixsocket": self.socket_path,
            "dir": self.directory,
            "logfile": self.directory / "log",
            "save": "",
            "appendonly": "no",
            "enable-debug-command": "local",
        }
        if self.password:
            options["requirepass"] = self.password
        if self.tls:
            options |= {
                "tls-port": self.port,
                "tls-cert-file": self.directory / "server.pem",
                "tls-key-file": self.directory / "server.key",
                "tls-ca-cert-file": self.directory / "ca.pem",
            }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            [self._program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_S  # noqa: TID251 - a real server, real time
        while True:
            try:
                self.command("PING")
            except (OSError, RuntimeError) as error:
                process = self._process
                gone = process is None or process.poll() is not None
                if gone or time.monotonic() > until:  # noqa: TID251
                    log = self.directory / "log"
                    said = log.read_text() if log.exists() else ""
                    message = f"redis-server does not answer: {error}\n{said[-2000:]}"
                    raise RuntimeError(message) from error
                time.sleep(0.01)  # noqa: TID251
            else:
                return

    def stop(self) -> None:
        """Stop in good order; data is not kept."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Crash and start again, empty, on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop all its processing; connections stay open."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        """Forget all data."""
        self.command("FLUSHALL")

    def command(self, *words: str | int) -> str:
        """Carry out one command over the Unix socket; return the answer as it came."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(self.socket_path))
            if self.password:
                line.sendall(_packed("AUTH", self.password))
                _answer(line)
            line.sendall(_packed(*words))
            said = _answer(line)
        if said.startswith("-"):
            raise RuntimeError(said)
        return said

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        process.wait(30)

    def close(self) -> None:
        """Stop the server and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def _packed(*words: str | int) -> bytes:
    parts = [str(word).encode() for word in words]
    lines = [b"*%d" % len(parts)]
    for part in parts:
        lines += [b"$%d" % len(part), part]
    return b"\r\n".join([*lines, b""])


def _answer(line: socket.socket) -> str:
    said = line.recv(65536)
    if not said:
        raise ConnectionError("the server closed the connection")
    return said.decode(errors="replace").removesuffix("\r\n")
