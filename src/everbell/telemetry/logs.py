"""Logging: one set-up for the process; everybody else calls ``get_logger``."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import TextIO

import structlog

from everbell.config.schema import Log
from everbell.domain.errors import ConfigError

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


def _file_handler(path: Path, *, text: bool) -> logging.Handler:
    try:
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=ROTATE_BYTES, backupCount=ROTATE_FILES, encoding="utf-8"
        )
    except OSError as error:
        message = f"can't write the log file {path}: {error.strerror or error}"
        raise ConfigError(message, hint="change `log.file`, or make its directory") from error
    handler.setFormatter(_formatter(text=text, colors=False))
    return handler


def _formatter(*, text: bool, colors: bool) -> logging.Formatter:
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
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
