"""Reads Markdown pages as programs: fenced blocks out, `console` blocks through a real shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)?[ \t]*([^\n]*)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
PORTS = ("9091", "9092")
"""Used on pages: a node's, and that of a server beside it. Tests put free ones there."""

# What differs from run to run, in the order in which it is replaced.
MASKS = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", "<time>"),
    (r"\b\d+-1\d{15}(-(then\d+-)?[0-9a-f]{16})?\b", "<run>"),
    (r"\beb_[0-9a-f]{24}\b", "<key>"),
    (r"\bwhsec_[\w+/]+=*", "<secret>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b[\w-]{43}\b", "<secret>"),
    (r"\b\d+\.\d+\b", "<number>"),
    (r"[ \t]+", " "),
)
TOLD = re.compile(r"\s+# exit code (\d+)$")
LOOKS = re.compile(
    r"everbell (status|run list|run logs|hold list|node list|job (get|list)|verify)"
    r"|redis-cli .* (SCARD|XLEN)|curl (?!.*(-X|-d|--data))"
)
PATIENCE_S = 20.0


@dataclass
class Block:
    """One fenced block: its language, the rest of the info line, its text, and where it began."""

    language: str
    info: str
    text: str
    line: int


@dataclass
class Step:
    """One command of a `console` block and the lines that the page shows below it."""

    command: str
    line: int
    shown: list[str] = field(default_factory=list)


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page in these languages, in order."""
    text = page.read_text()
    return [
        Block(m[1] or "", m[2].strip(), m[3], text.count("\n", 0, m.start()) + 2)
        for m in FENCE.finditer(text)
        if (m[1] or "") in languages
    ]


def steps(block: Block) -> list[Step]:
    """Split a `console` block at its prompts; a quote, `\\` and `<<'EOF'` go on over lines."""
    found: list[Step] = []
    going_on = False
    until = ""
    for number, line in enumerate(block.text.splitlines(), block.line):
        if going_on:
            found[-1].command += "\n" + line
        elif line.startswith("$ "):
            found.append(Step(line[2:], number))
        else:
            assert found, f"line {number}: output before the first command"
            found[-1].shown.append(line)
            continue
        if heredoc := re.search(r"<<'(\w+)'", line):
            until = heredoc[1]
        elif line == until:
            until = ""
        quoted = found[-1].command.count("'") % 2 == 1
        going_on = bool(until) or quoted or line.endswith("\\")
    return found


def masked(text: str) -> str:
    """Replace what no two runs have in common."""
    for pattern, word in MASKS:
        text = re.sub(pattern, word, text)
    return text.rstrip()


def differs(shown: list[str], printed: list[str]) -> str:
    """Say how output differs from what a page shows; "" if it does not.

    `...` alone on a line stands for any number of lines, inside a line for any text. A page that
    shows nothing says nothing about the output.
    """
    if not shown:
        return ""
    wanted = [masked(line) for line in shown]
    got = "\n".join(masked(line) for line in printed if line.strip())
    pattern = ""
    for line in wanted:
        if not line:
            continue
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.split("...")) + r"\n"
    if re.fullmatch(pattern, got + "\n"):
        return ""
    return "the page shows\n  {}\nbut this came\n  {}".format(
        "\n  ".join(wanted), got.replace("\n", "\n  ")
    )


def check(shell: Shell, found: Iterable[Step], page: str) -> None:
    """Run steps; fail at the first that ends or prints otherwise than its page shows.

    What only looks, after a `sleep`, looks again: on a busy machine it takes longer than a page
    lets its reader wait.
    """
    slept = False
    for step in found:
        end = time.monotonic() + (PATIENCE_S if slept and LOOKS.match(step.command) else 0)
        while why := _unlike(shell, step):
            assert time.monotonic() < end, f"{page}:{step.line}: $ {step.command}\n{why}"
            time.sleep(0.3)
        slept = "sleep" in step.command or (slept and bool(LOOKS.match(step.command)))


def _unlike(shell: Shell, step: Step) -> str:
    printed, code = shell.run(step.command)
    told = TOLD.search(step.command)
    if code != (int(told[1]) if told else 0):
        return f"exit code {code}\n" + "\n".join(printed)
    return differs(step.shown, printed)


class Shell:
    """A bash that goes on from command to command, as a reader's terminal does."""

    def __init__(self, directory: Path, ports: Sequence[int]) -> None:
        self.directory = directory
        self.ports = dict(zip(PORTS, map(str, ports), strict=True))
        self.script = directory.parent / "step.sh"
        self.master, slave = os.openpty()
        bin_dir = str(Path(sys.executable).parent)
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=slave,
            stderr=slave,
            text=True,
            start_new_session=True,
            env={
                "PATH": f"{bin_dir}:{os.environ['PATH']}",
                "HOME": str(directory),
                "LANG": "C.UTF-8",
                "COLUMNS": "200",
                "NO_COLOR": "1",
                "EVERBELL_SERVER_PORT": str(ports[0]),
                "CHECKOUT": str(ROOT),
            },
        )
        os.close(slave)

    def run(self, command: str) -> tuple[list[str], int]:
        """Run one command; return the lines that it printed, and its exit code."""
        assert self.process.stdin is not None
        for shown, port in self.ports.items():
            command = command.replace(shown, port)
        self.script.write_text(command + "\n")
        end = "--end-of-step--"
        self.process.stdin.write(f". {self.script} < /dev/null\nprintf '\\n{end} %d\\n' $?\n")
        self.process.stdin.flush()
        seen = b""
        while not (last := re.search(rb"\n%s (\d+)\r?\n" % end.encode(), seen)):
            seen += os.read(self.master, 65536)
        text = seen[: last.start()].decode().replace("\r\n", "\n")
        for shown, port in self.ports.items():
            # Not inside of a run's id: its digits may hold any number.
            text = re.sub(rf"(?<!\d){port}(?!\d)", shown, text)
        return text.splitlines(), int(last[1])

    def close(self) -> None:
        """End the shell and whatever it started."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)
        os.close(self.master)
