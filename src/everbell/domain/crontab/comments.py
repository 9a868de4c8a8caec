"""The words above a crontab's line, as the job's description."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_LENGTH = 4000
# A line that was switched off, as in `# 0 4 * * * root tool`, says nothing about the next one.
_OFF = re.compile(r"(?:@\w+|[\d*][\d*/,~-]*(?:\s+[\d*][\d*/,~-]*){2}(?:\s+[\w*/,#?-]+){2})\s+\S")
_HEAD = re.compile(r"m(?:in\w*)?\s+h(?:our|r)?\b", re.IGNORECASE)
_ART = re.compile(r"[.|┌│*]\s?[-|.─*\s]|-{3}|={3}|#{3}")


def description(comments: Sequence[str]) -> str:
    """Return the last paragraph of the comment lines that stand right above an entry."""
    paragraphs: list[list[str]] = [[]]
    for line in comments:
        words = line.lstrip("#").strip()
        if not words:
            paragraphs.append([])
        elif not _OFF.match(words) and not _HEAD.match(words):
            paragraphs[-1].append(words)
    spoken = [one for one in paragraphs if one and not any(_ART.match(line) for line in one)]
    text = "\n".join(spoken[-1]) if spoken else ""
    return "".join(one for one in text if one.isprintable() or one == "\n")[:MAX_LENGTH]
