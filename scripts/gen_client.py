"""Writes ``everbell.client.sync`` from ``everbell.client.aio``: the same without waiting.

``--check`` only says which files are out of date (exit code 1). The transport is written by hand.
"""

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[1] / "src" / "everbell" / "client"
MODULES = ("core", "jobs", "runs", "admin", "client")
NOTE = "# Generated from everbell/client/aio by scripts/gen_client.py; change that instead.\n"
WORDS = (
    (r"\basync with AsyncClient\(", "with Client("),
    (r"``async (for|with)", r"``\1"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\baclosing\b", "closing"),
    (r"\bAsync(\w+)", r"\1"),
    (r"\beverbell\.client\.aio\b", "everbell.client.sync"),
)


def translated(source: str) -> str:
    """Return a module of ``aio`` as one of ``sync``, in the house style."""
    for pattern, word in WORDS:
        source = re.sub(pattern, word, source)
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    name = ["--stdin-filename", str(CLIENT / "sync" / "generated.py"), "-"]
    for command in (["check", "--quiet", "--fix-only", "--select", "I"], ["format", "--quiet"]):
        done = subprocess.run(
            [*ruff, *command, *name], input=source, capture_output=True, text=True, check=True
        )
        source = done.stdout
    return NOTE + source


def main() -> int:
    """Write the modules, or compare them."""
    stale = []
    for module in MODULES:
        target = CLIENT / "sync" / f"{module}.py"
        wanted = translated((CLIENT / "aio" / f"{module}.py").read_text())
        if target.exists() and target.read_text() == wanted:
            continue
        if "--check" in sys.argv[1:]:
            stale.append(target.name)
        else:
            target.write_text(wanted)
    if stale:
        print(f"out of date: {', '.join(stale)}; run scripts/gen_client.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
