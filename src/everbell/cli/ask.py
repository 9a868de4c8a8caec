"""Asking people: only where someone can answer."""

from __future__ import annotations

import sys

import click

from everbell.cli.base import UsageError


def can_ask() -> bool:
    """Tell whether a person sits at the other end."""
    return sys.stdin.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Go on only with consent. Raises UsageError where no one can be asked, Abort on no."""
    if yes:
        return
    if not can_ask():
        raise UsageError(f"{question} No one can be asked here", hint="add --yes to confirm")
    click.confirm(question, abort=True, err=True)


def need(value: str | None, flag: str, question: str, *, hidden: bool = False) -> str:
    """Return the flag's value, or ask for it. Raises UsageError where no one can be asked."""
    if value:
        return value
    if not can_ask():
        raise UsageError(f"{flag} is missing", hint=f"give {flag}; no one can be asked here")
    answer: str = click.prompt(question, hide_input=hidden, confirmation_prompt=hidden, err=True)
    return answer
