"""What was given so far: values by setting, their origins, and what is wrong with them."""

from __future__ import annotations

from typing import Any

from everbell.config.fields import all_fields, read_value
from everbell.domain.errors import ConfigError, FieldProblem


class Collector:
    """Values by setting, with the problems met on the way."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.notes: list[str] = []
        self.problems: list[FieldProblem] = []

    def problem(self, name: str, message: str, hint: str = "") -> None:
        """Note that a setting is wrong."""
        pointer = "/" + name.replace(".", "/")
        self.problems.append(FieldProblem(pointer, message, hint=hint, code="invalid_config"))

    def put(
        self, name: str, value: Any, origin: str, *, text: bool, spelled: str | None = None
    ) -> None:
        """Take a value, or note what is wrong, under the name that it was given by."""
        try:
            self.values[name] = read_value(all_fields()[name], value, text=text)
        except ConfigError as error:
            message = f"{origin}: {error.message.replace(f'`{name}`', f'`{spelled or name}`')}"
            if not any(problem.message == message for problem in self.problems):
                self.problem(name, message, error.hint)
        else:
            self.origins[name] = origin

    def raise_problems(self) -> None:
        """Raise ConfigError with all that was noted, if anything was."""
        if not self.problems:
            return
        first = self.problems[0]
        raise ConfigError(first.message, hint=first.hint, problems=tuple(self.problems))
