"""The questions of ``init`` about site and account: asked, tried, and asked again after a wrong answer."""

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

#: How often ``init`` asks a question before it gives up.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks questions on a terminal. Without a terminal, a missing option is a mistake."""

    terminal: bool

    def text(
        self, question: str, given: str | None, *, option: str = "", default: str | None = None,
        check: Callable[[str], str] = lambda _: "", hidden: bool = False,
    ) -> str:  # fmt: skip
        """Return the answer from the option or the terminal. Raises ``errors.Mistake`` (2) for a wrong or missing one."""
        if given is not None or not self.terminal:
            if given is None and default is None:
                raise Mistake(
                    Problem(option, "is missing, and there is no terminal to ask on.", "Give this option."), exit_code=2
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
            print(f"  This answer {wrong}")
        raise Mistake(Problem("", "Too many wrong answers. Nothing was written."), exit_code=2)


def site(ask: Asking, wanted: Wanted, given: str | None) -> tuple[Wanted, bool]:
    """Return the site's address, and True for Jira Cloud. Asks again if no Jira answers there."""
    for _ in range(TRIES):
        text = ask.text(
            "Address of your Jira, for example your-domain.atlassian.net", given, option="--url", check=_address
        )
        wanted = replace(wanted, url=sign_in.address(text))
        cloud = sign_in.kind_of_site(wanted)
        if not isinstance(cloud, Fault):
            print(f"{wanted.url} is Jira {'Cloud' if cloud else 'Data Center'}.")
            return wanted, cloud
        problem = Problem(
            "", f"{wanted.url}: {cloud.reason.removesuffix('.')}.", "Check the address, the proxy and the network."
        )
        if given is not None or not ask.terminal:
            raise Mistake(problem, exit_code=1)
        print(f"  {problem}")
    raise Mistake(Problem("", "No Jira was found. Nothing was written."), exit_code=1)


def signed(ask: Asking, wanted: Wanted, cloud: bool, token_file: str | None, client_secret_file: str | None) -> Signed:
    """Sign in. Raises ``errors.Mistake`` if Jira refuses, or an answer is wrong."""
    kind = ask.text("", wanted.kind or ("basic" if cloud else "bearer"), option="--kind", check=_kind)
    wanted = replace(wanted, kind=kind)
    if kind != "oauth2" and (wanted.client_id or client_secret_file or wanted.scope or wanted.token_url):
        what = f"is {kind}, but --client-id, --client-secret-file, --scope and --token-url are only for oauth2."
        raise Mistake(Problem("--kind", what, "Give --kind oauth2, or leave them out."), exit_code=2)
    if {token_file, client_secret_file} == {"-"}:
        raise Mistake(Problem("", "Token and client secret cannot both come from stdin."), exit_code=2)
    for _ in range(TRIES):
        asked = _application if kind == "oauth2" else _person
        wanted_now, secrets = asked(ask, wanted, cloud, token_file, client_secret_file)
        found = sign_in.sign_in(wanted_now, secrets, cloud=cloud)
        if isinstance(found, Known):
            _welcome(found, wanted_now)
            return Signed(found, secrets)
        problem = Problem("", f"{wanted.url}: {found.reason.removesuffix('.')}.", _remedy(kind, cloud))
        if token_file is not None or client_secret_file is not None or not ask.terminal:
            raise Mistake(problem, exit_code=1)
        print(f"  {problem}")
    raise Mistake(Problem("", "Jira does not accept the account. Nothing was written."), exit_code=1)


def _welcome(found: Known, asked: Wanted) -> None:
    if found.account:
        print(f"Jira knows this account as {found.account}.")
    else:
        print("init does not test the refresh token, because each use replaces it. The service will use it first.")
    if found.wanted.url != asked.url:
        why = "OAuth access tokens work" if asked.kind == "oauth2" else "The token has scopes, so it works"
        print(f"{why} only at {found.wanted.url}. init writes that address into the configuration.")


def _person(ask: Asking, wanted: Wanted, cloud: bool, token_file: str | None, _: str | None) -> tuple[Wanted, Secrets]:
    user = ""
    if wanted.kind == "basic":
        whose = "E-mail address" if cloud else "User name"
        question = f"{whose} of the account that attaches files"
        user = ask.text(question, wanted.user or None, option="--user", check=_user)
    question = "API token (hidden)" if cloud else "Personal access token (hidden)"
    return replace(wanted, user=user), Secrets(token=_secret(ask, question, "--token-file", token_file))


def _application(
    ask: Asking, wanted: Wanted, cloud: bool, token_file: str | None, client_secret_file: str | None
) -> tuple[Wanted, Secrets]:
    client_id = ask.text("Client id of the application", wanted.client_id or None, option="--client-id", check=_client)
    secret = _secret(ask, "Client secret (hidden)", "--client-secret-file", client_secret_file)
    refresh = ""
    if token_file is not None or (ask.terminal and client_secret_file is None):
        question = "First refresh token (hidden; empty: the application acts for itself)"
        refresh = _secret(ask, question, "--token-file", token_file, may_lack=True)
    # Atlassian's endpoint grants the scopes of the application; that of Data Center needs one in the request.
    scope = ask.text("Scope", wanted.scope, default="" if cloud else "WRITE", option="--scope", check=_scope)
    return replace(wanted, user="", client_id=client_id, scope=scope or None), Secrets(refresh, secret)


# --- Valid answers -------------------------------------------------------------------------------------------------


def _address(text: str) -> str:
    url = sign_in.address(text) if text else ""
    return " ".join(map(str, addresses.url(url))) if url else "is empty."


def _kind(text: str) -> str:
    return "" if text in ("basic", "bearer", "oauth2") else "must be basic, bearer or oauth2."


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
        return "Compare id and secret with those of the application. The application must be allowed to read and write in Jira."
    if cloud:
        return "Create an API token at id.atlassian.com (Security, API tokens) with the account of that e-mail address."
    return "Create a personal access token in your Jira profile, or use --kind basic with user name and password."


def _secret(ask: Asking, question: str, option: str, file: str | None, *, may_lack: bool = False) -> str:
    if file is None:
        text = ask.text(question, None, option=option, default="" if may_lack else None, hidden=True)
    else:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Mistake(
                Problem(
                    option,
                    f"names {file}, which cannot be read: {error.strerror if isinstance(error, OSError) else error}.",
                ),
                exit_code=2,
            ) from None
    secret = text.strip()
    if may_lack and file is None and not secret:
        return ""
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        name = option.removeprefix("--").removesuffix("-file").replace("-", " ")
        raise Mistake(Problem(option, f"contains no {name}: a {name} is one word of plain text."), exit_code=2)
    return secret
