"""Settings: what the variables mean, and what is said when they mean nothing."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from qmodal.config import MIB, Settings, redacted
from qmodal.embedded.credentials import CredentialFiles, credential_variables
from qmodal.embedded.server import Listen
from qmodal.exception import ConfigurationError
from qmodal.transport.connection import Address
from qmodal_workers.ipc.start_request import StartRequest

KEY = "sixteen bytes ok"


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_environ({})
    assert settings == Settings()
    assert settings.redis_url is None
    assert settings.signing_key is None
    assert (settings.environment, settings.prefix, settings.payloads) == ("main", "qmodal", "")
    assert settings.result_ttl == 7 * 86_400
    assert settings.failed_arguments == 64 * MIB
    assert settings.home == Path("~/.qmodal").expanduser()
    assert not settings.insecure


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("rediss://:pw@h", "rediss://:pw@h"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("valkey://u:p@h:1/2", "redis://u:p@h:1/2"),
        ("valkeys://h", "rediss://h"),
        ("redis+unix:///s", "unix:///s"),
        ("  redis://h  ", "redis://h"),
        ("REDIS://h", "redis://h"),
        ("redis+sentinel://u:p@h:1,i:2/m?db=1", "redis+sentinel://u:p@h:1,i:2/m?db=1"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("", None),
    ],
)
def test_urls_become_what_the_client_library_takes(given: str, taken: str | None) -> None:
    assert Settings.from_environ({"QMODAL_REDIS_URL": given}).redis_url == taken


@pytest.mark.parametrize("scheme", ["redis+cluster", "REDISS+CLUSTER"])
def test_a_cluster_is_refused_with_what_to_use(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="Cluster is not supported yet; write redis://"):
        Settings.from_environ({"QMODAL_REDIS_URL": f"{scheme}://:pw@h:1,i:2"})


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("", None),
        ("https://example.com", "https://example.com"),
        (" HTTPS://Example.com/ ", "https://example.com"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
    ],
)
def test_web_functions_are_reached_at_the_base_of_a_url(given: str, taken: str | None) -> None:
    settings = Settings.from_environ({"QMODAL_WEB_URL": given})
    assert settings.web_url == taken
    assert Settings.from_environ(settings.to_environ()) == settings


def test_the_port_of_metrics_is_for_one_process_and_not_for_those_that_it_starts() -> None:
    settings = Settings.from_environ({"QMODAL_METRICS_PORT": "9101"})
    assert settings.metrics_port == 9101
    assert "QMODAL_METRICS_PORT" not in settings.to_environ()
    with pytest.raises(ConfigurationError, match="QMODAL_METRICS_PORT is '0'; write a port"):
        Settings.from_environ({"QMODAL_METRICS_PORT": "0"})


@pytest.mark.parametrize(
    "given",
    [
        "example.com",
        "example.com:8000",
        "ftp://example.com",
        "https://",
        "https://example.com/apps",
        "https://example.com?a=b",
        "https://example.com#a",
        "https://user:password@example.com",
        "https://a b.example.com",
        "https://example.com:0",
        "https://example.com:99999",
        "https://münchen.example",
    ],
)
def test_what_is_no_base_of_a_url_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"QMODAL_WEB_URL is .*without a path") as caught:
        Settings.from_environ({"QMODAL_WEB_URL": given})
    assert "password" not in str(caught.value)


def test_the_own_variable_wins_over_the_hosts() -> None:
    both = {"QMODAL_REDIS_URL": "redis://own", "REDIS_URL": "redis://host"}
    assert Settings.from_environ(both).redis_url == "redis://own"
    assert Settings.from_environ({**both, "QMODAL_REDIS_URL": ""}).redis_url == "redis://host"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("00ff" * 8, b"\x00\xff" * 8),
        (KEY, KEY.encode()),
        ("00ff" * 4, b"00ff" * 4),
        (f"  {KEY}\n", KEY.encode()),
        ("", None),
    ],
)
def test_a_key_is_hex_or_text(text: str, key: bytes | None, tmp_path: Path) -> None:
    assert Settings.from_environ({"QMODAL_SIGNING_KEY": text}).signing_key == key
    if text:
        file = tmp_path / "key"
        file.write_text(text)
        environ = {"QMODAL_SIGNING_KEY_FILE": str(file)}
        assert Settings.from_environ(environ).signing_key == key


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("QMODAL_REDIS_URL", "localhost:6379"),
        ("QMODAL_REDIS_URL", "http://h"),
        ("QMODAL_FAILED_ARGUMENTS_MIB", "64 MiB"),
        ("QMODAL_FAILED_ARGUMENTS_MIB", "-1"),
        ("QMODAL_REDIS_URL", "redis://"),
        ("QMODAL_REDIS_URL", "redis://h:port"),
        ("QMODAL_REDIS_URL", "unix://"),
        ("REDIS_URL", "amqp://h"),
        ("QMODAL_SIGNING_KEY", "short"),
        ("QMODAL_SIGNING_KEY_FILE", "/no/such/file"),
        ("QMODAL_REDIS_URL_FILE", "/no/such/file"),
        ("QMODAL_ENVIRONMENT", "a b"),
        ("QMODAL_PREFIX", "{x}"),
        ("QMODAL_PREFIX", "x" * 65),
        ("QMODAL_PAYLOADS", "pickle"),
        ("QMODAL_RESULT_TTL", "59.9"),
        ("QMODAL_RESULT_TTL", "7 days"),
        ("QMODAL_RESULT_TTL", "nan"),
        ("QMODAL_RESULT_TTL", "inf"),
        ("QMODAL_HOME", "~no-such-user-here/x"),
        ("QMODAL_INSECURE", "maybe"),
        ("QMODAL_WEB_PORT", "0"),
        ("QMODAL_WEB_PORT", "65536"),
        ("QMODAL_WEB_PORT", "http"),
        ("QMODAL_WEB_PORT", "\uff19\uff19"),
    ],
)
def test_a_bad_value_is_refused_by_its_variables_name(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_environ({variable: value})


def test_an_error_about_a_url_hides_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environ({"REDIS_URL": "amqp://user:secret@h"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:secret@h:6379", "redis://:***@h:6379"),
        ("redis://u:se@cr/et@h", "redis://u:***@h"),
        ("unix:///s?db=1&password=secret", "unix:///s?db=1&password=***"),
        ("unix://:secret@/run/s", "unix://:***@/run/s"),
        ("redis://secret@h", "redis://***@h"),
        ("user:secret@h:6379", "user:***@h:6379"),
        ("redis:/:se://cret@h", "redis:***@h"),
        ("redis+sentinel://:pw@h:1,i:2/m", "redis+sentinel://:***@h:1,i:2/m"),
        ("redis+sentinel://h/m?sentinel_password=x", "redis+sentinel://h/m?sentinel_password=***"),
        ("rediss://h?ssl_password=pw&db=1", "rediss://h?ssl_password=***&db=1"),
    ],
)
def test_a_shown_url_has_no_password(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_a_child_process_reads_the_same_settings() -> None:
    settings = Settings(
        redis_url="unix://:pw@/s",
        signing_key=bytes(range(32)),
        environment="dev",
        payloads="plain",
        result_ttl=61.5,
        failed_arguments=3 * MIB,
        home=Path("/h"),
        prefix="mine",
        insecure=True,
        web_port=9000,
    )
    assert Settings.from_environ(settings.to_environ()) == settings
    assert Settings.from_environ(Settings().to_environ()) == Settings()


def test_a_url_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("valkey://:pw@h\n")
    environ = {"QMODAL_REDIS_URL_FILE": str(file), "REDIS_URL": "redis://another"}
    assert Settings.from_environ(environ).redis_url == "redis://:pw@h"
    assert (
        Settings.from_environ({**environ, "QMODAL_REDIS_URL": "redis://x"}).redis_url == "redis://x"
    )


@pytest.mark.parametrize("variable", ["QMODAL_SIGNING_KEY_FILE", "QMODAL_REDIS_URL_FILE"])
@pytest.mark.parametrize("text", ["00ff" * 16, "redis://:00ff00ff@host"])
def test_a_secret_in_the_variable_of_its_file_is_not_shown(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=variable) as caught:
        Settings.from_environ({variable: text})
    assert "00ff" not in "".join(traceback.format_exception(caught.value))


def test_a_shown_record_has_no_secrets() -> None:
    url, key = "redis://:secret@h", b"k" * 16
    settings = Settings(redis_url=url, signing_key=key)
    start = StartRequest(
        container="c",
        worker="w",
        pool="p",
        spec=b"",
        version=b"",
        code=None,
        variables=b"",
        settings=settings.to_environ(),
    )
    listen = Listen(address="h", port=1, password="secret")
    for record in (settings, Address(url), start, listen):
        assert "secret" not in repr(record)
        assert "kkk" not in repr(record)
        assert key.hex() not in repr(record)


@pytest.mark.parametrize(
    ("variables", "taken"),
    [
        ({"QMODAL_SIGNING_KEY": "k"}, ["QMODAL_SIGNING_KEY"]),
        ({"QMODAL_REDIS_URL": "redis://:own@h"}, ["QMODAL_REDIS_URL"]),
        ({"QMODAL_REDIS_URL": "redis://h"}, []),
        ({"REDIS_URL": "rediss://:own@h"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis://:theirs@h"}, []),
        ({"REDIS_URL": "redis://[h"}, []),
        ({"REDIS_URL": "unix:///s?db=1&password=own"}, ["REDIS_URL"]),
        ({"QMODAL_SIGNING_KEY_FILE": "/key", "OTHER": "own"}, []),
    ],
)
def test_only_variables_that_hold_the_credentials_are_taken_away(
    variables: dict[str, str], taken: list[str]
) -> None:
    settings = Settings(redis_url="redis://:own@h", signing_key=b"k" * 16)
    assert credential_variables(variables, settings) == taken
    assert (
        credential_variables({"REDIS_URL": "redis://:x@h"}, Settings(redis_url="redis://h")) == []
    )


def test_the_files_of_a_process_spell_its_settings() -> None:
    settings = Settings(redis_url="redis://:secret@h", signing_key=b"k" * 16)
    files = CredentialFiles(settings)
    environ = files.environ()
    assert "secret" not in str(environ)
    assert Settings.from_environ(environ) == settings
    files.close()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Settings.from_environ(environ)
