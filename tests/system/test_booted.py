"""The units under a real systemd: ready, restarts, watchdog, credentials, another user's files, draining, the sandbox.

Run it by itself, as root, with what each step took: ``pytest -n 0 -v --durations=0 tests/system/test_booted.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from booted_system import Machine, lacking, until

pytestmark = [
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
    pytest.mark.timeout(600),
]

TOKEN = "standin-token"
#: Its number (linux/capability.h).
CAP_LEASE = 28
SITE = "http://127.0.0.1:8080"
CONFIG = f"""
[folders]
inbox = "/srv/attachd{{home}}/inbox"
done = "/srv/attachd{{home}}/done"
failed = "/srv/attachd{{home}}/failed"
[jira]
url = "{SITE}"
[jira.auth]
user = "demo@example.com"
token = {{{{ credential = "token" }}}}
[settle]
quiet_seconds = 0.2
quiet_seconds_unproven = 3000.0
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which everything is installed, and nothing runs."""
    with Machine(tmp_path_factory.mktemp("machine")) as booted:
        booted.run("useradd", "-m", "-G", "attachd-drop", "alice")
        yield booted


@pytest.fixture
def m(machine: Machine) -> Iterator[Machine]:
    """The machine with a Jira, a configuration and a token as if it were new."""
    machine.put("/etc/attachd/config.toml", CONFIG.format(home=""), 0o640, "root:attachd")
    machine.put("/etc/attachd/token", f"{TOKEN}\n", 0o600)
    start_jira(machine)
    yield machine
    machine.run("systemctl", "stop", "attachd", "attachd@lab", "jira", check=False)
    until(lambda: machine.code("systemctl", "is-active", "-q", "jira") != 0, "Jira does not stop")
    machine.run(
        "sh", "-c", "systemctl reset-failed; rm -rf /var/lib/attachd /var/lib/jira /run/systemd/system/attachd*"
    )
    machine.run("sh", "-c", "find /srv/attachd -mindepth 2 -delete; rm -rf /etc/systemd/system/attachd.service.d")
    machine.run("systemctl", "daemon-reload")


def start_jira(machine: Machine) -> None:
    standin = ["/opt/attachd/bin/python", "-m", "attachd.standin", "--folder", "/var/lib/jira", "--port", "8080"]
    machine.run("systemd-run", "-q", "--collect", "--unit=jira", *standin, "--auto-issues")
    until(lambda: machine.code("/opt/attachd/bin/python", "-c", _ASK, "attachments") == 0, "no Jira")


_ASK = """
import sys, urllib.request
with urllib.request.urlopen(f"http://127.0.0.1:8080/__standin__/{sys.argv[1]}") as answer:
    print(answer.read().decode())
"""


def attachments(machine: Machine) -> list[str]:
    """The names of all that Jira holds."""
    return [each["filename"] for each in json.loads(machine.run("/opt/attachd/bin/python", "-c", _ASK, "attachments"))]


def drop(machine: Machine, path: str, content: str = "x", inbox: str = "/srv/attachd/inbox") -> None:
    """Let alice, who is in the droppers' group and nobody else, make a file below the inbox with her umask of 022."""
    folder = str(Path(path).parent)
    words = f"umask 022; mkdir -p {inbox}/{folder} && printf %s '{content}' > {inbox}/{path}"
    machine.run("runuser", "-u", "alice", "--", "sh", "-c", words)


def wait_for(machine: Machine, *names: str, seconds: float = 30.0) -> None:
    """Wait until Jira holds exactly these."""
    until(lambda: sorted(attachments(machine)) == sorted(names), f"not attached: {names}", seconds)


def drop_in(machine: Machine, text: str) -> None:
    machine.put("/etc/systemd/system/attachd.service.d/test.conf", text)
    machine.run("systemctl", "daemon-reload")


def test_the_units_have_no_mistake_and_are_closed(m: Machine) -> None:
    m.run(
        "systemd-analyze",
        "verify",
        "--man=no",
        "--recursive-errors=no",
        "/etc/systemd/system/attachd.service",
        "attachd@site.service",
    )

    for unit in ("attachd.service", "attachd@.service"):
        m.run("systemd-analyze", "security", "--offline=true", "--threshold=16", f"/etc/systemd/system/{unit}")


