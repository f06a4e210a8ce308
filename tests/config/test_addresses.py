"""Addresses that the configuration accepts are those that a connection can be tried to; all others are refused with their key."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from attachd import config
from attachd.config import addresses
from attachd.errors import Mistake
from attachd.jira import client, transport
from attachd.jira.auth import Credentials
from attachd.jira.reply import Broken, Stage

#: Hosts that no name server could be asked for, each broken in its own way.
HOSTS = {
    "empty label": "your-site..atlassian.net",
    "dot in front": ".atlassian.net",
    "only a dot": ".",
    "two dots behind": "atlassian.net..",
    "label of 64": f"{'a' * 64}.example.com",
    "name of 254": ".".join(["a" * 49] * 5 + ["abcd"]),
    "percent": "jira%2eexample.com",
    "comma": "jira,example.com",
    "quote": "jira'.example.com",
    "backtick": "jira`id`.example.com",
    "braces": "{your-site}.atlassian.net",
    "angles": "<your-site>.atlassian.net",
    "pipe": "jira|x.example.com",
    "caret": "jira^x.example.com",
    "star": "*.atlassian.net",
    "hyphen in front": "-jira.example.com",
    "hyphen behind": "jira-.example.com",
    "IPv4 out of range": "10.0.0.256",
    "IPv4 of three": "10.0.1",
    "number": "2130706433",
    "IPv4 with zeros": "010.0.0.1",
    "IPv6 broken": "[::1::2]",
    "IPv6 with zone": "[fe80::1%25eth0]",
    "IPv6 of the future": "[v1.fe80]",
    "IPv6 without brackets": "::1",
    "bad punycode": "xn--a.example.com",
    "bad punycode later": "jira.xn--99999999999.com",
    "umlaut and empty label": "müller..example.com",
    "label too long as punycode": f"{'ü' * 60}.example.com",
    "emoji": "💥.example.com",
    "surrogate": "jira\udcff.example.com",
    "wide dot and empty label": "jira。。example.com",
    "joiner": "a\u200db.example.com",
}
GOOD = (
    *("jira.example.com", "jira", "localhost", "127.0.0.1", "[::1]", "[2001:db8::1]", "example.com.", "jira_dc.intern"),
    *("xn--mller-kva.de", "müller.de", "中国.icom.museum", "3com.example", "a--b.example.com"),
)


def _wrong(address: str) -> list[str]:
    return [problem.what for problem in addresses.url(address)]


@pytest.mark.parametrize("kind", HOSTS)
def test_a_host_that_cannot_be_one_is_a_mistake_of_every_key_that_names_one(kind: str) -> None:
    address = f"https://{HOSTS[kind]}"

    assert _wrong(address)
    assert _wrong(f"{address}:8443/jira")
    assert list(addresses.proxy(f"http://{HOSTS[kind]}:3128"))
    assert list(addresses.token_url(f"{address}/oauth/token"))
    assert list(addresses.hook_url(f"{address}/hook?token=x"))


@pytest.mark.parametrize("port", ["65536", "99999999", "0", "-1", "+80", "８０", "8o", " 80", "80:90"])
def test_a_port_that_cannot_be_one_is_a_mistake(port: str) -> None:
    assert _wrong(f"https://jira.example.com:{port}")


@pytest.mark.parametrize("text", ["https://user@jira.example.com", "https://u:p@jira.example.com", "https://@jira"])
def test_a_user_in_the_address_is_a_mistake(text: str) -> None:
    assert _wrong(text)


@pytest.mark.parametrize("host", GOOD)
def test_a_host_that_can_be_one_is_accepted_as_the_library_will_take_it(host: str) -> None:
    address = f"https://{host}:8443/jira"

    assert _wrong(address) == []
    # What connects encodes the name in this way.
    assert httpx.URL(addresses.tidy(address)).raw_host.decode().encode("idna")


def test_the_key_is_named(tmp_path: Path) -> None:
    jira = {"url": "https://your-site..atlassian.net", "auth": {"kind": "anonymous"}}
    tables = {"folders": {"inbox": str(tmp_path)}, "jira": jira}

    with pytest.raises(Mistake) as told:
        config.parse(tables, base=tmp_path)

    assert told.value.exit_code == 78
    (problem,) = told.value.problems
    assert problem.where == "jira.url"
    assert problem.what.startswith("has an impossible host name")


@pytest.mark.parametrize("kind", ["empty label", "label of 64", "bad punycode", "dot in front"])
def test_a_name_that_comes_to_a_connection_all_the_same_is_no_crash(kind: str) -> None:
    deadline = transport.Deadline()
    wire = transport.transport(transport.Tls().context(), None, deadline)
    timeouts = transport.Timeouts(1.0, 1.0, 1.0)
    nobody = Credentials("anonymous", "", None)
    url = f"https://{HOSTS[kind]}"
    asker = client.Client(url, nobody, wire, timeouts=timeouts, deadline=deadline, user_agent="x")

    answer = asker.server_info()
    asker.close()

    assert isinstance(answer, Broken)
    assert answer.stage is Stage.CONNECTING
