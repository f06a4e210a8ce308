"""``init``: which site, and as whom; asked, tried, and asked again where it is no good."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from attachd.config import addresses, validators
from attachd.errors import Mistake, Problem
from attachd.model import Fault
from attachd.setup import sign_in
from attachd.setup.sign_in import Known, Secrets, Signed, Wanted

# Questions that are asked on a terminal where their option is not given.

#: How often a question is asked that gets an answer which is no good.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks on a terminal; without one what is missing is a mistake."""

    terminal: bool

    def text(
        self, question: str, given: str | None, *, option: str = "", default: str | None = None,
        check: Callable[[str], str] = lambda _: "", hidden: bool = False,
    ) -> str:  # fmt: skip
        """The answer, from the option or the terminal. Raises ``errors.Mistake`` (2) for one that is no good, or none."""
        if given is not None or not self.terminal:
            if given is None and default is None:
                raise Mistake(
                    Problem(option, "is not given, and there is no terminal to ask on.", "Give it."), exit_code=2
                )
            answer = given if given is not None else default or ""
            if wrong := check(answer):
                raise Mistake(Problem(option or question, wrong), exit_code=2)
            return answer
        for _ in range(TRIES):
            answer = str(typer.prompt(question, default=default, hide_input=hidden, show_default=bool(default))).strip()
            wrong = check(answer)
            if not wrong:
                return answer
            print(f"  {wrong}")
        raise Mistake(Problem("", "that is no answer either; nothing was written."), exit_code=2)


def site(ask: Asking, wanted: Wanted, given: str | None) -> tuple[Wanted, bool]:
    """The site's address, and whether it is Jira Cloud; asked again where nobody answers there."""
    for _ in range(TRIES):
        text = ask.text("Address of your Jira, as in your-domain.atlassian.net", given, option="--url", check=_address)
        wanted = replace(wanted, url=sign_in.address(text))
        cloud = sign_in.kind_of_site(wanted)
        if not isinstance(cloud, Fault):
            print(f"{wanted.url} is Jira {'Cloud' if cloud else 'Data Center'}.")
            return wanted, cloud
        problem = Problem(
            wanted.url, f"{cloud.reason.removesuffix('.')}.", "Correct the address, or see to the network."
        )
        if given is not None or not ask.terminal:
            raise Mistake(problem, exit_code=1)
        print(f"  {problem}")
    raise Mistake(Problem("", "no Jira was found; nothing was written."), exit_code=1)


def signed(ask: Asking, wanted: Wanted, cloud: bool, token_file: str | None, client_secret_file: str | None) -> Signed:
    """Sign in. Raises ``errors.Mistake`` where it cannot be done, or an answer is no good."""
    kind = ask.text("", wanted.kind or ("basic" if cloud else "bearer"), option="--kind", check=_kind)
    wanted = replace(wanted, kind=kind)
    if kind != "oauth2" and (wanted.client_id or client_secret_file or wanted.scope or wanted.token_url):
        what = f"--client-id, --client-secret-file, --scope and --token-url are for oauth2, and the kind is {kind}."
        raise Mistake(Problem("--kind", what, "Give --kind oauth2, or leave them out."), exit_code=2)
    if {token_file, client_secret_file} == {"-"}:
        raise Mistake(Problem("", "token and client secret cannot both come from stdin."), exit_code=2)
    for _ in range(TRIES):
        asked = _application if kind == "oauth2" else _person
        wanted_now, secrets = asked(ask, wanted, cloud, token_file, client_secret_file)
        found = sign_in.sign_in(wanted_now, secrets, cloud=cloud)
        if isinstance(found, Known):
            _welcome(found, wanted_now)
            return Signed(found, secrets)
        problem = Problem(wanted.url, f"{found.reason.removesuffix('.')}.", _remedy(kind, cloud))
        if token_file is not None or client_secret_file is not None or not ask.terminal:
            raise Mistake(problem, exit_code=1)
        print(f"  {problem}")
    raise Mistake(Problem("", "Jira does not accept the account; nothing was written."), exit_code=1)


