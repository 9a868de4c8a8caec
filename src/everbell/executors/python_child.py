"""The child process of ``python_process``: reads its order from standard input, calls, reports."""

from __future__ import annotations

import asyncio
import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

import msgspec

from everbell.executors.python_process import Report
from everbell.ports.functions import CURRENT, Context, Skip


class Order(msgspec.Struct):
    """What to call, and where to report."""

    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    context: Context
    context_name: str
    check: bool
    path: list[str]
    report: str
    result_bytes: int


def main() -> int:
    """Perform the order; return the exit code."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.path[:] = order.path
    report = Report()
    try:
        result = _call(order)
    except Skip as skip:
        report.skipped = skip.reason
    except Exception as error:  # noqa: BLE001  (executor boundary: whatever it raises is told)
        trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
        traceback.print_exception(type(error), error, trace)
        report.error = f"{type(error).__name__}: {error}"[:2000]
    else:
        if order.check:
            report.skipped = None if result else "nothing_to_do"
        elif result is not None:
            _keep(result, order.result_bytes, report)
    Path(order.report).write_bytes(msgspec.json.encode(report))
    return 1 if report.error else 0


def _call(order: Order) -> Any:
    module, _, name = order.function.partition(":")
    target: Any = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    # A decorated function is the job object that stands in its place.
    target = getattr(target, "function", target)
    if order.context_name:
        order.kwargs.setdefault(order.context_name, order.context)
    CURRENT.set(lambda: order.context)
    result = target(*order.args, **order.kwargs)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


def _keep(result: Any, limit: int, report: Report) -> None:
    try:
        data = msgspec.json.encode(result)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        report.note = f"the result is not kept: {error}\n"
        return
    if len(data) > limit:
        report.note = f"the result is not kept: {len(data)} bytes, at most {limit}\n"
    else:
        report.result = data.decode()


if __name__ == "__main__":
    sys.exit(main())
