r"""What may be shown: text without secrets, and without characters that steer a terminal.

>>> redacted("postgresql://me:geheim@host/db?sslpassword=too")
'postgresql://me:***@host/db?sslpassword=***'
>>> visible("a title\x1b[2J")
'a title\\x1b[2J'
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

_NAME: Final = (
    r"(?:passw(?:or)?ds?|passphrases?|passfile|pwd|secrets?|token|credentials?|signature"
    r"|(?:api|access|account|private|secret)[_-]?keys?(?:[_-]?id)?|sslkey|authorization)"
)
_NAMED: Final = re.compile(
    rf"""({_NAME}\s?=\s?|(?<![a-z0-9])pass=|[?&]sig="""
    rf"""|["'][\w.-]{{0,40}}{_NAME}["']\s?:\s?|["'](?:passw(?:or)?d|pwd|secret):\s|[{{,]\s?[\w.-]{{0,40}}{_NAME}:\s?"""
    rf"""|--[\w-]{{0,40}}{_NAME}[ ](?![(-])|\bx-[\w-]{{0,30}}(?:key|token|secret|auth):\s?"""
    r"""|\bauthorization:\s?(?:basic|bearer|digest|token|negotiate)\s|\bbearer\s(?=[\w.~+/-]{16}))"""
    r"""("[^"]*"|'[^']*'|[^\s&]+)""",
    re.IGNORECASE,
)
"""``password=...`` of URLs and options, the same of mappings, and what HTTP asks for."""
_IS_NAME: Final = re.compile(_NAME, re.IGNORECASE)
_IS_SECRET: Final = re.compile(rf"{_NAME}$", re.IGNORECASE)
_IN_QUERY: Final = re.compile(rf"[?&](?!sslkey|passfile)([\w.-]{{0,40}}{_NAME})=([^&]+)", re.IGNORECASE)
_QUERY: Final = re.compile(r"\?(?=[\w.-]+=)")
_PORT: Final = re.compile(r"\d{1,5}(?:[/?#]|$)")
_OF_FILES: Final = {"sqlite", "file", "s3", "gs", "hdfs", "dbfs", "abfss", "wasbs"}
_DELIMITER: Final = re.compile(r"[\s@/?#]+")

_SCHEME: Final = r"\b([a-zA-Z][a-zA-Z0-9+.-]{0,30}://)"
_USER: Final = re.compile(rf"{_SCHEME}([^\s/?#]*)@")
_SLASHED: Final = re.compile(
    rf"{_SCHEME}([^\s/?#:@\[]{{0,200}}):(?!\*\*\*@)(?!\d{{0,9}}(?:[/?#]|\s|$))"
    r"""([^\s@]{0,500}+(?:@[^\s@"',=]{0,200}+(?=@)){0,4})@"""
)
"""A password that holds what ends a URL's authority; a port is none. Bounded, so that time is linear."""

_ENVIRONMENT: Final = re.compile(r"(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY)$")
_LEAST: Final = 6
"""Characters of a secret that is known by itself: shorter ones would be words of messages."""
_ORDINARY: Final = {"painvrl", "mlflow", "optuna", "postgres", "postgresql", "psycopg", "sqlite"}
"""Hidden wherever they stand, these would take commands and URLs with them, and hide nothing."""

_WORD: Final = re.compile(r"\w+")

_known: set[str] = set()

GUARDS: Final[list[Callable[[], None]]] = []
"""What guards the standard streams of this process. A process that it starts calls them first."""


def conceal(url: str) -> None:
    """Know the password of a URL by itself, and its parts, for what drivers quote of it.

    It may hold everything: what ends a URL's authority elsewhere, blanks, and the sign that ends it itself.
    """
    scheme, there, rest = url.partition("://")
    kind = scheme.partition("+")[0].lower()
    if not there:
        return
    secrets = {found[2] for found in _IN_QUERY.finditer(rest)}
    before, ends, _ = _QUERY.split(rest, maxsplit=1)[0].rpartition("@")
    password = (before if ends else rest).partition(":")[2]
    # A database's URL has no path before its "@"; a server's has, behind its port.
    is_port = (kind.startswith("http") or not ends) and _PORT.match(password) is not None
    is_address = not ends and rest.startswith("[")
    if kind not in _OF_FILES and not is_port and not is_address:
        secrets |= {password, unquote(password), *_DELIMITER.split(password)}
    _known.update(one for one in secrets if len(one) >= _LEAST)


def hidden(value: object) -> object:
    """``value`` with ``***`` for all that stands behind the name of a secret in its mappings."""
    if isinstance(value, Mapping):
        return {
            name: "***" if _IS_SECRET.search(str(name)) and one is not None else hidden(one)
            for name, one in value.items()
        }
    return [hidden(one) for one in value] if isinstance(value, list) else value


def redacted(text: str) -> str:
    """``text`` with ``***`` for passwords and tokens.

    They are found by how they are written: in URLs, and behind names such as ``password=`` and ``token=``.
    Also hidden is what a variable of the environment called so holds, and what :func:`conceal` was told.
    """
    of_environment = {
        value for name, value in os.environ.items() if _ENVIRONMENT.search(name) and len(value) >= _LEAST
    }
    known = sorted((of_environment | _known) - _ORDINARY, key=len, reverse=True)
    # A word may be part of how another secret is written; anything else may be more than one pattern takes.
    for secret in known:
        text = text if _WORD.fullmatch(secret) else _without(secret, text)
    if "://" in text:
        text = _SLASHED.sub(r"\1\2:***@", text)
        text = _USER.sub(_without_user, text)
    text = _NAMED.sub(_without_value, text)
    for secret in known:
        text = _without(secret, text) if _WORD.fullmatch(secret) else text
    return text


def _without(secret: str, text: str) -> str:
    """``text`` without a known secret, where it is no part of a word, nor the name of a value."""
    if secret not in text:
        return text
    name = r"""(?!["']?\s?[=:])""" if _IS_NAME.fullmatch(secret) else ""
    edge = r"(?:(?<!\w)|(?!\w))"
    return re.sub(f"{edge}{re.escape(secret)}{edge}{name}", "***", text)


def _without_value(found: re.Match[str]) -> str:
    value = found[2]
    if value == "None":
        return found[0]
    quoted = value[:1] in {"'", '"'} and value[-1:] == value[:1]
    return f"{found[1]}***" + ("" if quoted else value[len(value.rstrip("'\")]},.:;")) :])


def _without_user(found: re.Match[str]) -> str:
    """A database's user may be read; a server's is a token where there is no password."""
    user, colon, _ = found[2].partition(":")
    if found[1].lower().startswith("http"):
        return f"{found[1]}***@"
    return f"{found[1]}{user}:***@" if colon else found[0]


def without_user(url: str) -> str:
    """A server's URL as a link: whoever follows it is asked who they are."""
    return _USER.sub(r"\1", _SLASHED.sub(r"\1", url))


_BIDI: Final = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_BREAKS: Final = "\x85\u2028\u2029"
_STEERING: Final = {*map(chr, range(32)), *map(chr, range(127, 160)), *_BIDI, *_BREAKS}
_IN_LINE: Final = str.maketrans({one: repr(one)[1:-1] for one in _STEERING})
_IN_TEXT: Final = str.maketrans({one: repr(one)[1:-1] for one in _STEERING - {"\n", "\t"}})
_IN_JSON: Final = str.maketrans({one: f"\\u{ord(one):04x}" for one in _STEERING - {"\n", "\t"}})


def visible(text: str) -> str:
    """One line: what steers a terminal, turns the direction of reading or breaks lines is escaped."""
    return text.translate(_IN_LINE)


def visible_lines(text: str) -> str:
    """The same of a text that has lines and tabs."""
    return text.translate(_IN_TEXT)


def visible_json(text: str) -> str:
    """JSON that holds none of these characters itself; who reads it gets them."""
    return text.translate(_IN_JSON)