def _welcome(found: Known, asked: Wanted) -> None:
    if found.account:
        print(f"Jira knows this account as {found.account}.")
    else:
        print("The refresh token is not tried: each use replaces it, and the first one is the service's.")
    if found.wanted.url != asked.url:
        whose = "Access tokens of OAuth are" if asked.kind == "oauth2" else "The token has scopes: it is"
        print(f"{whose} good at {found.wanted.url}, which goes into the configuration.")


def _person(ask: Asking, wanted: Wanted, cloud: bool, token_file: str | None, _: str | None) -> tuple[Wanted, Secrets]:
    user = ""
    if wanted.kind == "basic":
        whose = "E-mail address" if cloud else "User name"
        question = f"{whose} of the account that attaches"
        user = ask.text(question, wanted.user or None, option="--user", check=_user)
    question = "API token (is not shown)" if cloud else "Personal access token (is not shown)"
    return replace(wanted, user=user), Secrets(token=_secret(ask, question, "--token-file", token_file))


def _application(
    ask: Asking, wanted: Wanted, cloud: bool, token_file: str | None, client_secret_file: str | None
) -> tuple[Wanted, Secrets]:
    client_id = ask.text("Client id of the application", wanted.client_id or None, option="--client-id", check=_client)
    secret = _secret(ask, "Client secret (is not shown)", "--client-secret-file", client_secret_file)
    refresh = ""
    if token_file is not None or (ask.terminal and client_secret_file is None):
        question = "First refresh token (is not shown; empty: the application acts for itself)"
        refresh = _secret(ask, question, "--token-file", token_file, may_lack=True)
    # Atlassian's endpoint grants what the application was made with; Data Center's wants to be asked.
    scope = ask.text("Scope", wanted.scope, default="" if cloud else "WRITE", option="--scope", check=_scope)
    return replace(wanted, user="", client_id=client_id, scope=scope or None), Secrets(refresh, secret)


# --- What is an answer ---------------------------------------------------------------------------------------------


def _address(text: str) -> str:
    url = sign_in.address(text) if text else ""
    return " ".join(map(str, addresses.url(url))) if url else "Name the site."


def _kind(text: str) -> str:
    return "" if text in ("basic", "bearer", "oauth2") else "Choose basic, bearer or oauth2."


def _user(text: str) -> str:
    found = [problem for problem in validators.auth("basic", text, has_token=True) if problem.where == "user"]
    return " ".join(problem.what for problem in found)


def _client(text: str) -> str:
    return " ".join(each.what for each in validators.oauth("oauth2", ["client_id", "client_secret"], text, None))


def _scope(text: str) -> str:
    found = validators.oauth("oauth2", ["client_id", "client_secret"], "x", text or None)
    return " ".join(each.what for each in found)


def _remedy(kind: str, cloud: bool) -> str:
    if kind == "oauth2":
        return (
            "Compare the id and the secret with those of the application, and see that it may read and write in Jira."
        )
    if cloud:
        return "Make an API token at id.atlassian.com (Security, API tokens), for the account of that e-mail address."
    return "Make a personal access token in your profile in Jira, or give --kind basic with a user's name and password."


def _secret(ask: Asking, question: str, option: str, file: str | None, *, may_lack: bool = False) -> str:
    if file is None:
        text = ask.text(question, None, option=option, default="" if may_lack else None, hidden=True)
    else:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Mistake(Problem(option, f"{file} cannot be read: {error}."), exit_code=2) from None
    secret = text.strip()
    if may_lack and file is None and not secret:
        return ""
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        what = f"holds no {option.removeprefix('--').removesuffix('-file').replace('-', ' ')}"
        raise Mistake(Problem(option, f"{what}: it has to be one word of plain text."), exit_code=2)
    return secret