def test_another_users_closed_file_is_proven_attached_and_moved(m: Machine) -> None:
    m.run("systemctl", "start", "attachd")
    assert m.property("attachd", "ActiveState") == "active"

    drop(m, "TEST-1/report.pdf")

    wait_for(m, "report.pdf")
    until(lambda: m.code("test", "-e", "/srv/attachd/done/TEST-1/report.pdf") == 0, "not moved")
    assert m.run("stat", "-c", "%U", "/srv/attachd/done/TEST-1/report.pdf").strip() == "alice"
    until(lambda: m.property("attachd", "StatusText") == "idle", "there is no status")


def test_a_file_that_another_user_has_open_waits(m: Machine) -> None:
    m.run("systemctl", "start", "attachd")
    m.run("runuser", "-u", "alice", "--", "mkdir", "-p", "/srv/attachd/inbox/TEST-1")
    held = "exec 3> /srv/attachd/inbox/TEST-1/log.txt; echo a >&3; sleep 1000"
    m.run("systemd-run", "-q", "--unit=writer", "--uid=alice", "sh", "-c", held)
    drop(m, "TEST-1/after.txt")

    wait_for(m, "after.txt")
    m.run("systemctl", "stop", "writer")
    wait_for(m, "after.txt", "log.txt")


def test_it_starts_while_jira_is_away_and_sends_when_it_is_back(m: Machine) -> None:
    m.run("systemctl", "stop", "jira")
    drop(m, "TEST-1/a.txt")

    m.run("systemctl", "start", "attachd")
    until(lambda: "paused" in m.property("attachd", "StatusText"), "the status names no pause")
    start_jira(m)

    wait_for(m, "a.txt", seconds=90.0)


def test_it_starts_with_a_token_that_is_refused_and_moves_nothing(m: Machine) -> None:
    m.put("/etc/attachd/token", "a wrong one\n", 0o600)
    drop(m, "TEST-1/a.txt")

    m.run("systemctl", "start", "attachd")
    until(lambda: "paused" in m.property("attachd", "StatusText"), "the status names no pause")
    assert m.code("test", "-e", "/srv/attachd/inbox/TEST-1/a.txt") == 0

    m.put("/etc/attachd/token", TOKEN, 0o600)
    m.run("systemctl", "restart", "attachd")
    wait_for(m, "a.txt")


def test_the_token_is_nowhere_to_be_seen(m: Machine) -> None:
    m.run("systemctl", "start", "attachd")
    drop(m, "TEST-1/a.txt")
    wait_for(m, "a.txt")

    process = m.property("attachd", "MainPID")
    shown = m.run("cat", f"/proc/{process}/environ", f"/proc/{process}/cmdline") + m.journal("attachd")
    assert TOKEN not in shown
    assert m.code("grep", "-r", TOKEN, "/var/lib/attachd", "/srv/attachd") == 1
    assert m.property("attachd", "LimitCORE") == "0"


def test_taken_over_it_reaches_its_own_folders_and_nothing_else(m: Machine) -> None:
    m.put("/opt/taken_over.py", Path(__file__).with_name("taken_over.py").read_text())
    instead = "Type=oneshot\nExecStartPre=\nExecStart=\nExecStart=/opt/attachd/bin/python /opt/taken_over.py\n"
    drop_in(m, f"[Service]\n{instead}WatchdogSec=0\n")

    m.run("systemctl", "start", "attachd")
    (told,) = [line for line in m.journal("attachd").splitlines() if line.startswith("{")]
    found = json.loads(told)

    own = ["/srv/attachd/done", "/srv/attachd/failed", "/srv/attachd/inbox", "/var/lib/attachd"]
    assert found["writable"] == sorted(["/dev/shm", "/tmp", "/var/tmp", *own])
    assert found["did"] == []
    assert found["processes"] == 1
    assert found["capabilities"] == 1 << CAP_LEASE
    assert found["credentials"] == ["token"]
    assert m.code("test", "-e", "/tmp/planted") == 1, "its /tmp is its own"
    # The same, as root and outside: what is tried can be done.
    outside = json.loads(m.run("env", "CREDENTIALS_DIRECTORY=/tmp", "python3", "/opt/taken_over.py"))
    assert {"/etc", "/usr/bin", "/home/alice", "/root", "/var/lib/jira"} <= set(outside["writable"])
    assert {"read the token's file", "make a setuid file", "make code at run time", "become root"} <= set(
        outside["did"]
    )
    assert outside["processes"] > 1
    m.run("sh", "-c", "rm -f $(find / -xdev -name planted)")


