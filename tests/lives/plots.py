"""What lives are made of: plots, and deeds that come in between."""

from __future__ import annotations

from dataclasses import dataclass

from lives.people import DEEDS, Deed


@dataclass(frozen=True)
class Layout:
    """In what surroundings a life is lived."""

    site: str = "cloud"
    #: The state folder is on a small disk of its own,
    small: bool = False
    #: or done and failed are, so that moves copy.
    apart: bool = False
    #: That disk is an ext4 with blocks of 1 KiB, as small disks are, instead of a tmpfs.
    ext4: bool = False
    #: The program's wall clock can be set.
    clock: bool = False
    #: What is in done for longer than a day is deleted.
    retention: bool = False
    #: No file that it writes may be larger than this (RLIMIT_FSIZE), 0: no limit.
    largest: int = 0


#: Sites of which the content of an attachment can be read.
READABLE = ("cloud", "datacenter")


@dataclass(frozen=True)
class Plot:
    """Deeds that make sense in this order; others may come in between."""

    name: str
    deeds: tuple[Deed, ...]
    layout: Layout
    sites: tuple[str, ...]


#: The largest file that the program may write where it is limited, in bytes.
_LARGEST = 3_000_000
#: A line a plot: its name, its surroundings, and its deeds with up to two numbers each. A line that begins with a space goes on.
_TOLD = """
touched while it is sent: mood 0, drop 0 50, await_upload, touch -1, rest 6, release, settle
rewritten while it is sent: mood 1, drop 0 50, await_upload, rewrite -1 0, rest 6, release, settle
rewritten in place in doubt: mood 2, drop 0 50, await_upload, rewrite -1 1, rest 6, release, settle
touched in doubt: mood 3, drop 1 50, await_upload, touch -1, release, rest 4, touch -1, settle
large, touched: mood 1, drop_large 0, await_upload, touch -1, rest 6, release, settle
renamed and back: mood 1, drop 0 9, await_upload, rename_folder -1 1, rest 7, rename_back, release, settle
no key and back: mood 2, drop 0 9, await_upload, rename_folder -1 2, rest 7, rename_back, release, settle
verdict, renamed, a new file at its path: make_empty_folders 2 1900, done_goes, drop 2 90, await_uploads 1, rest 9, kill,
    rename_folder -1 0, drop_where_it_was, done_comes_back, resume, start, settle
no key until it is attached: mood 1, drop 0 9, await_upload, rename_folder -1 2, rest 7, release, rest 9, rest 9,
    rename_back, settle
no key, and written over: mood 1, drop 0 9, await_upload, rename_folder -1 2, rest 7, release, rewrite 1, rest 9, rest 9,
    rename_back, settle
another issue's for a moment: mood 1, drop 0 9, await_upload, rename_folder -1 1, rest 3, rename_back, rest 6, release, settle
other bytes, same time: mood 1, drop 0 90, await_upload, swap_bytes -1, release, settle
retry killed [small apart]: refuse 0, drop_large 0, await_failed, welcome, retry_killed, settle, retry, settle
no file any more: mood 4, drop 0 90, await_upload, become -1 0, release, settle
no file any more in a pause: pause, drop 0 90, rest 6, become -1 1, resume, settle
late, and a namesake: store_too_late, drop 0 90, await_uploads 2, rest 9, mood 6, drop_namesake -1 1, settle
late of what was replaced, and a namesake: store_too_late, drop 0 90, await_uploads 2, swap_bytes -1, rest 9, mood 6,
    drop_namesake -1 1, settle
a namesake by hand: mood 4, drop 0 90, await_upload, attach_namesake -1, release, settle
equal bytes by hand, journal lost [readable]: stop, drop 0 90, attach_same_bytes -1, lose_journal, settle
namesake by hand, journal lost: stop, drop 0 90, attach_namesake -1, lose_journal, settle
moved issue: drop 0 50, settle, move_issue 0, mood 6, drop_namesake -1 1, drop_to_new_key 0 50, settle
moved issue, both its folders at once: move_issue 0, mood 6, mood 1, drop 0 90, drop_namesake_to_new_key -1, await_upload,
    rest 9, rest 9, release, settle
a listing that lags: lag 10, mood 8, drop_two 0 50, settle
a proxy's clock [readable]: proxy_date 2, drop 0 9, settle, mood 5, drop 0 50, settle
a proxy's clock, journal lost: proxy_date 3, mood 1, drop 0 9, await_upload, lose_journal 0 1, release, settle
Jira's clock, journal lost: jira_clock 0, mood 1, drop 0 9, await_upload, lose_journal 0 1, release, settle
a person looked [blind]: mood 4, drop 0 90, await_upload, attach_namesake -1, release, await_failed, back_by_hand,
    settle
looked for, journal lost [blind]: mood 3, drop 0 90, await_upload, attach_namesake -1, release, await_failed,
    lose_journal, back_unlooked, settle
many stars: ignore_file 2 0, drop 0 90, settle, ask -1, stop, start, settle
a bad range: ignore_file 2 1, drop 0 90, settle, stop, start, settle
many patterns: ignore_file 2 5, ignore_file 3 5, drop 0 90, settle
done cannot hold it [small apart largest]: drop_large 0, drop 1 90, settle, drop 2 90, settle
deep folders: drop_deep 0 1, drop_deep 1 0, settle
the clock set back [clock]: mood 6, set_clock 0, drop 0 90, await_uploads 1, set_clock 4, settle
the clock set forward [clock]: mood 7, drop 0 90, await_uploads 1, set_clock 1, settle
state disk full [small]: fill, drop 0 90, rest 9, ask -1, drop_large 0, rest 9, free, settle
state disk almost full [small ext4]: drop 0 90, settle, stop, fill 20, start, drop 0 90, rest 9, ask -1, free, settle
index made anew on a disk almost full [small ext4]: drop 0 90, settle, lose_index, fill 16, ask -1, start, drop 0 90, free,
    settle
late, a namesake, days later [clock retention]: store_too_late, drop 0 90, await_uploads 2, rest 9, mood 6, drop_namesake -1 1,
    settle, sleep 2, rest 9, rest 9, rest 9
spoilt in Jira, days later [clock retention]: drop 0 90, settle, spoil -1, drop 0 80, settle, sleep 2, rest 9, rest 9, rest 9
address corrected: drop 0 90, stop, correct_url, settle
another host in between: drop 0 90, settle, stop, mood 1, start_second, drop 1 90, await_upload, stop_second 0 1,
    release, start, settle
lock lost: drop 0 90, settle, remove_lock, start_second, mood 1, drop 0 90, drop 1 90, await_upload, rest 9, release,
    settle
marker replaced: drop 0 90, settle, swap_marker, start_second, rest 9, mood 0, drop 0 90, drop 1 90, await_upload, rest 9,
    rest 9, release, settle
marker renamed: drop 0 90, settle, rename_marker, rest 9, drop 1 90, settle
opened again in a pause: pause, drop 0 90, rest 6, reopen -1, resume, rest 9, write_more, settle
opened again while it is sent: mood 1, drop 0 90, await_upload, reopen -1, release, rest 9, write_more, settle
one wrong answer [readable]: mood 3, drop 0 90, await_upload, wrong_issue 0 1, release, settle, drop 0 30, settle
a note on purpose: refuse 0, drop 0 90, await_failed, note_elsewhere 0 1, settle, welcome, retry, settle
equal bytes twice: mood 1, drop 0 90, await_upload, drop_same_bytes -1 1, rest 6, release, settle
killed while it is sent: mood 1, drop 0 90, await_upload, kill, touch -1, release, start, settle
restored: drop 0 90, backup, settle, drop 0 50, settle, mood 1, drop 1 50, await_upload, restore, release, settle
restored, then touched: backup, settle, mood 1, drop 1 50, await_upload, restore, touch -1, release, settle
expired: token_expires, drop 0 90, drop 1 30, rest 9, welcome, resume, settle
denied: drop 1 30, settle, deny 0, drop 0 90, rest 9, welcome, resume, settle
written slowly: write_slowly 0 90, settle
frozen: mood 1, drop 0 90, await_upload, freeze, release, rest 9, thaw, settle
"""


