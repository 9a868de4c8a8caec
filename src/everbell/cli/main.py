"""The entrance: ``everbell``. Every group is imported when it is used, not before."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from everbell import __version__
from everbell.cli.base import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    LazyGroup,
    UsageError,
    exit_code,
    say,
    show_error,
)
from everbell.domain.errors import EverbellError

COMMANDS = {
    "init": ("everbell.cli.init:init", "Make a directory ready: configuration, secrets, database."),
    "start": ("everbell.cli.start:start", "Run a node: scheduler, workers, API."),
    "status": ("everbell.cli.node:status", "Show nodes, holds and what is running."),
    "job": ("everbell.cli.job:job", "Create, change, run and list jobs."),
    "run": ("everbell.cli.run:run", "Look at runs: state, output, cancel, retry."),
    "schedule": ("everbell.cli.schedule:schedule", "Explain and check schedules, offline."),
    "import": ("everbell.cli.import_:import_", "Import jobs: crontabs."),
    "export": ("everbell.cli.export:export", "Write jobs as a file, or as a crontab."),
    "apply": ("everbell.cli.apply:apply", "Make jobs what a file says; --plan shows it first."),
    "verify": ("everbell.cli.verify:verify", "Is every slot accounted for?"),
    "why": ("everbell.cli.why:why", "Why did a job run, or not?"),
    "simulate": ("everbell.cli.simulate:simulate", "What would an outage do?"),
    "backfill": ("everbell.cli.backfill:backfill", "Run slots of the past."),
    "project": ("everbell.cli.project:project", "Projects, the namespaces of jobs."),
    "hold": ("everbell.cli.hold:hold", "Stop new runs, and let them go on."),
    "limit": ("everbell.cli.limit:limit", "How many runs jobs may share."),
    "node": ("everbell.cli.node:node", "The processes of the cluster."),
    "cluster": ("everbell.cli.node:cluster", "All nodes together."),
    "credential": ("everbell.cli.credential:credential", "API keys, and this node's secrets."),
    "config": ("everbell.cli.config:config", "Write, check and show the configuration."),
    "demo": ("everbell.cli.demo:demo", "Run a throw-away node with a dozen jobs."),
    "doctor": ("everbell.cli.doctor:doctor", "Look for trouble, and say what to do."),
    "backup": ("everbell.cli.backup:backup", "Copy the database while nodes use it."),
    "restore": ("everbell.cli.restore:restore", "Put a backup in the place of the database."),
    "migrate": ("everbell.cli.migrate:migrate", "Move all from SQLite into PostgreSQL."),
    "completion": ("everbell.cli.completion:completion", "Print a shell's completion script."),
    "version": ("everbell.cli.version:version", "Print the version."),
    # Verb before noun, as on the Scheduler0 page and as kubectl's users type.
    "create": ("everbell.cli.verbs:create", ""),
    "list": ("everbell.cli.verbs:list_", ""),
    "get": ("everbell.cli.verbs:get", ""),
    "delete": ("everbell.cli.verbs:delete", ""),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    plurals=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 run failed, 4 not allowed, 5 not found, "
    "6 conflict, 7 unreachable, 8 pending, 130 interrupted.",
)
@click.version_option(__version__, prog_name="everbell", message="%(prog)s %(version)s")
def cli() -> None:
    """Everbell: a cron server that accounts for every planned instant."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the documented code; expected errors show no trace."""
    _fill_closed_streams()
    sys.exit(run(args))


def _fill_closed_streams() -> None:
    """Give a closed stdin, stdout or stderr (``>&-``) a place to go.

    Else the next file that is opened, such as the database, would get the number 1 or 2.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = os.O_RDONLY if number == 0 else os.O_WRONLY
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        result = cli.main(
            args=list(args) if args is not None else None,
            prog_name="everbell",
            standalone_mode=False,
        )
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        return _show_click(error)
    except UsageError as error:
        show_error(error)
        return EXIT_USAGE
    except EverbellError as error:
        show_error(error)
        return exit_code(error)
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`); nothing is wrong, and the exit must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except TimeoutError:
        say("error: timed out")
        return EXIT_UNREACHABLE
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        say(f"error: {name}{error.strerror or error}")
        return EXIT_FAILED
    return result if isinstance(result, int) else EXIT_OK


def _show_click(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say(error.format_message())
        return EXIT_USAGE
    message = " ".join(error.format_message().split()).rstrip(".")
    say(f"error: {message[:1].lower() + message[1:]}")
    context = getattr(error, "ctx", None)
    if context is not None:
        say(f"hint: see `{context.command_path} --help`")
    return EXIT_USAGE if isinstance(error, click.UsageError) else EXIT_FAILED
