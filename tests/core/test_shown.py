from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from painvrl.core import shown
from painvrl.core.errors import ConfigError, ConfigErrors, DataError, Differs, PainvrlError, StudyError
from painvrl.core.shown import redacted, visible, visible_json, visible_lines, without_user
from painvrl.engine.outcomes import Failed

SECRET = "hunter2"

ESC, C1, OSC, TURNED = "\x1b[2J", "\x9b2J", "\x1b]0;title\x07", "\u202egnp.exe\u2066"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "_known", set())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:hun%40ter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a@hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a/hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a'hunter2\"@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=hunter2", "postgresql://host/db?user=me&password=***"),
        ("postgresql://host/db?password=hunter2&user=me", "postgresql://host/db?password=***&user=me"),
        ("?sslpassword=hunter2&passfile=/hunter2", "?sslpassword=***&passfile=***"),
        ("http://hunter2@host:5000/x", "http://***@host:5000/x"),
        ("https://me:hunter2@host", "https://***@host"),
        ("host/?token=hunter2", "host/?token=***"),
        ("(found {'password': 'hunter2'})", "(found {'password': ***})"),
        ('{"api_key": "hunter2"}', '{"api_key": ***}'),
        ("--set study.storage={password: hunter2}: no", "--set study.storage={password: ***}: no"),
        ("--set study.token=hunter2", "--set study.token=***"),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("Authorization: Basic hunter2", "Authorization: Basic ***"),
        ("sent Bearer hunter2hunter2hunter2", "sent Bearer ***"),
        ("X-Api-Key: hunter2", "X-Api-Key: ***"),
        ("host/?sig=hunter2&pass=hunter2", "host/?sig=***&pass=***"),
        ("DB_PASS=hunter2", "DB_PASS=***"),
        ("tool --db-password hunter2 --x", "tool --db-password *** --x"),
        ("postgresql://u:p@ss/hunter2@h/db", "postgresql://u:***@h/db"),
        ('{"a":"postgresql://u:hunter2@h/db","b":"me@x"}', '{"a":"postgresql://u:***@h/db","b":"me@x"}'),
    ],
)
def test_a_secret_is_found_by_how_it_is_written(written: str, said: str) -> None:
    assert redacted(written) == redacted(said) == said


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1/runs?searchFilter=tags.pareto%20%3D%20'true'",
        "http://host:5000/@me",
        "http://[::1]:5000/",
        "postgresql://me@host/db",
        "sqlite:////home/me@work/optuna.db",
        "models:/name@alias",
        "user_id:token, item_id:token",
        "max_tokens=64",
        "study.password: is not a known key",
        "The Secret: A Film",
        "Standard Bearer (2001)",
        "bypass=1",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_the_environment_s_passwords_are_known_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "short")
    assert redacted("401 for 'hunter2', in short") == "401 for '***', in short"


@pytest.mark.parametrize(
    ("secret", "written", "said"),
    [
        ("password", "?password=hunter2", "?password=***"),
        ("password", "study.password: no key", "study.password: no key"),
        ("password", "401 for 'password'", "401 for '***'"),
        ("bearer", "Authorization: bearer hunter2", "Authorization: *** ***"),
        ("hunter", "hunters, hunter: no", "hunters, ***: no"),
        ("first & rest", "password=first & rest", "password=***"),
        ("#2#hunter", "x#2#hunter", "x***"),
        ("painvrl", "call `painvrl doctor`", "call `painvrl doctor`"),
        ("postgres", "postgres://me@host: needs the extra postgres", None),
    ],
)
def test_a_known_secret_hides_itself_and_no_name_of_another(
    monkeypatch: pytest.MonkeyPatch, secret: str, written: str, said: str | None
) -> None:
    monkeypatch.setenv("DB_PASSWORD", secret)
    assert redacted(written) == (written if said is None else said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile", ["http://a:", "http://a:b@c@", "a://b:@", 'password="', "--token", "x-", "@:"]
)
def test_a_long_text_takes_time_by_its_length(hostile: str) -> None:
    text = hostile * (2**20 // len(hostile))
    before = time.process_time()
    redacted(text)
    assert time.process_time() - before < 20


def test_a_driver_that_reads_a_url_otherwise_quotes_no_part_of_its_password() -> None:
    shown.conceal("postgresql://me:first@second%40third@host/db")
    assert redacted('could not translate host name "second%40third@host"') == (
        'could not translate host name "***@host"'
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:#hunter2@host:1/db",
        "postgresql://me:12/hunter2@host:1/db",
        "postgresql://me:?hunter2@host/db",
        "postgresql://me:a b hunter2@host/db",
        "postgresql://me/x:hunter2@host/db",
        "postgresql://me:hunter2",
        "postgresql://host:1/db?user=me&password=a b hunter2",
        "sqlite:///a.db?password=a hunter2",
        "http://me:/hunter2@host:1",
    ],
)
def test_what_holds_a_url_knows_its_password_however_it_is_written(url: str) -> None:
    shown.conceal(url)
    for quoted in (url, f"cannot connect to {url}", f"(found {url!r})"):
        assert SECRET not in redacted(quoted)
    if "?" not in url.partition("@")[2] and "@" in url:  # drivers quote what they take for the host
        assert SECRET not in redacted("no host called hunter2@host")


