"""The HTML of the web page. Every text from outside goes through ``shown``."""

from __future__ import annotations

import codecs
import datetime
import functools
import html
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attachd.standin.store import Attachment, Issue, Store

# The preview of a file. Its bytes decide, not its name or its claimed type.

#: How many bytes to read, and how many lines and columns of a text to show.
LOOKED_AT = 4096
LINES = 14
COLUMNS = 120
#: The largest picture for the browser, in bytes.
IMAGE_LIMIT = 32 << 20
#: How many previews to cache; a stored file never changes.
REMEMBERED = 4096

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_LAYOUT = "\n\r\t\f"


@functools.lru_cache(REMEMBERED)
def image_type(path: Path) -> str | None:
    """Return the MIME type of a picture that cannot contain a script, or None."""
    head = _head(path)
    if not head or path.stat().st_size > IMAGE_LIMIT:
        return None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for signature, mime in _SIGNATURES if head.startswith(signature)), None)


@functools.lru_cache(REMEMBERED)
def first_lines(path: Path) -> str:
    """Return the first lines of a text, or "" for other content."""
    try:
        # The last character may have been cut in the middle.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(_head(path))
    except UnicodeDecodeError:
        return ""
    odd = sum(not c.isprintable() and c not in _LAYOUT for c in text)
    if odd * 50 > len(text):
        return ""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").split("\n")
    return "\n".join(line[:COLUMNS] for line in lines[:LINES]).strip("\n")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LOOKED_AT)
    except FileNotFoundError:
        # Deleted while the page was made.
        return b""


#: How much the overview shows; the issue's page has the rest.
FILES_PER_CARD = 4
CARDS = 60

#: Joiners inside emoji and Indic or Persian words: invisible, harmless, and ugly when spelt out.
_JOINERS = "\u200c\u200d"


def shown(text: str, keep: str = "") -> str:
    """Escape a text for HTML, and make invisible characters (controls, bidi marks) visible."""
    return html.escape("".join(c if c.isprintable() or c in _JOINERS or c in keep else _spelt_out(c) for c in text))


def _spelt_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


def human(size: int) -> str:
    """Return a size for people."""
    if size < 1000:
        return f"{size} B"
    power = next((power for power in (1, 2, 3) if size < 999.5 * 1000**power), 4)
    amount, unit = size / 1000**power, ("kB", "MB", "GB", "TB")[power - 1]
    return f"{amount:.0f} {unit}" if amount >= 9.95 else f"{amount:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\u202f")


@dataclass(frozen=True)
class Subject:
    """One issue with its attachments, newest first."""

    issue: Issue
    files: Sequence[Attachment]

    @property
    def freshness(self) -> tuple[int, int]:
        """Sort key: the newest attachment, else the age of the issue."""
        return (int(self.files[0].id) if self.files else 0, self.issue.id)


def subjects(store: Store) -> list[Subject]:
    """Sort all attachments by issue, the most recent first."""
    files: dict[str, list[Attachment]] = {}
    for attachment in reversed(store.all_attachments()):
        files.setdefault(attachment.issue, []).append(attachment)
    found = [Subject(issue, files.get(issue.key, [])) for issue in store.issues()]
    return sorted(found, key=lambda subject: subject.freshness, reverse=True)


# --- whole pages ----------------------------------------------------------------------------------------------------


def document(store: Store, title: str, fragment: str, content: str) -> str:
    """Return the page around *content*; *fragment* is the address of *content*."""
    base = html.escape(store.base_path)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{shown(title)}</title>
