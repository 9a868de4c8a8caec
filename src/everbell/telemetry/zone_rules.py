"""Which time zone rules this process uses: the nodes of a cluster must have the same."""

from __future__ import annotations

import zoneinfo
from importlib import import_module
from pathlib import Path


def rules_version() -> str:
    """Return the version of the rules, as 2026a; "" if the system does not tell it."""
    for directory in zoneinfo.TZPATH:
        if (Path(directory) / "UTC").exists():
            return system_version(Path(directory))
    return package_version()


def package_version() -> str:
    """Return the version of the package tzdata."""
    return str(import_module("tzdata").IANA_VERSION)


def system_version(directory: Path) -> str:
    """Return the version that a system's directory of rules tells; "" if it does not."""
    for name in ("tzdata.zi", "+VERSION"):
        try:
            with (directory / name).open(encoding="utf-8") as file:
                return file.readline().removeprefix("# version").strip()[:20]
        except OSError:
            continue
    return ""
