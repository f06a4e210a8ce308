"""Tables on a terminal: states in colour, and nothing cut off. What is piped on is aligned text, which each verb makes itself."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: The colour of a word for people, and of a result of ``check``.
COLOURS = {
    "attached": "green",
    "failed": "red",
    "blocked": "red",
    "in-doubt": "yellow",
    "sending": "blue",
    "ok": "green",
    "warning": "yellow",
}
#: These are never broken into lines.
_WHOLE = ("state", "since", "when", "id", "size", "seen", "sha256", "result")


def table(title: str, *columns: str, header: bool = True) -> Table:
    """An empty table; whatever does not fit into a line of the terminal is broken within its column."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, header_style="dim",
        show_header=header, expand=False, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for name in columns:
        made.add_column(name, no_wrap=name in _WHOLE, overflow="fold")
    return made


def coloured(word: str) -> Text:
    """A word in its colour; any other as it is."""
    return Text(word, COLOURS.get(word, ""))


def console() -> Console:
    """The terminal."""
    return Console(highlight=False, markup=False, emoji=False)