def test_killed_it_is_started_again_and_goes_on(m: Machine) -> None:
    m.run("systemctl", "start", "attachd")
    m.run("systemctl", "kill", "-s", "KILL", "attachd")
    drop(m, "TEST-1/a.txt")

    wait_for(m, "a.txt")
    assert m.property("attachd", "NRestarts") == "1"


def test_one_that_hangs_is_ended_by_the_watchdog_and_started_again(m: Machine) -> None:
    drop_in(m, "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=0\n")
    m.run("systemctl", "start", "attachd")
    m.run("systemctl", "kill", "-s", "STOP", "attachd")
    drop(m, "TEST-1/a.txt")

    wait_for(m, "a.txt")
    assert m.property("attachd", "NRestarts") == "1"
    assert "watchdog" in m.run("journalctl", "--no-pager", "-q", "-u", "attachd").lower()


@pytest.mark.parametrize("wrong", ["jira.urll", "jira.auth.token is empty"])
def test_a_wrong_configuration_is_told_and_not_tried_again_and_again(m: Machine, wrong: str) -> None:
    if wrong == "jira.urll":
        m.put("/etc/attachd/config.toml", "[jira]\nurll = 'x'\n", 0o640, "root:attachd")
    else:
        m.run("rm", "/etc/attachd/token")

    assert m.code("systemctl", "start", "attachd") != 0

    assert m.property("attachd", "ActiveState") == "failed"
    assert m.property("attachd", "ExecMainStatus") == "78"
    assert m.property("attachd", "NRestarts") == "0"
    assert wrong in m.journal("attachd")


def test_a_reload_is_accepted_or_refused_as_a_whole(m: Machine) -> None:
    m.run("systemctl", "start", "attachd")
    drop(m, "TEST-1/a.txt")
    wait_for(m, "a.txt")

    m.put("/etc/attachd/config.toml", CONFIG.format(home="") + "ignore = ['*.bak']\n", 0o640, "root:attachd")
    m.run("systemctl", "reload", "attachd")
    drop(m, "TEST-1/b.bak")
    drop(m, "TEST-1/b.txt")
    wait_for(m, "a.txt", "b.txt")

    m.put("/etc/attachd/config.toml", "[folders]\ninbox = 5\n", 0o640, "root:attachd")
    assert m.code("systemctl", "reload", "attachd") != 0
    drop(m, "TEST-1/c.txt")
    wait_for(m, "a.txt", "b.txt", "c.txt")
    assert m.property("attachd", "NRestarts") == "0"


def test_a_stop_lets_an_upload_end(m: Machine) -> None:
    limited = CONFIG.format(home="") + "[upload]\nmax_bytes_per_second = 5000000\n"
    m.put("/etc/attachd/config.toml", limited, 0o640, "root:attachd")
    drop_in(m, "[Service]\nTimeoutStopSec=1\n")
    m.run("systemctl", "start", "attachd")
    words = "mkdir -p /srv/attachd/inbox/TEST-1 && head -c 30000000 /dev/urandom > /srv/attachd/inbox/TEST-1/big.bin"
    m.run("runuser", "-u", "alice", "--", "sh", "-c", words)
    until(lambda: "sending" in m.property("attachd", "StatusText"), "nothing is sent")

    m.run("systemctl", "stop", "attachd")

    assert m.property("attachd", "Result") == "success"
    assert attachments(m) == ["big.bin"]
    assert m.code("test", "-e", "/srv/attachd/done/TEST-1/big.bin") == 0


