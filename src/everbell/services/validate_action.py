"""What an action may say, whatever the node that performs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from everbell.domain.errors import FieldProblem
from everbell.domain.job import (
    Action,
    CommandAction,
    HttpAction,
    PythonAction,
    QueueAction,
    ScriptAction,
)

MAX_URL = 2_048
MAX_SCRIPT = 1_048_576
MAX_ARGS = 1_000
MAX_NAME = 500
MAX_LENGTH = 1_000_000_000
MAX_ARG_BYTES = 131_072  # Linux: MAX_ARG_STRLEN, the longest single argument or variable
_NO_NUL = "leave out U+0000"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_DRIVER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SUCCESS = re.compile(r"[1-5](xx|[0-9][0-9])\Z")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# They frame the request or route it: a job must not forge them.
_OWN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)


def action_problems(action: Action, *, check: bool = False) -> Iterator[FieldProblem]:
    """Yield all that is wrong with an action, or with a check, by pointer under ``/action``."""
    if isinstance(action, HttpAction):
        if check and action.batch:
            hint = "leave it out: each run waits for the answer to its own check"
            yield FieldProblem("/action/batch", "does not go with a check", hint=hint)
        yield from _http(action)
        return
    if isinstance(action, PythonAction):
        yield from _python(action)
        return
    if isinstance(action, QueueAction):
        if check:
            hint = "use http, command, script or python: a queue gives no answer"
            yield FieldProblem("/action/kind", "does not go with a check", hint=hint)
        yield from _queue(action)
        return
    if isinstance(action, CommandAction):
        if not action.argv or not action.argv[0].strip():
            hint = 'the program, then its arguments: ["/usr/bin/backup", "--all"]'
            yield FieldProblem("/action/argv", "names no program", hint=hint)
        yield from _words("/action/argv", action.argv)
    else:
        yield from _script(action)
    yield from _process(action)


def url_problem(url: str) -> str:
    """Return why the text is no HTTP address, or nothing."""
    if len(url) > MAX_URL:
        return f"is {len(url)} characters long, at most {MAX_URL} are allowed"
    if not url.isprintable() or " " in url or "\\" in url:
        return "holds spaces, backslashes or control characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"can't be read: {error}"
    if parts.scheme.lower() not in {"http", "https"}:
        return f"has the scheme {parts.scheme!r}"
    if not parts.hostname:
        return "has no host"
    if port == 0:
        return "has port 0"
    return ""


def _http(action: HttpAction) -> Iterator[FieldProblem]:
    trouble = url_problem(action.url)
    if trouble:
        hint = "an address such as https://example.com/callback"
        yield FieldProblem("/action/url", trouble, hint=hint)
    if action.batch and action.method not in _WITH_BODY:
        hint = "use POST, PUT or PATCH: the runs of a batch are told in the body"
        yield FieldProblem("/action/batch", f"does not go with {action.method}", hint=hint)
    if len(action.headers) > 100:
        yield FieldProblem("/action/headers", f"holds {len(action.headers)}", hint="at most 100")
    for name, value in list(action.headers.items())[:100]:
        pointer = f"/action/headers/{name[:80]}"
        if not _TOKEN.match(name):
            yield FieldProblem(pointer, "is no header name", hint="such as x-team")
        elif name.lower() in _OWN_HEADERS:
            yield FieldProblem(pointer, "is set by the server", hint="leave it out")
        if len(value) > 8_192 or any(c in value for c in "\r\n\0"):
            hint = "one line of at most 8192 characters"
            yield FieldProblem(
                pointer, "has a value that is too long or holds line ends", hint=hint
            )
    for index, text in enumerate(action.success):
        if not _SUCCESS.match(text):
            hint = "a status such as 200, or a class such as 2xx"
            yield FieldProblem(f"/action/success/{index}", f"is {text[:40]!r}", hint=hint)


def _python(action: PythonAction) -> Iterator[FieldProblem]:
    module, colon, name = action.function.partition(":")
    if not (module and colon and name and action.function.isprintable()):
        hint = "module:function, such as shop.reports:daily"
        yield FieldProblem("/action/function", "names no function", hint=hint)
    for field in ("function", "app", "retired"):
        if len(getattr(action, field)) > MAX_NAME:
            yield FieldProblem(f"/action/{field}", "is too long", hint=f"at most {MAX_NAME}")
    if len(action.args) + len(action.kwargs) > MAX_ARGS:
        yield FieldProblem("/action/args", "are too many", hint=f"at most {MAX_ARGS} arguments")
    for name in list(action.kwargs)[:MAX_ARGS]:
        if not name.isidentifier():
            hint = "letters, digits, underscore"
            yield FieldProblem(f"/action/kwargs/{name[:80]}", "is no parameter name", hint=hint)


def _queue(action: QueueAction) -> Iterator[FieldProblem]:
    if not _DRIVER.match(action.driver):
        hint = "letters, digits, dot, dash, underscore; one of `queues.drivers`"
        yield FieldProblem("/action/driver", "is no name of a driver", hint=hint)
    if action.max_length is not None and not 0 <= action.max_length <= MAX_LENGTH:
        hint = f"a whole number from 0 (no limit) to {MAX_LENGTH}"
        yield FieldProblem("/action/max_length", f"is {action.max_length}", hint=hint)


def _script(action: ScriptAction) -> Iterator[FieldProblem]:
    if not action.text.strip():
        yield FieldProblem("/action/text", "is empty", hint="the script's text")
    if len(action.text) > MAX_SCRIPT:
        hint = f"at most {MAX_SCRIPT} characters"
        yield FieldProblem("/action/text", f"is {len(action.text)} characters long", hint=hint)
    if "\0" in action.text:
        yield FieldProblem("/action/text", "holds a NUL character", hint=_NO_NUL)
    if not action.interpreter.strip() or not action.interpreter.isprintable():
        yield FieldProblem("/action/interpreter", "is no name", hint="sh, bash, python or node")
    yield from _words("/action/args", action.args)


def _words(pointer: str, words: tuple[str, ...]) -> Iterator[FieldProblem]:
    if len(words) > MAX_ARGS:
        yield FieldProblem(pointer, f"holds {len(words)} words", hint=f"at most {MAX_ARGS}")
    for index, word in enumerate(words[:MAX_ARGS]):
        if "\0" in word:
            yield FieldProblem(f"{pointer}/{index}", "holds a NUL character", hint=_NO_NUL)
        elif len(word.encode("utf-8", "surrogatepass")) >= MAX_ARG_BYTES:
            hint = "hand it over in `data`, or in a file"
            yield FieldProblem(f"{pointer}/{index}", "is longer than 128 KiB", hint=hint)


def _process(action: CommandAction | ScriptAction) -> Iterator[FieldProblem]:
    if action.cwd is not None and ("\0" in action.cwd or not action.cwd.startswith("/")):
        yield FieldProblem("/action/cwd", "is no absolute path", hint="such as /srv/app")
    user = action.user
    if user is not None and (not user or not user.isprintable() or len(user) > 64):
        yield FieldProblem("/action/user", "is no user name", hint="such as www-data")
    if len(action.env) > 500:
        yield FieldProblem("/action/env", f"holds {len(action.env)}", hint="at most 500")
    for name, value in list(action.env.items())[:500]:
        pointer = f"/action/env/{name[:80]}"
        if not _ENV_NAME.match(name):
            yield FieldProblem(pointer, "is no variable name", hint="letters, digits, underscore")
        if "\0" in value or len(value) >= MAX_ARG_BYTES:
            hint = "shorter text without U+0000"
            trouble = "has a value with NUL characters, or over 128 KiB"
            yield FieldProblem(pointer, trouble, hint=hint)