<link rel="icon" type="image/svg+xml" href="{base}/__standin__/icon.svg">
<link rel="stylesheet" href="{base}/__standin__/style.css">
<script src="{base}/__standin__/app.js" defer></script>
</head>
<body>
<header class="top">
<a class="brand" href="{base}/"><img src="{base}/__standin__/icon.svg" alt="" width="28" height="28">Stand-in Jira</a>
<p class="live" role="status" hidden>live</p>
<p class="note">This is not Jira, but a stand-in for demo and tests. Everything stays on this machine.</p>
</header>
<main data-fragment="{html.escape(fragment)}" data-version="{store.version}">
{content}
</main>
</body>
</html>
"""


def overview(store: Store) -> str:
    """Show all issues as cards."""
    found = subjects(store)
    if not any(subject.files for subject in found):
        return _nothing(store, [subject.issue.key for subject in found])
    cards = "\n".join(_card(store, subject) for subject in found[:CARDS])
    more = f'<p class="more">and {counted(len(found) - CARDS, "issue")} more</p>' if len(found) > CARDS else ""
    return f'<p class="total">{_total(found)}</p>\n<div class="cards">\n{cards}\n</div>\n{more}'


def issue(store: Store, subject: Subject) -> str:
    """Show one issue with all of its attachments."""
    key, files = subject.issue.key, subject.files
    heading = f'<h1><span class="key">{shown(key)}</span> <bdi>{shown(subject.issue.summary)}</bdi></h1>'
    way_back = f'<p class="back"><a href="{html.escape(store.base_path)}/">All issues</a></p>'
    if not files:
        return f'{way_back}\n{heading}\n<p class="hint">{_hint(store, key)}</p>'
    tiles = "\n".join(_tile(store, it) for it in files)
    size = human(sum(it.size for it in files))
    total = f'<p class="total">{counted(len(files), "attachment")}, {size}</p>'
    return f'{way_back}\n{heading}\n{total}\n<ul class="tiles">\n{tiles}\n</ul>'


def missing(key: str) -> str:
    """Show that the issue does not exist."""
    heading = f'<h1>Issue <bdi class="key">{shown(key)}</bdi> does not exist</h1>'
    return f'{heading}\n<p class="back"><a href="../">All issues</a></p>'


# --- pieces ---------------------------------------------------------------------------------------------------------


def _nothing(store: Store, keys: list[str]) -> str:
    key = min(keys, default="DEMO-1")
    also = f"<p class='more'>Issues: {shown(', '.join(sorted(keys)[:CARDS]))}</p>" if len(keys) > 1 else ""
    return f"""<section class="empty">
<h1>No attachments yet</h1>
<p>{_hint(store, key)}</p>
<pre>cp report.pdf {shown(store.inbox)}/{shown(key)}/</pre>
<p>It appears here once attachd has attached it.</p>
{also}
</section>"""


def _hint(store: Store, key: str) -> str:
    return f"Drop a file into <code>{shown(store.inbox)}/{shown(key)}/</code>"


def _total(found: Iterable[Subject]) -> str:
    sizes = [it.size for subject in found for it in subject.files]
    issues = counted(sum(1 for _ in found), "issue")
    return f"{issues}, {counted(len(sizes), 'attachment')}, {human(sum(sizes))}"


def _card(store: Store, subject: Subject) -> str:
    key, files = shown(subject.issue.key), subject.files
    link = f"{html.escape(store.base_path)}/browse/{key}"
    rows = "\n".join(_row(store, it) for it in files[:FILES_PER_CARD])
    content = (
        f'<ul class="files">\n{rows}\n</ul>' if files else f'<p class="hint">{_hint(store, subject.issue.key)}</p>'
    )
    left = len(files) - FILES_PER_CARD
    more = f'<p class="more"><a href="{link}">and {counted(left, "attachment")} more</a></p>' if left > 0 else ""
    summary = f"<p class='summary'><bdi>{shown(subject.issue.summary)}</bdi></p>" if subject.issue.summary else ""
    return f"""<section class="card">
<h2><a class="key" href="{link}">{key}</a> <span class="count">{counted(len(files), "attachment")}</span></h2>
{summary}
{content}
{more}
</section>"""


def _row(store: Store, it: Attachment) -> str:
    return f"""<li class="file" data-id="{it.id}">
{_picture(store, it)}
<div class="about">{_name(store, it)}
<p class="facts">{_facts(it)}</p></div>
</li>"""


def _tile(store: Store, it: Attachment) -> str:
    return f"""<li class="tile" data-id="{it.id}">
{_picture(store, it)}
{_name(store, it)}
<p class="facts">{_facts(it)}</p>
<p class="facts" title="SHA-256">{it.sha256[:16]}…</p>
</li>"""


def _name(store: Store, it: Attachment) -> str:
    link = f"{html.escape(store.base_path)}/__standin__/download/{it.id}"
    name = shown(it.filename)
    return f'<a class="name" href="{link}" title="{name}" download><bdi>{name}</bdi></a>'


def _facts(it: Attachment) -> str:
    at = datetime.datetime.fromtimestamp(it.created / 1000, datetime.UTC).astimezone()
    same_day = at.date() == datetime.datetime.now(datetime.UTC).astimezone().date()
    text = at.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M")
    return f'{human(it.size)} · <time datetime="{at.isoformat(timespec="seconds")}">{text}</time>'


def _picture(store: Store, it: Attachment) -> str:
    if image_type(it.path) is not None:
        source = f"{html.escape(store.base_path)}/__standin__/preview/{it.id}"
        return f'<div class="picture"><img src="{source}" alt="" loading="lazy"></div>'
    lines = first_lines(it.path)
    if lines:
        text = shown(lines, keep="\n\t")
        return f'<div class="picture text"><pre dir="auto">{text}</pre></div>'
    extension = os.path.splitext(it.filename)[1].lstrip(".").upper()
    badge = shown(extension) if 0 < len(extension) <= 5 and extension.isalnum() else "FILE"
    return f'<div class="picture badge"><span>{"EMPTY" if it.size == 0 else badge}</span></div>'