def test_the_page_on_a_socket_is_for_the_group_and_goes_with_the_service(m: Machine) -> None:
    page = '[web]\nlisten = "unix:/run/attachd/web.sock"\n'
    m.put("/etc/attachd/config.toml", CONFIG.format(home="") + page, 0o640, "root:attachd")
    m.run("systemctl", "start", "attachd")
    until(lambda: m.code("test", "-S", "/run/attachd/web.sock") == 0, "no socket")

    assert m.run("stat", "-c", "%U:%G %a", "/run/attachd", "/run/attachd/web.sock").splitlines() == [
        "attachd:attachd 750",
        "attachd:attachd 660",
    ]
    # Root hands itself the token, which the unit alone is handed otherwise.
    checked = m.run("/opt/attachd/bin/attachd", "check", check=False)
    assert "ok       jira.auth: Jira knows attachd as 712020:" in checked
    assert "web.listen: unix:/run/attachd/web.sock answers" in checked
    assert m.code("runuser", "-u", "attachd", "--", "/opt/attachd/bin/attachd", "check") == 78
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/attachd/web.sock')"
    command = ("/opt/attachd/bin/python", "-c", connect)
    assert m.code("runuser", "-u", "alice", "--", *command) != 0
    assert m.code("runuser", "-u", "alice", "-g", "attachd", "--", *command) == 0

    m.run("systemctl", "stop", "attachd")
    assert m.code("test", "-e", "/run/attachd") != 0
    checked = m.run("/opt/attachd/bin/attachd", "check", "--offline", check=False)
    assert "web.listen: unix:/run/attachd/web.sock is free" in checked


def test_a_site_of_its_own_for_each_instance(m: Machine) -> None:
    m.put("/etc/attachd/lab.toml", CONFIG.format(home="/lab"), 0o640, "root:attachd")
    m.put("/etc/attachd/lab.token", TOKEN, 0o600)
    m.run("/opt/attachd/bin/attachd", "install", "--instance", "lab")

    m.run("systemctl", "start", "attachd@lab")
    words = "umask 002; cd /srv/attachd/lab/inbox; mkdir TEST-1; echo b > TEST-1/b.txt"
    m.run("runuser", "-u", "alice", "--", "sh", "-c", words)

    wait_for(m, "b.txt")
    assert m.code("test", "-e", "/var/lib/attachd/lab/journal.db") == 0
    m.run("rm", "-r", "/srv/attachd/lab", check=False)


# --- install and uninstall --------------------------------------------------------------------------------------------


def test_the_folders_have_the_modes_of_their_purpose(m: Machine) -> None:
    said = m.run("stat", "-c", "%n %U:%G %a", "/etc/attachd/config.toml", "/etc/attachd/token", *map(below, FOLDERS))

    assert said.splitlines() == [
        "/etc/attachd/config.toml root:attachd 640",
        "/etc/attachd/token root:root 600",
        "/srv/attachd/inbox attachd:attachd-drop 2770",
        "/srv/attachd/done attachd:attachd-drop 2750",
        "/srv/attachd/failed attachd:attachd-drop 2770",
    ]
    assert "attachd-drop" in m.run("id", "attachd")


FOLDERS = ("inbox", "done", "failed")


def below(name: str) -> str:
    return f"/srv/attachd/{name}"


def test_a_unit_that_was_edited_is_replaced_only_where_that_is_asked_for(m: Machine) -> None:
    unit = "/etc/systemd/system/attachd.service"
    m.run("sh", "-c", f"echo '# mine' >> {unit}")

    assert m.code("/opt/attachd/bin/attachd", "install") == 1
    assert "# mine" in m.run("cat", unit)
    assert f"replaced {unit}" in m.run("/opt/attachd/bin/attachd", "install", "--refresh")
    assert "# mine" not in m.run("cat", unit)


