"""A WSGI program with a node in a thread: ``gunicorn --workers 4 wsgi_shop:web``."""

from collections.abc import Callable, Iterable
from typing import Any

from shop import app as jobs
from shop import restock

jobs.start_background()


def web(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Ask for a run from a thread of the server, and wait for what it returns."""
    jobs.wait_background()
    run = restock.run_now_sync(item=environ["PATH_INFO"].strip("/") or "bell")
    start_response("200 OK", [("content-type", "text/plain")])
    return [run.result_sync(timeout=10).encode()]