def _plot(told: str) -> Plot:
    head, _, story = told.partition(": ")
    name, _, marks = head.partition(" [")
    said = set(marks.strip("]").split())
    layout = Layout(
        small="small" in said,
        apart="apart" in said,
        ext4="ext4" in said,
        clock="clock" in said,
        retention="retention" in said,
        largest=_LARGEST * ("largest" in said),
    )
    sites = ("blind",) if "blind" in said else READABLE if "readable" in said else (*READABLE, "blind")
    return Plot(name, tuple(map(_deed, story.split(","))), layout, sites)


def _deed(text: str) -> Deed:
    name, *numbers = text.split()
    assert name in DEEDS, name
    first, second = [*map(int, numbers), 0, 0][:2]
    return name, first, second


PLOTS = tuple(map(_plot, _TOLD.strip().replace("\n    ", " ").splitlines()))
#: What comes in between, in most lives.
OFTEN = (
    "drop", "drop", "drop", "drop_two", "drop_large", "drop_same_bytes", "drop_namesake", "write_slowly", "touch", "rewrite",
    "swap_bytes", "append", "become", "remove", "move", "rename_folder", "rename_back", "mood", "mood", "lag", "reorder",
    "attach_namesake", "pause", "resume", "reload", "ask", "kill", "start", "stop", "settle", "rest", "rest", "back_by_hand",
    "retry", "reopen", "write_more", "release", "wrong_issue", "backup",
)  # fmt: skip
