"""Which file systems lie at the inbox and below it."""

from __future__ import annotations

from pathlib import Path

import pytest

from attachd.intake import mounts
from attachd.intake.mounts import Mount

LISTED = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
40 22 0:44 / /srv/drop/inbox rw master:3 propagate_from:2 - xfs /dev/sdb rw
41 40 0:45 / /srv/drop/inbox/TEST-1 rw - nfs4 nas:/a rw,vers=4.2
42 40 0:46 / /srv/drop/inbox/OPS-7\040with\040text rw - fuse.sshfs nas: rw
43 22 0:47 / /srv/drop/inbox2 rw - cifs //nas/b rw
44 41 0:48 / /srv/drop/inbox/TEST-1 rw - tmpfs tmpfs rw
"""


def test_the_inbox_s_own_mount_comes_first_then_those_below_it() -> None:
    assert mounts.relevant(mounts.parse(LISTED), b"/srv/drop/inbox") == [
        Mount(b"/srv/drop/inbox", "xfs"),
        Mount(b"/srv/drop/inbox/OPS-7 with text", "fuse.sshfs"),
        Mount(b"/srv/drop/inbox/TEST-1", "tmpfs"),
    ]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/srv/drop/inbox/TEST-2/a.txt", "xfs"),
        (b"/srv/drop/inbox/TEST-1/a.txt", "tmpfs"),
        (b"/srv/drop/inbox2/TEST-1", "cifs"),
        (b"/srv/drop/inbox3", "ext4"),
        (b"/", "ext4"),
    ],
)
def test_a_path_lies_on_the_mount_with_the_longest_point_above_it(path: bytes, kind: str) -> None:
    assert mounts.of(mounts.parse(LISTED), path).kind == kind


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        ("ext4", False),
        ("tmpfs", False),
        ("overlay", False),
        ("nfs4", True),
        ("cifs", True),
        ("fuse", True),
        ("fuse.x", True),
    ],
)
def test_on_shared_file_systems_events_do_not_tell_what_others_do(kind: str, shared: bool) -> None:
    assert Mount(b"/", kind).shared is shared


def test_a_real_folder_lies_on_some_mount(tmp_path: Path) -> None:
    found = mounts.below(tmp_path)

    assert bytes(tmp_path).startswith(found[0].point)
    assert found[0].kind != "unknown"
