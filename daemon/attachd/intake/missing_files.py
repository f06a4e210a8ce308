"""Rows whose files a scan has not met: whether they still lie anywhere in the inbox, and which of them are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attachd.intake import evidence, files
from attachd.intake.context import Context
from attachd.intake.examine import lies_there
from attachd.intake.files import Entry
from attachd.intake.identity import content_tells
from attachd.journal import admission, identity, moved_issues, rows
from attachd.journal.rows import Row

#: Checksums of files by path and fingerprint: each is read once, however many scans meet it.
Sums = dict[Entry, bytes]

#: How many files are looked up at once; how many a scan reads at most for this; and how many are remembered.
_AT_ONCE, _READ_MOST, _KEPT_MOST = 250, 1000, 100_000


def sighted(context: Context, missing: Sequence[Row], sums: Sums) -> set[int]:
    """Find out whose files still lie anywhere in the inbox, by the ids of the rows: carried to another issue's folder, to one
    that is no issue's, or under a name that is left alone, they may come back.

    By inode, of whatever epoch; else by size and content, because files are touched there too, and copied over themselves.
    One that cannot be read, or not before the next scan, may be any's. *sums* is what the last call knew, and then what this
    one knows.
    """
    found: set[int] = set()
    sizes = {row.size for row in missing if row.sha256}
    search, alike = _Search(context, dict(sums), sums, _READ_MOST), list[Entry]()
    sums.clear()
    for entry in files.everything(context.guard.inbox, context.checkpoint):
        here = identity.content(entry.print)
        found |= {row.id for row in missing if identity.content(row.fingerprint) == here}
        if entry.print.size in sizes:
            alike.append(entry)
        if len(alike) >= _AT_ONCE:
            search.compare([row for row in missing if row.id not in found], alike, found)
            alike = []
    search.compare([row for row in missing if row.id not in found], alike, found)
    return found


@dataclass(slots=True)
class _Search:
    """One search for missing files by their content."""

    context: Context
    known: Sums
    kept: Sums
    left: int

    def compare(self, missing: Sequence[Row], alike: Sequence[Entry], found: set[int]) -> None:
        """Add to *found* the rows whose content one of these files has, or may have."""
        with self.context.journal.transaction_for_reading() as connection:
            at = identity.at_paths(connection, [entry.path for entry in alike])
        for entry in alike:
            # A file of the row's own issue was compared when it was admitted.
            row = at.get(entry.path)
            compared = row.folder_key if row is not None and row.fingerprint == entry.print else None
            wanted = [
                each for each in missing
                if each.id not in found and each.size == entry.print.size and each.sha256 and each.folder_key != compared
                and content_tells(each, entry.print, self.context.guard.epoch)
            ]  # fmt: skip
            if wanted:
                sha256 = self._sum(entry)
                found |= {each.id for each in wanted if sha256 in (None, each.sha256)}

    def _sum(self, entry: Entry) -> bytes | None:
        sha256 = self.known.get(entry)
        if sha256 is None and self.left > 0:
            self.left -= 1
            self.context.checkpoint()
            sha256 = evidence.checksum(self.context, entry)
        if sha256 is not None and len(self.kept) < _KEPT_MOST:
            self.kept[entry] = sha256
        return sha256


def still_missing(context: Context, missing: Sequence[Row], moment: admission.Moment) -> list[Row]:
    """Of rows that were missing before a scan began, those whose file that scan has not recognised."""
    apart, known = context.config.settle.rescan_seconds, {row.id: row for row in missing}
    with context.journal.transaction_for_reading() as connection:
        current = [row for row in rows.many(connection, known) if rows.is_unchanged(row, known[row.id])]
        unsettled = identity.unsettled_sizes(connection) if current else set()
        return [
            row
            for row in current
            if not any((key, row.size) in unsettled for key in moved_issues.keys_of(connection, row.folder_key))
            and (
                not row.at_path
                or (may_count(row, moment, apart) and lies_there(context.guard.inbox, row.path) is False)
            )
        ]


def may_count(row: Row, moment: admission.Moment, apart: float) -> bool:
    """Whether a listing counts that does not show the row's file: not directly after another one. Pure."""
    since = row.missing_boot
    return since is None or since > moment.boot or moment.boot - since >= apart
