"""Questions that are asked on a terminal where their option is not given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import typer

from attachd.errors import Mistake, Problem

#: How often a question is asked that gets an answer which is no good.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks on a terminal; without one what is missing is a mistake."""

    terminal: bool

    def text(
        self, question: str, given: str | None, *, option: str = "", default: str | None = None,
        check: Callable[[str], str] = lambda _: "", hidden: bool = False,
    ) -> str:  # fmt: skip
        """The answer, from the option or the terminal. Raises ``model.Mistake`` (2) for one that is no good, or none."""
        if given is not None or not self.terminal:
            if given is None and default is None:
                raise Mistake(
                    Problem(option, "is not given, and there is no terminal to ask on.", "Give it."), exit_code=2
                )
            answer = given if given is not None else default or ""
            if wrong := check(answer):
                raise Mistake(Problem(option or question, wrong), exit_code=2)
            return answer
        for _ in range(TRIES):
            answer = str(typer.prompt(question, default=default, hide_input=hidden, show_default=bool(default))).strip()
            wrong = check(answer)
            if not wrong:
                return answer
            print(f"  {wrong}")
        raise Mistake(Problem("", "that is no answer either; nothing was written."), exit_code=2)
