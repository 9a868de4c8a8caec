"""Functions of allowed modules, found by their name when no application registered them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from functools import lru_cache

from everbell.domain.errors import FieldProblem, ValidationError
from everbell.ports.functions import Function, describe


def allowed(name: str, modules: Sequence[str]) -> Function | None:
    """Return the function ``module:name`` if its module, or a package of it, is listed.

    Only public functions that the module itself defines: what it merely imported (``os.system``)
    is no function of it. Raises ValidationError if the module can't be imported or lacks it.
    """
    module, _, attribute = name.partition(":")
    if not any(module == one or module.startswith(f"{one}.") for one in modules):
        return None
    return _load(module, attribute)


@lru_cache(maxsize=4096)
def _load(module: str, attribute: str) -> Function:
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise _refused(f"the module {module} can't be imported: {error}") from None
    own = inspect.isroutine(found) and getattr(found, "__module__", "") == module
    if not callable(found) or not attribute.isidentifier() or attribute.startswith("_") or not own:
        raise _refused(f"the module {module} defines no public function {attribute!r}")
    return describe(f"{module}:{attribute}", found)


def _refused(message: str) -> ValidationError:
    hint = "module:function, a function that this module defines"
    problem = FieldProblem("/action/function", message, hint=hint, code="unknown")
    return ValidationError(message, hint=hint, problems=(problem,))
