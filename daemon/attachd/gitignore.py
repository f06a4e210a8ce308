"""Match patterns in the syntax of gitignore(5), in a time that is limited by their length whatever they say.

People who drop files write patterns and choose names, so nothing here backtracks. All patterns of a list are one automaton, whose
states are the bits of one integer; it reads each character of a name once (Baeza-Yates and Gonnet, “A new approach to text
searching”, https://doi.org/10.1145/135239.135243). Names are compared as characters, where Git compares bytes: a “?” stands for
a whole “ü”. Everything else is as in Git (dir.c and wildmatch.c); the tests compare with Git itself.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto


class Wildcard(Enum):
    """A token that stands for more than one possible character."""

    ONE = auto()  #: ``?``: any one but a slash
    SOME = auto()  #: ``*``: any number, but no slash
    ALL = auto()  #: ``**``: any number, slashes too
    FOLDERS = auto()  #: in front of ``**/``, which may also stand for no folder at all


@dataclass(frozen=True, slots=True)
class Brackets:
    """A set of characters, as in ``[a-z]``; never a slash."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def fits(self, char: str) -> bool:
        """Return True if the set contains *char*."""
        return any(low <= char <= high for low, high in self.ranges) != self.negated


Token = str | Brackets | Wildcard


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line: *negated* by ``!``, for *folders* only by a slash at its end, for whole *paths* by an earlier slash."""

    line: str
    tokens: tuple[Token, ...]
    negated: bool = False
    folders: bool = False
    paths: bool = False


@dataclass(frozen=True, slots=True)
class NoPattern:
    """A line that can never fit a name; *reason* says why, or is "" if that is plain."""

    reason: str = ""


#: The characters that end the part of a pattern which stands for itself.
_SPECIAL = frozenset("*?[\\")

_UPPER, _LOWER, _DIGITS = ("A", "Z"), ("a", "z"), ("0", "9")
_PUNCTUATION = (("!", "/"), (":", "@"), ("[", "`"), ("{", "~"))
#: The classes of ASCII; Git knows no others.
_CLASSES = {
    "alnum": (_UPPER, _LOWER, _DIGITS),
    "alpha": (_UPPER, _LOWER),
    "blank": ((" ", " "), ("\t", "\t")),
    "cntrl": (("\0", "\x1f"), ("\x7f", "\x7f")),
    "digit": (_DIGITS,),
    "graph": (("!", "~"),),
    "lower": (_LOWER,),
    "print": ((" ", "~"),),
    "punct": _PUNCTUATION,
    "space": ((" ", " "), ("\t", "\r")),
    "upper": (_UPPER,),
    "xdigit": (_DIGITS, ("A", "F"), ("a", "f")),
}


# --- Reading a line ---------------------------------------------------------------------------------------------


def parse(line: str) -> Pattern | NoPattern | None:
    """Read one line; None for a blank line or a comment."""
    if "\0" in line:
        return NoPattern("it has a NUL character; save the file as UTF-8 text")
    text = _without_spaces(line)
    if not text or line.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text[negated:]
    folders = text.endswith("/")
    text = text[: len(text) - folders]
    paths = "/" in text
    # A slash in front only says that the whole path is meant.
    begin = 1 if text.startswith("/") else 0
    if not text[begin:]:
        return NoPattern()
    if _is_cut_off(text):
        return NoPattern()
    try:
        tokens = tuple(_tokens(text[begin:], paths=paths))
    except _Unfit as unfit:
        return NoPattern(str(unfit))
    return Pattern(line, tokens, negated, folders, paths)


class _Unfit(Exception):
    """What is wrong with the set of characters that a pattern contains."""


def _without_spaces(line: str) -> str:
    """Drop spaces at the end, except one after a backslash."""
    kept = line.rstrip(" ")
    return kept + " " if len(kept) < len(line) and _is_cut_off(kept) else kept


def _is_cut_off(text: str) -> bool:
    """Return True if *text* ends in a backslash that quotes nothing."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _tokens(text: str, *, paths: bool) -> Iterator[Token]:
    """Yield the tokens of a pattern; consecutive stars are one token."""
    plain = next((at for at, char in enumerate(text) if char in _SPECIAL), len(text))
    yield from text[:plain]
    at, after_folders = plain, False
    while at < len(text):
        char = text[at]
        if char == "*":
            end = at + len(text[at:]) - len(text[at:].lstrip("*"))
            # Git compares what stands for itself first, so that what follows it is a beginning too.
            whole = end - at > 1 and paths and (at == plain or text[at - 1] == "/")
            rest = text[end : end + 2]
            if whole and (not rest or rest[0] == "/" or rest == "\\/"):
                if rest[:1] == "/" and after_folders:
                    at = end + 1  # One ``**/`` after another adds nothing.
                    continue
                if rest[:1] == "/":
                    yield from (Wildcard.FOLDERS, Wildcard.ALL, "/")
                    at, after_folders = end + 1, True
                    continue
                yield Wildcard.ALL
            else:
                yield Wildcard.SOME
            at = end
        elif char == "?":
            yield Wildcard.ONE
            at += 1
        elif char == "[":
            brackets, at = _brackets(text, at + 1)
            yield brackets
        else:
            at += char == "\\"
            yield text[at]
            at += 1
        after_folders = False


