"""What in the inbox is never looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from attachd.errors import Mistake
from attachd.intake import litter
from attachd.intake.ignore_patterns import Ignoring
from attachd.model import printable

ROOT = Path(__file__).parents[2]
PLAIN = Ignoring([])


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (b"report.pdf.part", "*.part"),
        (b"x.partial", "*.partial"),
        (b"x.tmp", "*.tmp"),
        (b"X.TMP", "*.tmp"),
        (b"x.crdownload", "*.crdownload"),
        (b"x.CrDownload", "*.crdownload"),
        (b"x.download", "*.download"),
        (b"x.filepart", "*.filepart"),
        (b"x.lck", "*.lck"),
        (b"~$report.docx", "~$*"),
        (b".report.swp", "*.swp"),
        (b"x.pdf.sb-1a2b-c3", "*.sb-*"),
        (b".~lock.report.odt#", ".~lock*"),
        (b".goutputstream-ABC", ".goutputstream-*"),
        (b".DS_Store", ".DS_Store"),
        (b"._report.pdf", "._*"),
        (b"Thumbs.db", "Thumbs.db"),
        (b"THUMBS.DB", "Thumbs.db"),
        (b"Desktop.ini", "desktop.ini"),
        (b"@eaDir", "@eaDir"),
        (b"@Recycle", "@Recycle"),
        (b"#recycle", "#recycle"),
        (b"$RECYCLE.BIN", "$RECYCLE.BIN"),
        (b"lost+found", "lost+found"),
        (b".stfolder", ".stfolder"),
        (b".nfs000123", ".nfs*"),
        (b".smbdeleteAAA", ".smbdelete*"),
        (b".fuse_hidden0001", ".fuse_hidden*"),
        (b".Trash-1000", ".Trash-*"),
        (b"~snapshot", "~snapshot"),
        (b".snapshot", ".snapshot"),
        (b"#snapshot", "#snapshot"),
        (b".zfs", ".zfs"),
        (b".hidden", ".*"),
        (b"_WHY.txt", "_WHY.txt"),
        (b".attachdignore", ".attachdignore"),
        (b".attachd-copy-00ff", ".attachd-*"),
        (b"x.pdf:Zone.Identifier", "*:Zone.Identifier"),
        (b"x.pdf:zone.identifier:$DATA", "*:$DATA"),
        (b"x.pdf.Zone.Identifier", "*.Zone.Identifier"),
        ("x.pdf\uf022AFP_AfpInfo".encode(), "*:AFP_AfpInfo"),
        ("x.pdf\uf03aZone.Identifier".encode(), "*:Zone.Identifier"),
        (b"x.pdf:AFP_Resource", "*:AFP_Resource"),
        (b"x.pdf:com.apple.quarantine", "*:com.apple.*"),
        (b"Thumbs.db:encryptable", "*:encryptable"),
        (b"Icon\r", "Icon\r"),
        ("Icon\uf00d".encode(), "Icon\r"),
        (b"__MACOSX", "__MACOSX"),
        (b"Network Trash Folder", "Network Trash Folder"),
        (b".fseventsd", ".fseventsd"),
        (b"System Volume Information", "System Volume Information"),
        (b"SYSTEM VOLUME INFORMATION", "System Volume Information"),
        (b"x.zip.opdownload", "*.opdownload"),
        (b"x.zip.crswap", "*.crswap"),
        (b"x.iso.aria2", "*.aria2"),
        (b"x.mkv.!qB", "*.!qB"),
        (b"x.mkv.!ut", "*.!ut"),
        (b"x.mkv.bc!", "*.bc!"),
        (b"x.pdf.!sync", "*.!sync"),
        (b"~WRL0001.tmp", "*.tmp"),
        (b"lu1234abc.tmp", "*.tmp"),
        (b"~syncthing~x.pdf.tmp", "*.tmp"),
        (b".syncthing.x.pdf.tmp", "*.tmp"),
        (b".sync_0a1b2c.db", ".sync_*"),
        (b".849C9593-D756-4E56-8D6E-42412F2A707B", ".849C9593-D756-4E56-8D6E-42412F2A707B"),
        (b".x.pdf.AbC123", ".*"),
        (b"x.mdb.laccdb", "*.laccdb"),
        (b"notes.txt~", "*~"),
        (b"#notes.txt#", "#*#"),
        (b".@__thumb", ".@__thumb"),
        (b"x.jpg@SynoEAStream", "*@SynoEAStream"),
        ("ü\n.tmp".encode(), "*.tmp"),
        (b"\xff\xfe.tmp", "*.tmp"),
    ],
)
def test_is_hidden_at_every_depth(name: bytes, pattern: str) -> None:
    for path in (name, b"TEST-1/" + name, b"TEST-1/a\nb/\xff/" + name):
        assert PLAIN.why(path, False) == pattern
        assert PLAIN.why(path, True) == pattern


@pytest.mark.parametrize(
    "path",
    [
        b"report.pdf",
        b"TEST-1/report.pdf",
        b"TEST-1/report.pdf.why.txt",
        b"TEST-1/report.pdf.why (2).txt",
        b"TEST-1/_STATUS.txt",
        b"TEST-1/part",
        b"TEST-1/tmp",
        b"TEST-1/x.tmp.pdf",
        b"TEST-1/x.tmpx",
        b"TEST-1/x.tmp\n",
        b"TEST-1/a.b",
        b"TEST-1/~report",
        b"TEST-1/recycle",
        b"TEST-1/Meeting 10:30.txt",
        b"TEST-1/Zone.Identifier",
        b"TEST-1/Icon",
        b"TEST-1/Icons",
        b"TEST-1/#1 report.pdf",
        b"TEST-1/#",
        b"TEST-1/4913",
        b"TEST-1/downloads",
        b"TEST-1/report.part1.rar",
        b"TEST-1/com.apple.finder.plist",
        b"TEST-1/report (SFConflict).pdf",
        b"TEST-1/x.sync-conflict-20260101-120000-ABC.pdf",
        b"TEST-1/x.asd",
        "TEST-1/日本語.pdf".encode(),
        b"TEST-1/\xff",
    ],
)
def test_is_looked_at(path: bytes) -> None:
    assert PLAIN.why(path, False) is None


def test_our_status_is_hidden_only_where_we_write_it() -> None:
    assert PLAIN.why(b"_STATUS.txt", False) == "_STATUS.txt"
    assert PLAIN.why(b"TEST-1/_STATUS.txt", False) is None


def test_what_is_in_a_hidden_folder_is_hidden() -> None:
    assert PLAIN.why(b".attachd/lock", False) == ".attachd"
    assert PLAIN.why(b"TEST-1/@eaDir/report.pdf", False) == "@eaDir"
    assert Ignoring(["build/"]).why(b"TEST-1/build/a/b.log", False) == "build/"


@pytest.mark.parametrize(
    ("pattern", "path", "hidden"),
    [
        ("*.bak", b"TEST-1/a/x.bak", True),
        ("*.bak", b"TEST-1/a/x.BAK", False),
        ("/TEST-1/*.log", b"TEST-1/x.log", True),
        ("/TEST-1/*.log", b"TEST-1/a/x.log", False),
        ("TEST-1/raw", b"TEST-1/raw", True),
        ("TEST-1/**/raw", b"TEST-1/a/b/raw", True),
        ("raw/", b"TEST-1/raw", False),
        ("Ärger.txt", "TEST-1/A\u0308rger.txt".encode(), True),
        ("\\#x", b"#x", True),
        ("# comment", b"# comment", False),
    ],
)
def test_the_users_patterns_are_those_of_gitignore(pattern: str, path: bytes, hidden: bool) -> None:
    assert Ignoring([pattern]).why(path, False) == (pattern if hidden else None)


def test_a_pattern_for_folders_hides_folders() -> None:
    assert Ignoring(["raw/"]).why(b"TEST-1/raw", True) == "raw/"


def test_the_last_pattern_that_matches_decides() -> None:
    ignoring = Ignoring(["", "*.log", "!keep.log", "# no more"])

    assert ignoring.why(b"TEST-1/x.log", False) == "*.log"
    assert ignoring.why(b"TEST-1/keep.log", False) is None


def test_the_user_may_take_back_what_is_built_in() -> None:
    ignoring = Ignoring(["!*.tmp", "!.*"])

    assert ignoring.why(b"TEST-1/x.tmp", False) is None
    assert ignoring.why(b"TEST-1/.env", False) is None


@pytest.mark.parametrize("path", [b".attachd", b"_STATUS.txt", b"TEST-1/_WHY.txt", b"TEST-1/.attachd-copy-0"])
def test_but_not_our_own_files(path: bytes) -> None:
    assert Ignoring(["!*", "!.*"]).why(path, False) is not None


def test_nothing_is_taken_back_inside_a_hidden_folder() -> None:
    assert Ignoring(["!keep.txt"]).why(b"TEST-1/.git/keep.txt", False) == ".*"


def test_every_broken_pattern_is_named_at_once() -> None:
    with pytest.raises(Mistake) as caught:
        Ignoring(["*.bak", "!", "a\\"])

    assert len(caught.value.problems) == 2


def test_the_document_shows_the_list() -> None:
    rows = [
        f"| {group.title} | {', '.join(f'`{printable(each.encode())}`' for each in group.patterns)} | "
        f"{', '.join(f'[{number}]({source})' for number, source in enumerate(group.sources, 1))} |"
        for group in litter.GROUPS
    ]
    text = (ROOT / "docs/files.md").read_text(encoding="utf-8")

    assert "\n".join(["| origin | names | described in |", "|---|---|---|", *rows]) + "\n" in text


def test_each_pattern_is_listed_once_and_of_the_form_that_is_compared() -> None:
    folded = [pattern.lower() for pattern in litter.PATTERNS]

    assert len(set(folded)) == len(folded)
    for text in folded:
        assert text.count("*") <= 1 or (text.count("*") == 2 and text[0] == text[-1] == "*")
        assert not set(text) & set("?[]/")


def test_a_hidden_name_deep_down_is_found_however_deep() -> None:
    assert PLAIN.why(b"TEST-1/" + b"a/" * 2000 + b"x.pdf", False) is None
    assert PLAIN.why(b"TEST-1/" + b"a/" * 2000 + b".x", False) == ".*"
