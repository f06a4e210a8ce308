"""The files of `systemd/`, as far as they can be judged without booting: see `system/test_booted.py` for the rest."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
SERVICE, TEMPLATE = UNITS / "attachd.service", UNITS / "attachd@.service"
#: Apart from its first lines, the template is the service with these words in other places.
OF_INSTANCES = (
    ("issue that the folder is named after\n", "issue that the folder is named after (%i)\n"),
    ("RequiresMountsFor=/srv/attachd\n", "RequiresMountsFor=/srv/attachd/%i\n"),
    ("-c /etc/attachd/config.toml\n", "--instance %i\n"),
    ("# /var/lib/attachd, for", "# /var/lib/attachd/NAME, for"),
    ("StateDirectory=attachd\n", "StateDirectory=attachd/%i\n"),
    ("/run/attachd/web.sock", "/run/attachd/%i/web.sock"),
    ("RuntimeDirectory=attachd\n", "RuntimeDirectory=attachd/%i\n"),
    ("token:/etc/attachd/token\n", "token:/etc/attachd/%i.token\n"),
    ("ReadWritePaths=/srv/attachd\n", "ReadWritePaths=/srv/attachd/%i\n"),
)


def test_the_template_is_the_service_for_each_instance() -> None:
    service = SERVICE.read_text()
    for words, others in OF_INSTANCES:
        assert words in service
        service = service.replace(words, others)

    head = service.index("[Unit]")
    assert TEMPLATE.read_text().endswith(service[head:])


def test_no_value_has_a_remark_behind_it() -> None:
    """systemd.syntax(7): a comment is a line of its own; behind a value it is part of the value."""
    for unit in (SERVICE, TEMPLATE):
        values = [line for line in unit.read_text().splitlines() if line and line[0] not in "#["]
        assert not [line for line in values if re.search(r"\s#", line)]


def test_a_stop_has_more_time_than_the_uploads() -> None:
    sample = tomllib.loads((ROOT / "sample-config.toml").read_text())
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", SERVICE.read_text(), re.MULTILINE)

    assert int(seconds) >= sample["limits"]["stop_seconds"] + 30


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", [SERVICE, TEMPLATE], ids=["service", "template"])
def test_what_is_left_open_is_little(unit: Path) -> None:
    """At most 1.6 of 10, which is what the unit of a service without any hardening has."""
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=16", unit],
        capture_output=True,
        text=True,
        check=False,
    )

    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr
