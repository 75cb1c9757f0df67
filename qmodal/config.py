"""Modal's name for the module of settings, which are environment variables here."""

from __future__ import annotations

import math
import os
import re
import stat
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from qmodal.exception import ConfigurationError, InvalidError, UnimplementedError, clause

_VARIABLES = {
    "environment": ("QMODAL_ENVIRONMENT", "main"),
    "payload_format": ("QMODAL_PAYLOADS", "pickle"),
    "server_url": ("QMODAL_REDIS_URL", None),
    "traceback": ("QMODAL_TRACEBACK", False),
}


class Config:
    """The settings of this process by Modal's names; one that qmodal has not raises InvalidError.

    >>> qmodal.config.config.get("environment")
    'main'
    """

    def get(self, key: str, *, profile: str | None = None, use_env: bool = True) -> Any:
        """The value: that of the environment variable, else the default."""
        if key not in _VARIABLES:
            raise InvalidError(f"qmodal has no setting {key!r}; it has {', '.join(_VARIABLES)}.")
        variable, default = _VARIABLES[key]
        return os.environ.get(variable, default) if use_env else default

    def override_locally(self, key: str, value: str) -> None:
        """Set it for this process and those that it starts."""
        self.get(key)
        os.environ[_VARIABLES[key][0]] = value

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def to_dict(self, *, include_internal: bool = False) -> dict[str, Any]:
        """All of them."""
        return {key: self.get(key) for key in _VARIABLES}


config = Config()


def config_profiles() -> list[str]:
    """The names of profiles: none, as settings are environment variables."""
    return []


def config_set_active_profile(profile: str) -> NoReturn:
    """Raises UnimplementedError: set QMODAL_REDIS_URL and the other variables."""
    raise UnimplementedError(
        "qmodal has no profiles: set QMODAL_REDIS_URL, QMODAL_SIGNING_KEY and QMODAL_ENVIRONMENT."
    )


DAY = 86_400.0
SHORTEST_RESULT_TTL = 60.0
SHORTEST_KEY = 16
MIB = 1024 * 1024
# Bytes of arguments that are kept of failed inputs, for each app in each shard.
FAILED_ARGUMENTS = 64 * MIB

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[a-z0-9:]([a-z0-9.:-]*[a-z0-9:])?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PUBLISHING_KEY = re.compile(r"[0-9a-fA-F]{64}")
_HEX_KEY = re.compile(r"(?:[0-9a-fA-F]{2}){16,}")
_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+sentinel": "redis+sentinel",
    "redis+unix": "unix",
    "valkey+unix": "unix",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's settings; `redis_url` and `signing_key` are None where nothing was set.

    `publishing_key` is the private half, of those who deploy; `publishers` are the public halves that are accepted.
    """

    redis_url: str | None = field(default=None, repr=False)
    signing_key: bytes | None = field(default=None, repr=False)
    publishing_key: bytes | None = field(default=None, repr=False)
    publishers: tuple[bytes, ...] = ()
    environment: str = "main"
    payloads: Literal["", "plain"] = ""
    result_ttl: float = 7 * DAY
    failed_arguments: int = FAILED_ARGUMENTS
    home: Path = field(default_factory=lambda: _home({}))
    prefix: str = "qmodal"
    insecure: bool = False
    packing: bool = True
    web_port: int | None = None
    # Of a service that is started by itself: the processes of one machine cannot share a port.
    metrics_port: int | None = None
    # Where gateways are reached from outside, such as https://example.com; None: as they say themselves.
    web_url: str | None = None
    # Of a worker: the GPUs that it offers, and the folder in which all workers of a machine lock them.
    gpus: str = ""
    gpu_locks: Path = field(default_factory=lambda: _gpu_locks({}))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """The settings that these variables spell; ConfigurationError names the one that is wrong."""
        return cls(
            redis_url=_redis_url(environ),
            signing_key=_signing_key(environ),
            publishing_key=_publishing_key(environ),
            publishers=_publishers(environ),
            environment=_name(environ, "QMODAL_ENVIRONMENT", "main"),
            payloads=_payloads(environ),
            result_ttl=_result_ttl(environ),
            failed_arguments=_failed_arguments(environ),
            home=_home(environ),
            prefix=_name(environ, "QMODAL_PREFIX", "qmodal"),
            insecure=_switch(environ, "QMODAL_INSECURE"),
            packing=_switch(environ, "QMODAL_PACKING", default=True),
            web_port=_port(environ, "QMODAL_WEB_PORT"),
            metrics_port=_port(environ, "QMODAL_METRICS_PORT"),
            web_url=_web_url(environ),
            gpus=environ.get("QMODAL_GPUS", "").strip(),
            gpu_locks=_gpu_locks(environ),
        )

    @property
    def code(self) -> Path:
        """The folder of unpacked code, which all workers of a user share."""
        return self.home / "code"

    def to_environ(self) -> dict[str, str]:
        """The variables that spell these settings, the signing key and the server's password among them.

        Without the private publishing key, which nobody else gets: `publishers` says what is accepted.
        Without the port of metrics and the GPUs, which are of one process only. They are for a descriptor; a process's environment gets `credentials.child_environ`.
        """
        environ = {
            "QMODAL_ENVIRONMENT": self.environment,
            "QMODAL_PUBLISHERS": ",".join(each.hex() for each in self.publishers),
            "QMODAL_PAYLOADS": self.payloads,
            "QMODAL_RESULT_TTL": repr(self.result_ttl),
            "QMODAL_FAILED_ARGUMENTS_MIB": str(self.failed_arguments // MIB),
            "QMODAL_HOME": str(self.home),
            "QMODAL_PREFIX": self.prefix,
            "QMODAL_INSECURE": "1" if self.insecure else "",
            "QMODAL_PACKING": "" if self.packing else "off",
            "QMODAL_WEB_PORT": "" if self.web_port is None else str(self.web_port),
            "QMODAL_WEB_URL": self.web_url or "",
        }
        if self.redis_url is not None:
            environ["QMODAL_REDIS_URL"] = self.redis_url
        if self.signing_key is not None:
            environ["QMODAL_SIGNING_KEY"] = self.signing_key.hex()
        return environ


def redacted(url: str) -> str:
    """The URL, or what was meant for one, as it may be shown: passwords are stars, rather too many than too few."""
    before, at, host = url.rpartition("@")
    scheme = _SCHEME.match(before)
    begin = scheme[0] if scheme else ""
    user, colon, _ = before.removeprefix(begin).partition(":")
    shown = f"{begin}{user if colon else ''}{colon}***@{host}" if at else url
    return re.sub(r"([?&](?:ssl_|sentinel_)?password=)[^&#]*", r"\1***", shown)


def parse_key(text: str, variable: str) -> bytes:
    """A signing key from its text: 32 or more hex digits are bytes, anything else is its UTF-8."""
    text = text.strip()
    key = bytes.fromhex(text) if _HEX_KEY.fullmatch(text) else text.encode()
    if len(key) < SHORTEST_KEY:
        raise ConfigurationError(
            f"{variable} holds {len(key)} bytes, and a signing key needs {SHORTEST_KEY} or more; "
            "make one with: python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return key


def parse_web_url(text: str, source: str) -> str:
    """The base URL of gateways from its text; `source` names the setting in ConfigurationError."""
    url = text.strip().rstrip("/").lower()
    if not _is_base(url):
        raise ConfigurationError(
            f"{source} is {redacted(text)!r}; write where `qmodal web` is reached, such as "
            "https://example.com or http://192.0.2.1:8000, without a path"
        )
    return url


def _redis_url(environ: Mapping[str, str]) -> str | None:
    if url := environ.get("QMODAL_REDIS_URL", "").strip():
        return _translated(url, "QMODAL_REDIS_URL")
    name = environ.get("QMODAL_REDIS_URL_FILE", "").strip()
    if name:
        url = _content(name, "QMODAL_REDIS_URL_FILE", "the URL")
        return _translated(url, f"The file of QMODAL_REDIS_URL_FILE ({name})")
    if url := environ.get("REDIS_URL", "").strip():
        return _translated(url, "REDIS_URL")
    return None


def _translated(url: str, variable: str) -> str:
    scheme, separator, rest = url.partition("://")
    known = _SCHEMES.get(scheme.lower())
    if not separator or known is None:
        cluster = "Redis Cluster is not supported yet; " * ("+cluster" in scheme.lower())
        raise ConfigurationError(
            f"{variable} is {redacted(url)!r}; {cluster}write redis://HOST:PORT/DB, rediss://HOST:PORT/DB "
            "(TLS), redis+sentinel://HOST:PORT,HOST:PORT/NAME or unix:///PATH"
        )
    translated = f"{known}://{rest}"
    try:
        parts = urllib.parse.urlsplit(translated)
        has_path = known in ("unix", "redis+sentinel")
        complete = parts.path if has_path else parts.hostname and parts.port != 0
    except ValueError:
        complete = ""
    if not complete:
        raise ConfigurationError(
            f"{variable} is {redacted(url)!r}, which has no usable "
            f"{'path' if known == 'unix' else 'host or port'}; percent-encode special characters "
            "of a password"
        )
    return translated


def _signing_key(environ: Mapping[str, str]) -> bytes | None:
    if text := environ.get("QMODAL_SIGNING_KEY", "").strip():
        return parse_key(text, "QMODAL_SIGNING_KEY")
    name = environ.get("QMODAL_SIGNING_KEY_FILE", "").strip()
    if not name:
        return None
    text = _content(name, "QMODAL_SIGNING_KEY_FILE", "the key")
    return parse_key(text, f"The file of QMODAL_SIGNING_KEY_FILE ({name})")


def _publishing_key(environ: Mapping[str, str]) -> bytes | None:
    source = "QMODAL_PUBLISHING_KEY"
    text = environ.get(source, "").strip()
    if not text and (name := environ.get("QMODAL_PUBLISHING_KEY_FILE", "").strip()):
        source = f"The file of QMODAL_PUBLISHING_KEY_FILE ({name})"
        text = _content(name, "QMODAL_PUBLISHING_KEY_FILE", "the private publishing key")
    return parse_publishing_key(text, source) if text else None


def parse_publishing_key(text: str, source: str) -> bytes:
    """A publishing key, private or public, from its text."""
    text = text.strip()
    if not _PUBLISHING_KEY.fullmatch(text):
        raise ConfigurationError(
            f"{source} is no publishing key, which is 64 hex digits; make a private one with: "
            "openssl rand -hex 32"
        )
    return bytes.fromhex(text)


def _publishers(environ: Mapping[str, str]) -> tuple[bytes, ...]:
    texts = environ.get("QMODAL_PUBLISHERS", "").replace(",", " ").split()
    return tuple(parse_publishing_key(text, "One of QMODAL_PUBLISHERS") for text in texts)


def _content(name: str, variable: str, what: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError, RuntimeError) as error:
        if os.sep not in name:  # it may be the secret itself, in the wrong variable
            raise ConfigurationError(
                f"{variable} names no file that can be read; write the path of a text file that "
                f"holds {what}"
            ) from None
        raise ConfigurationError(
            f"{variable} is {redacted(name)!r}, which cannot be read "
            f"({getattr(error, 'strerror', None) or type(error).__name__}); name a text file that "
            f"holds {what}"
        ) from None


def _name(environ: Mapping[str, str], variable: str, default: str) -> str:
    name = environ.get(variable, "").strip() or default
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{variable} is {name!r}; write 1 to 64 letters, digits, dots, dashes or underscores, "
            "beginning with a letter or digit"
        )
    return name


def _payloads(environ: Mapping[str, str]) -> Literal["", "plain"]:
    match environ.get("QMODAL_PAYLOADS", "").strip():
        case "":
            return ""
        case "plain":
            return "plain"
        case other:
            raise ConfigurationError(
                f"QMODAL_PAYLOADS is {other!r}; write 'plain' to forbid pickles, or unset it"
            )


def _web_url(environ: Mapping[str, str]) -> str | None:
    text = environ.get("QMODAL_WEB_URL", "").strip()
    return parse_web_url(text, "QMODAL_WEB_URL") if text else None


def _is_base(url: str) -> bool:
    """Whether it is scheme, host and perhaps a port of HTTP, and nothing else."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.port != 0 and _HOST.fullmatch(parts.hostname or "") is not None
    except ValueError:
        return False
    known = parts.scheme in {"http", "https"} and "@" not in parts.netloc
    return known and usable and url == f"{parts.scheme}://{parts.netloc}"


def _result_ttl(environ: Mapping[str, str]) -> float:
    text = environ.get("QMODAL_RESULT_TTL", "").strip()
    if not text:
        return 7 * DAY
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not SHORTEST_RESULT_TTL <= seconds < math.inf:
        raise ConfigurationError(
            f"QMODAL_RESULT_TTL is {text!r}; write how many seconds results are kept, "
            f"{SHORTEST_RESULT_TTL:g} or more"
        )
    return seconds


def _failed_arguments(environ: Mapping[str, str]) -> int:
    text = environ.get("QMODAL_FAILED_ARGUMENTS_MIB", "").strip()
    if text and not re.fullmatch(r"[0-9]{1,6}", text):
        raise ConfigurationError(
            f"QMODAL_FAILED_ARGUMENTS_MIB is {text!r}; write how many MiB of large arguments are kept of the "
            "failed inputs of an app, 0 for none"
        )
    return int(text) * MIB if text else FAILED_ARGUMENTS


def _port(environ: Mapping[str, str], variable: str) -> int | None:
    text = environ.get(variable, "").strip()
    if not text:
        return None
    # Digits of other scripts are decimal, too; more than five cannot be a port.
    number = int(text) if re.fullmatch(r"[0-9]{1,5}", text) else 0
    if not 1 <= number <= 65535:
        raise ConfigurationError(f"{variable} is {text!r}; write a port, 1 to 65535, or unset it")
    return number


def _home(environ: Mapping[str, str]) -> Path:
    name = environ.get("QMODAL_HOME", "").strip() or "~/.qmodal"
    try:
        return Path(name).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigurationError(
            f"QMODAL_HOME: {name} has no meaning for this user ({clause(error)}); write an absolute path"
        ) from error


def _gpu_locks(environ: Mapping[str, str]) -> Path:
    """The folder given, else one that all users of the machine may write to, and that a restart empties if there is one."""
    if name := environ.get("QMODAL_GPU_LOCKS", "").strip():
        return Path(name).expanduser().absolute()
    volatile = Path("/run/lock")
    with suppress(OSError):
        if volatile.stat().st_mode & stat.S_IWOTH:
            return volatile / "qmodal-gpus"
    return Path("/tmp/qmodal-gpus")


def _switch(environ: Mapping[str, str], variable: str, *, default: bool = False) -> bool:
    text = environ.get(variable, "").strip().lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ConfigurationError(f"{variable} is {text!r}; write 1 or 0, or unset it")
