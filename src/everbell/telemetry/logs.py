"""Logging: one set-up for the process; everybody else calls ``get_logger``."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys
from pathlib import Path
from typing import TextIO

import structlog

from everbell.config.schema import Log
from everbell.domain.errors import ConfigError
from everbell.domain.run import Run
from everbell.ports.observer import LOG_SUBJECT

ROTATE_BYTES = 10_000_000
ROTATE_FILES = 5
_LEVELS = {
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
}


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. ``extra={...}`` fields become part of the record."""
    return logging.getLogger(name)


def set_up(log: Log, directory: str | Path = ".", *, stream: TextIO | None = None) -> None:
    """Route all logging to stderr (each record flushed) and to a rotating file if one is set.

    Text goes to terminals, JSON elsewhere, unless the format is fixed. Raises ConfigError if the
    file can't be opened. May be called again; the last call wins.
    """
    target = stream if stream is not None else sys.stderr
    text = log.format == "text" or (log.format == "auto" and target.isatty())
    handlers: list[logging.Handler] = [logging.StreamHandler(target)]
    handlers[0].setFormatter(_formatter(text=text, colors=text and target.isatty()))
    if log.file:
        handlers.append(_file_handler(Path(directory) / log.file, text=log.format == "text"))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(_LEVELS[log.level])


class LogFile(logging.handlers.RotatingFileHandler):
    """Rotates by size; ``reopen`` lets another program (logrotate) move the file away."""

    def reopen(self) -> None:
        """Write to the file that has the name now; go on with the old one if that fails."""
        with self.lock or contextlib.nullcontext():
            old = self.stream
            try:
                self.stream = self._open()
            except OSError as error:
                self.stream = old
                problem = error.strerror or str(error)
                get_logger(__name__).warning("can't reopen %s: %s", self.baseFilename, problem)
            else:
                if old is not None:
                    old.close()


def reopen_files() -> None:
    """Reopen the log file, after it was moved."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            handler.reopen()
    get_logger(__name__).info("the log file was reopened")


def _file_handler(path: Path, *, text: bool) -> logging.Handler:
    try:
        handler = LogFile(path, maxBytes=ROTATE_BYTES, backupCount=ROTATE_FILES, encoding="utf-8")
    except OSError as error:
        message = f"can't write the log file {path}: {error.strerror or error}"
        raise ConfigError(message, hint="change `log.file`, or make its directory") from error
    handler.setFormatter(_formatter(text=text, colors=False))
    return handler


def _without_escapes(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Drop what uvicorn adds for its own formatter: its message again, with escape codes."""
    event.pop("color_message", None)
    return event


def _add_subject(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Add ids of the run or of the request that the line is about."""
    subject = LOG_SUBJECT.get()
    if isinstance(subject, Run):
        event.setdefault("run_id", subject.id)
        event.setdefault("job_id", subject.key.job_id)
        event.setdefault("attempt", subject.attempt)
    elif subject:
        event.setdefault("request_id", subject)
    return event


def _formatter(*, text: bool, colors: bool) -> logging.Formatter:
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _without_escapes,
        _add_subject,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[structlog.typing.Processor]
    if text:
        last = [structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0)]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[meta, *last])