@pytest.mark.parametrize("home", ["/data/jira", "/home/alice/drop"])
def test_folders_elsewhere_are_within_reach_and_nothing_beside_them(m: Machine, home: str) -> None:
    config = CONFIG.format(home="").replace("/srv/attachd", home)
    m.put("/etc/attachd/config.toml", config, 0o640, "root:attachd")
    m.put("/home/alice/secret", "of no concern", 0o644, "alice:alice")
    if home.startswith("/home"):
        m.run("install", "-d", "-o", "alice", home)
        m.run("chmod", "711", "/home/alice")
    said = m.run("/opt/attachd/bin/attachd", "install", "--refresh")
    # In a home its owner has a say: what has to be done there by hand is printed, and is enough.
    by_hand = [line for line in said.splitlines() if line.startswith(("    install", "    setfacl"))]
    assert len(by_hand) == (5 if home.startswith("/home") else 0), said
    m.run("sh", "-e", "-c", "\n".join(by_hand))

    m.run("systemctl", "start", "attachd")
    drop(m, "TEST-1/a.txt", inbox=f"{home}/inbox")

    wait_for(m, "a.txt")
    done = f"{home}/done/TEST-1/a.txt"
    until(lambda: m.code("test", "-e", done) == 0, f"it is not moved: {m.journal('attachd')}")
    inside = ["nsenter", "-t", m.property("attachd", "MainPID"), "-m", "--"]
    assert m.code(*inside, "test", "-e", "/home/alice/secret") == 1
    m.run("systemctl", "stop", "attachd")
    m.put("/etc/attachd/config.toml", CONFIG.format(home=""), 0o640, "root:attachd")
    assert "removed  /etc/systemd/system/attachd.service.d/10" in m.run(
        "/opt/attachd/bin/attachd", "install", "--refresh"
    )


def test_uninstalled_it_leaves_what_is_anybodys(m: Machine) -> None:
    m.run("systemctl", "enable", "--now", "attachd")
    drop(m, "TEST-1/a.txt")
    until(lambda: m.code("test", "-e", "/srv/attachd/done/TEST-1/a.txt") == 0, "it is not moved")

    m.run("/opt/attachd/bin/attachd", "uninstall")

    assert m.code("systemctl", "cat", "attachd") != 0
    left = m.run("find", "/etc", "-name", "*attachd*", "-not", "-name", "attachd@.service").split()
    assert sorted(left) == ["/etc/attachd", "/etc/sysusers.d/attachd.conf", "/etc/tmpfiles.d/attachd-lab.conf"]
    for kept in ("/etc/attachd/token", "/srv/attachd/done/TEST-1/a.txt", "/var/lib/attachd/journal.db"):
        assert m.code("test", "-e", kept) == 0
    m.run("/opt/attachd/bin/attachd", "install")


def test_a_service_of_ones_own(m: Machine) -> None:
    m.run("useradd", "-m", "bob")
    uid = m.run("id", "-u", "bob").strip()
    m.run("systemctl", "start", f"user@{uid}")  # as lingering does at each boot
    until(lambda: m.code("test", "-S", f"/run/user/{uid}/bus") == 0, "no manager of the user's")
    bob = ["runuser", "-u", "bob", "--", "env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "HOME=/home/bob"]

    m.run(*bob, "/opt/attachd/bin/attachd", "install", "--user")
    config = "/home/bob/.config/attachd"
    m.run(
        *bob,
        "sed",
        "-i",
        f's|^url = .*|url = "{SITE}"|; s|^user = .*|user = "demo@example.com"|',
        f"{config}/config.toml",
    )
    m.run(*bob, "sh", "-c", f"echo {TOKEN} > {config}/token")
    m.run(*bob, "systemctl", "--user", "enable", "--now", "attachd")
    m.run(*bob, "sh", "-c", "mkdir /home/bob/attachd/inbox/TEST-7; echo x > /home/bob/attachd/inbox/TEST-7/mine.txt")

    wait_for(m, "mine.txt")
    m.run(*bob, "systemctl", "--user", "reload", "attachd")
    m.run(*bob, "/opt/attachd/bin/attachd", "uninstall", "--user")
    assert m.code(*bob, "systemctl", "--user", "cat", "attachd") != 0
    assert m.code("test", "-d", "/home/bob/attachd/inbox") == 0