@pytest.mark.parametrize(
    "url",
    [
        "http://some-server:5000/experiments@release",
        "sqlite:////a:workspace@release/studies.db",
        "s3://bucket/path:workspace@release",
        "ray://[fe80::workspace]:10001",
        "postgresql://me@some-server:5432/studies?application_name=me@laptop",
        "postgresql://some-server:5432/studies",
        "postgresql://some-server/studies?sslkey=/home/workspace/client.key",
    ],
)
def test_a_url_without_a_password_teaches_nothing(url: str) -> None:
    shown.conceal(url)
    assert not shown._known


def test_a_password_is_known_as_it_is_written_and_as_it_is_meant() -> None:
    shown.conceal("postgresql://me:hunter%40two@host/db")
    assert redacted("no hunter@two, no hunter%40two") == "no ***, no ***"


@pytest.mark.parametrize(
    "value",
    [
        {"password": [SECRET, "x"]},
        {"a": [{"db-password": {"value": SECRET}}]},
        {"password": f'it\'s "{SECRET}" x'},
        {"passwords": [SECRET]},
        {"AWS_ACCESS_KEY_ID": SECRET, "AccountKey": [SECRET]},
        [f"password: {SECRET}"],
        f"password = {SECRET}",
    ],
)
def test_what_stands_behind_the_name_of_a_secret_is_not_shown_whatever_its_type(value: object) -> None:
    assert SECRET not in redacted(repr(shown.hidden(value)))


def test_what_is_no_secret_is_shown_as_it_is() -> None:
    tree = {"token_count": 3, "monkey": ["a"], "password": None, "max_tokens": {"a": 1}}
    assert shown.hidden(tree) == tree


def test_a_link_has_no_user() -> None:
    assert without_user("http://me:hunter2@host:5000/x") == "http://host:5000/x"
    assert without_user("http://host:5000/x") == "http://host:5000/x"


@pytest.mark.parametrize("hostile", [ESC, C1, OSC, TURNED, "a\rb", "a\nb", "a\u2028b", "\x7f"])
def test_a_line_steers_nothing(hostile: str) -> None:
    line = visible(f"a title {hostile}")
    assert not set(line) & shown._STEERING
    assert line == f"a title {repr(hostile)[1:-1]}"


def test_a_text_keeps_its_lines() -> None:
    assert visible_lines(f"one\n\ttwo{ESC}\r") == "one\n\ttwo\\x1b[2J\\r"


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_json_stays_json_and_loses_nothing(value: dict[str, object]) -> None:
    text = visible_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert not set(text) - {"\n"} & shown._STEERING
    assert json.loads(text) == value


@given(st.text())
def test_letters_of_every_script_stay(text: str) -> None:
    plain = "".join(letter for letter in text if letter not in shown._STEERING)
    assert visible(plain) == plain


@pytest.mark.parametrize("kind", [PainvrlError, DataError, StudyError, ConfigError])
def test_every_error_is_one_line_without_secrets(kind: type[PainvrlError]) -> None:
    said = str(kind(f"a\nb {ESC} postgresql://me:{SECRET}@host"))
    assert said == "a\\nb \\x1b[2J postgresql://me:***@host"


def test_a_mistake_hides_what_was_found_and_which_option_said_it() -> None:
    error = ConfigError("must be text", file=f"--set a={{password: {SECRET}}}", value={"token": SECRET})
    assert SECRET not in str(error)
    assert str(ConfigErrors([error, error])).splitlines() == [str(error)] * 2


def test_what_is_kept_of_a_failure_has_no_secret() -> None:
    failed = Failed(reason="refused", message=f"http://{SECRET}@host", log=f"x\npassword={SECRET}\n")
    assert (failed.message, failed.log) == ("http://***@host", "x\npassword=***\n")


def test_differences_have_a_line_each() -> None:
    assert str(Differs(f"a:\n- b: {ESC}\n+ b: 2")).splitlines() == ["a:", "- b: \\x1b[2J", "+ b: 2"]