def _brackets(text: str, at: int) -> tuple[Brackets, int]:
    """Read a set of characters from behind its bracket on; return it, and where what follows it begins."""
    negated = text[at : at + 1] in ("!", "^")
    at += negated
    ranges: list[tuple[str, str]] = []
    first = True
    while first or text[at : at + 1] != "]":
        first = False
        if text.startswith("[:", at) and (named := _class(text, at)):
            found, at = named
            ranges += found
            continue
        low, at = _char(text, at)
        high = low
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in ("", "]"):
            high, at = _char(text, at + 1)
            if high < low:
                raise _Unfit(f"its range {low}-{high} runs backwards")
        ranges.append((low, high))
    return Brackets(tuple(ranges), negated), at + 1


def _class(text: str, at: int) -> tuple[tuple[tuple[str, str], ...], int] | None:
    """Read ``[:alpha:]``; None if the bracket stands for itself. Raises _Unfit."""
    end = text.find("]", at + 2)
    if end < 0:
        raise _Unfit("its [ is never closed")
    if end == at + 2 or text[end - 1] != ":":
        return None
    name = text[at + 2 : end - 1]
    if name not in _CLASSES:
        raise _Unfit(f"there is no class [:{name}:]")
    return _CLASSES[name], end + 1


def _char(text: str, at: int) -> tuple[str, int]:
    """Read one character of a set, perhaps behind a backslash. Raises _Unfit."""
    at += text[at : at + 1] == "\\"
    if at >= len(text):
        raise _Unfit("its [ is never closed")
    return text[at], at + 1


# --- Matching ---------------------------------------------------------------------------------------------------

#: Characters whose states an automaton remembers at most.
_REMEMBERED = 128


@dataclass(frozen=True, slots=True)
class Match:
    """The *line* that decides about a path, and whether it *hides* the path."""

    line: str
    hides: bool


class Patterns:
    """A list of patterns; the last one that fits decides. Threads may share it."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._matches = [Match(pattern.line, not pattern.negated) for pattern in patterns]
        self._names = _Automaton([(at, p) for at, p in enumerate(patterns) if not p.paths])
        self._paths = _Automaton([(at, p) for at, p in enumerate(patterns) if p.paths])

    def last(self, path: str, *, folder: bool) -> Match | None:
        """Return the last pattern that fits this path itself, not only a folder above it, or None."""
        at = max(self._names.last(path.rpartition("/")[2], folder=folder), self._paths.last(path, folder=folder))
        return None if at < 0 else self._matches[at]


class _Automaton:
    """Patterns as states. State *n* of a pattern: its tokens before *n* have fitted what was read of the name."""

    def __init__(self, patterns: Sequence[tuple[int, Pattern]]) -> None:
        self._numbers = [number for number, _ in patterns]
        self._starts = [0, *itertools.accumulate(len(pattern.tokens) + 1 for _, pattern in patterns)][:-1]
        #: The token of each state if it stands for itself, else NUL, which no name contains.
        self._plain = "".join(
            token if isinstance(token, str) else "\0" for _, p in patterns for token in (*p.tokens, Wildcard.ONE)
        )
        found = dict[object, list[int]]()
        for start, (_, pattern) in zip(self._starts, patterns, strict=True):
            for at, token in enumerate(pattern.tokens, start):
                if not isinstance(token, str):
                    found.setdefault(token, []).append(at)
        ends = [(s + len(p.tokens), p) for s, (_, p) in zip(self._starts, patterns, strict=True)]
        self._one, self._folders = _bits(found.get(Wildcard.ONE, ())), _bits(found.get(Wildcard.FOLDERS, ()))
        self._all = _bits(found.get(Wildcard.ALL, ()))
        self._stars = self._all | _bits(found.get(Wildcard.SOME, ()))
        self._brackets = [(token, _bits(states)) for token, states in found.items() if isinstance(token, Brackets)]
        self._ends = _bits([end for end, _ in ends])
        self._ends_of_files = _bits([end for end, pattern in ends if not pattern.folders])
        self._begin = self._passed(_bits(self._starts))
        self._known: dict[str, int] = {}
        #: The folder of the last path, and the states after its name: one value, so that threads may share it.
        self._above = "", self._begin

    def last(self, path: str, *, folder: bool) -> int:
        """Return the number of the last pattern that fits, or -1."""
        if not self._begin:
            return -1
        above, slash, name = path.rpartition("/")
        known, states = self._above
        if known != above + slash:
            states = self._read(self._begin, above + slash)
            self._above = above + slash, states
        reached = self._read(states, name) & (self._ends if folder else self._ends_of_files)
        return self._numbers[bisect.bisect_right(self._starts, reached.bit_length() - 1) - 1] if reached else -1

    def _read(self, states: int, text: str) -> int:
        for char in text:
            if not states:
                break
            kept = self._all if char == "/" else self._stars
            states = self._passed((states & self._taking(char)) << 1 | (states & kept))
        return states

    def _passed(self, states: int) -> int:
        """Add the states that are reached without reading a character: those behind a token that may stand for nothing."""
        folders = states & self._folders
        states |= folders << 1 | folders << 3
        return states | (states & self._stars) << 1

    def _taking(self, char: str) -> int:
        """Return the states whose token this character fits."""
        known = self._known.get(char)
        if known is None:
            known = self._found(char)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[char] = known
        return known

    def _found(self, char: str) -> int:
        states = 0 if char == "/" else self._one
        for brackets, at in self._brackets:
            if char != "/" and brackets.fits(char):
                states |= at
        places, at = [], self._plain.find(char)
        while at >= 0:
            places.append(at)
            at = self._plain.find(char, at + 1)
        return states | _bits(places)


def _bits(places: Sequence[int]) -> int:
    """Return the integer with these bits. Setting them one by one in an integer would copy it for each bit."""
    if not places:
        return 0
    found = bytearray(max(places) // 8 + 1)
    for place in places:
        found[place // 8] |= 1 << place % 8
    return int.from_bytes(found, "little")
