"""What `install` writes for which configuration, and that it takes nothing over. Under systemd: system/test_booted.py."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from attachd import config
from attachd.config import Config
from attachd.errors import Mistake
from attachd.setup import steps as setup_steps
from attachd.setup import units
from attachd.setup.steps import Aim, Remove, Run, Write
from installation import ATTACHD

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path("/opt/attachd/bin/attachd")


def configured(folders: str = "", auth: str = 'token = { credential = "token" }') -> Config:
    text = f"""
[folders]
{folders or 'inbox = "/srv/attachd/inbox"'}
[jira]
url = "https://jira.example.com"
[jira.auth]
user = "email@example.com"
{auth}
"""
    return config.parse(text, base=Path("/etc/attachd"), check_token=False)


def everything(_folder: Path) -> bool:
    return True


def test_the_first_configuration_is_valid_and_fits_the_shipped_unit() -> None:
    made = config.parse(units.sample(None), base=Path("/etc/attachd"), check_token=False)

    assert made.folders.inbox == Path("/srv/attachd/inbox")
    assert made.folders.state == Path("/var/lib/attachd")
    assert made.jira.auth.token is not None
    assert made.jira.auth.token.credential == "token"
    assert units.drop_in(made, None) == ""


def test_so_is_that_of_an_instance() -> None:
    made = config.parse(units.sample("lab"), base=Path("/etc/attachd"), check_token=False)

    assert made.folders.inbox == Path("/srv/attachd/lab/inbox")
    assert made.folders.state == Path("/var/lib/attachd/lab")
    assert units.drop_in(made, "lab") == ""
    assert "ReadWritePaths=/srv/attachd/lab\n" in units.drop_in(made, "other")


def test_the_folders_of_a_first_configuration_are_those_of_the_shipped_file() -> None:
    made = units.tmpfiles(units.needed(configured()))

    def lines(text: str) -> set[tuple[str, ...]]:
        return {tuple(line.split()) for line in text.splitlines() if line and not line.startswith("#")}

    shipped = lines((ROOT / "systemd" / "attachd.tmpfiles.conf").read_text())
    assert lines(made) == shipped - {("d", "/srv/attachd", "0755", "root", "root", "-")}


def test_folders_elsewhere_are_reached_by_their_common_folder() -> None:
    made = units.drop_in(configured('inbox = "/data/jira drops/inbox"'), None)

    assert 'RequiresMountsFor="/data/jira drops"\n' in made
    assert 'ReadWritePaths="/data/jira drops"\n' in made
    assert "Home" not in made


def test_a_folder_that_is_everybodys_is_not_opened_for_the_sake_of_three() -> None:
    apart = configured('inbox = "/data/inbox"\ndone = "/archive/done"\nfailed = "/data/failed"')

    made = units.drop_in(apart, None)

    assert [line for line in made.splitlines() if line.startswith("ReadWritePaths")] == [
        "ReadWritePaths=/data/inbox",
        "ReadWritePaths=/archive/done",
        "ReadWritePaths=/data/failed",
    ]


@pytest.mark.parametrize(
    ("inbox", "bound"),
    [
        ("/home/me/drop/inbox", ["/home/me/drop"]),
        ("/home/me/inbox", ["/home/me/inbox", "/home/me/done", "/home/me/failed"]),
    ],
)
def test_of_a_home_the_service_sees_its_folders_and_never_the_home(inbox: str, bound: list[str]) -> None:
    made = units.drop_in(configured(f'inbox = "{inbox}"'), None).splitlines()

    assert "ProtectHome=tmpfs" in made
    assert "TemporaryFileSystem=/home:ro /root:ro /run/user:ro" in made
    assert [line.removeprefix("BindPaths=") for line in made if line.startswith("BindPaths=")] == bound
    assert not any(line.startswith("ReadWritePaths") for line in made)


def test_a_state_folder_elsewhere_can_be_written_to() -> None:
    made = units.drop_in(configured('inbox = "/srv/attachd/inbox"\nstate = "/data/state"'), None)

    assert "ReadWritePaths=/data/state\n" in made
    assert "RequiresMountsFor=/data/state\n" in made


def test_other_credentials_are_handed_over_too() -> None:
    auth = 'kind = "oauth2"\nclient_id = "x"\nclient_secret = { credential = "secret" }'

    made = units.drop_in(configured(auth=auth), "lab")

    assert "LoadCredential=secret:/etc/attachd/lab.secret\nSetCredential=secret:\\n\n" in made


def test_a_percent_sign_is_no_specifier_and_a_quote_ends_nothing() -> None:
    made = units.drop_in(configured("inbox = '/data/50% \"x\"/inbox'"), None)

    assert 'ReadWritePaths="/data/50%% \\"x\\""\n' in made


def test_the_unit_runs_the_program_that_installed_it() -> None:
    made = units.unit("attachd.service", Path("/usr/local/attachd/bin/attachd"), Path("/etc/attachd/other.toml"))

    assert "ExecStart=/usr/local/attachd/bin/attachd run -c /etc/attachd/other.toml\n" in made
    assert "/opt/attachd" not in made
    assert "ExecStart=/x/attachd run -c /home/me/c.toml\n" in units.unit(
        "attachd-user.service", Path("/x/attachd"), Path("/home/me/c.toml")
    )


def test_somebody_elses_folder_is_left_alone() -> None:
    aim = Aim(COMMAND, Path("/etc/attachd/config.toml"))

    steps = setup_steps.for_system(aim, configured(), lambda folder: folder.name != "inbox")

    (made,) = [step.text for step in steps if isinstance(step, Write) and step.path.parent.name == "tmpfiles.d"]
    assert "attachd/inbox" not in made
    assert "d  /srv/attachd/done 2750 attachd attachd-drop -\n" in made


# --- The steps ------------------------------------------------------------------------------------------------------


def test_users_come_before_what_is_theirs_and_units_last() -> None:
    steps = setup_steps.for_system(Aim(COMMAND, Path("/etc/attachd/config.toml")), configured(), everything)

    done = [step.words[0] if isinstance(step, Run) else step.path.name for step in steps]
    assert done == [
        "attachd.conf",
        "systemd-sysusers",
        "attachd.conf",
        "systemd-tmpfiles",
        "config.toml",
        "token",
        "attachd.service",
        "10-attachd.conf",
        "systemctl",
    ]
    assert [step.path.name for step in steps if isinstance(step, Write) and step.kept] == ["config.toml", "token"]


def test_what_other_services_need_is_not_taken_from_them() -> None:
    def removed(aim: Aim, *others: str) -> set[str]:
        return {step.path.name for step in setup_steps.undone(aim, others) if isinstance(step, Remove)}

    lab = Aim(COMMAND, Path("/etc/attachd/lab.toml"), "lab")
    main = Aim(COMMAND, Path("/etc/attachd/config.toml"))
    own = {"10-attachd.conf", "attachd-lab.conf"}
    assert removed(lab) == {*own, "attachd@.service", "attachd.conf"}
    assert removed(lab, "attachd") == {*own, "attachd@.service"}
    assert removed(lab, "attachd@x") == own
    assert removed(main, "attachd@x") == {"10-attachd.conf", "attachd.conf", "attachd.service"}


def test_a_file_is_written_once_with_its_mode(tmp_path: Path) -> None:
    step = Write(tmp_path / "new" / "token", "x\n", 0o600)

    assert setup_steps.take(step) == "wrote"
    assert stat.S_IMODE(step.path.stat().st_mode) == 0o600
    assert setup_steps.take(step) == "kept"
    assert os.listdir(step.path.parent) == ["token"]


def test_a_unit_that_was_edited_is_a_conflict_and_a_configuration_never(tmp_path: Path) -> None:
    unit, configuration = Write(tmp_path / "unit", "a\n"), Write(tmp_path / "config", "a\n", kept=True)
    for step in (unit, configuration):
        step.path.write_text("mine\n")

    (problem,) = setup_steps.conflicts([unit, configuration, Remove(tmp_path / "no")])

    assert str(unit.path) in str(problem)
    assert "--refresh" in str(problem)
    assert setup_steps.take(configuration) == "kept"
    assert configuration.path.read_text() == "mine\n"
    assert setup_steps.take(unit) == "replaced"


def test_a_drop_in_takes_its_folder_along_only_where_that_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "attachd.service.d"
    folder.mkdir()
    (folder / "10-attachd.conf").touch()
    (folder / "override.conf").touch()

    assert setup_steps.take(Remove(folder / "10-attachd.conf")) == "removed"
    assert os.listdir(folder) == ["override.conf"]
    (folder / "override.conf").unlink()
    assert setup_steps.take(Remove(folder / "10-attachd.conf")) == "absent"
    assert not folder.exists()


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(Mistake, match=r"ended with exit status 2: .*/does/not/exist"):
        setup_steps.take(Run(("ls", "/does/not/exist")))
    assert setup_steps.take(Run(("ls", "/does/not/exist"), may_fail=True)) == "failed"
    with pytest.raises(Mistake, match="no systemd"):
        setup_steps.take(Run(("no-such-program-anywhere",)))


def test_a_program_that_others_can_change_is_refused(tmp_path: Path) -> None:
    command = tmp_path / "attachd"
    command.touch()
    command.chmod(0o775)

    problem = setup_steps.misplaced(command, [Path("/usr")])

    assert problem is not None
    assert "can be changed by users other than root" in str(problem)


def test_a_program_below_a_home_is_refused() -> None:
    problem = setup_steps.misplaced(Path("/usr/bin/env"), [Path("/home/me/attachd")])

    assert problem is not None
    assert "in a home" in str(problem)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["install", "--instance", "../x"], 2, "is not a name of an instance"),
        (["install", "--user", "--instance", "x"], 2, "combined with --user"),
        (["uninstall", "--instance", "x", "-c", "y"], 2, "combined with -c"),
        (["install", "-c", "/home/me/config.toml", "--dry-run"], 1, "in a home"),
        (["install", "-c", "/etc/attachd/lab.toml", "--dry-run"], 2, "Give --instance lab"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(words: list[str], code: int, says: str) -> None:
    ended = subprocess.run([ATTACHD, *words], capture_output=True, text=True, timeout=60)

    assert ended.returncode == code, ended.stderr
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


# --- What is others' ------------------------------------------------------------------------------------------------


def test_a_link_of_an_administrators_is_kept_also_while_it_leads_nowhere(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.symlink_to("/run/secrets/not-there-yet")

    said = setup_steps.take(Write(token, "", 0o600, kept=True))

    assert said == "kept"
    assert token.is_symlink()


def test_a_drop_in_that_is_not_ours_is_a_conflict(tmp_path: Path) -> None:
    mine, ours = tmp_path / "mine.conf", tmp_path / "ours.conf"
    mine.write_text("[Service]\n")
    ours.write_text(f"{units.MADE}; more\n[Service]\n")

    assert [problem.where for problem in setup_steps.conflicts([Remove(mine), Remove(ours)])] == [str(mine)]


def test_what_is_everybodys_is_not_given_to_the_service() -> None:
    assert "ReadWritePaths=/var/lib\n" not in units.drop_in(configured('inbox = "/var/lib/inbox"'), None)
    assert "ReadWritePaths=/var/lib/jira\n" in units.drop_in(configured('inbox = "/var/lib/jira/inbox"'), None)


def test_a_journal_elsewhere_has_its_folder_made() -> None:
    made = units.tmpfiles(units.needed(configured('inbox = "/srv/attachd/inbox"\nstate = "/data/state"')))

    assert "d  /data/state 0700 attachd attachd -\n" in made


def test_words_of_a_command_line_are_quoted_and_each_is_put_in_once() -> None:
    made = units.unit(
        "attachd-user.service", Path("/home/me/my env/50%/$x/attachd"), Path("/home/me/etc/attachd/config.toml")
    )

    assert 'ExecStart="/home/me/my env/50%%/$$x/attachd" run -c /home/me/etc/attachd/config.toml\n' in made


def test_a_colon_separates_nothing() -> None:
    assert 'BindPaths="/home/me/a:b"\n' in units.drop_in(configured('inbox = "/home/me/a:b/inbox"'), None)


def test_the_token_is_put_where_the_configuration_looks_for_it() -> None:
    steps = setup_steps.for_system(
        Aim(COMMAND, Path("/etc/attachd/lab.toml"), "lab"),
        configured(auth='token = { credential = "jira" }'),
        everything,
    )

    assert Path("/etc/attachd/lab.jira") in [step.path for step in steps if isinstance(step, Write)]


def test_an_instance_that_was_made_by_hand_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, tmpfiles = tmp_path / "system", tmp_path / "tmpfiles"
    for folder in (system / "multi-user.target.wants", system / "attachd@.service.d", tmpfiles):
        folder.mkdir(parents=True)
    (system / "multi-user.target.wants" / "attachd@hand.service").touch()
    (tmpfiles / "attachd-lab.conf").touch()
    monkeypatch.setattr(setup_steps, "_SYSTEM", system)
    monkeypatch.setattr(setup_steps, "_TMPFILES", tmpfiles)

    assert setup_steps.installed() == {"attachd@hand", "attachd@lab"}


def test_a_dry_run_shows_the_plan_also_where_something_is_in_the_way(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".config/systemd/user").mkdir(parents=True)
    (home / ".config/systemd/user/attachd.service").write_text("# mine\n")
    words = [ATTACHD, "install", "--user", "--dry-run"]

    ended = subprocess.run(words, env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 1
    assert "would: write" in ended.stdout
    assert ended.stderr.startswith(f"attachd: {home}/.config/systemd/user/attachd.service already exists")
    assert (home / ".config/systemd/user/attachd.service").read_text() == "# mine\n"


def test_a_dry_run_shows_the_whole_unit_and_makes_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [ATTACHD, "install", "--user", "--dry-run"],
        capture_output=True, text=True, timeout=60, env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert f"would: write {tmp_path}/.config/systemd/user/attachd.service\n" in ended.stdout
    assert f"    ExecStart={ATTACHD} run -c {tmp_path}/.config/attachd/config.toml\n" in ended.stdout
    assert os.listdir(tmp_path) == []
