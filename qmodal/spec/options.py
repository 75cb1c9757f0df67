"""Everything a decorator accepts about how a function runs, checked once and frozen."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from qmodal.exception import DeprecationError, InvalidError
from qmodal.spec.keywords.checks import CHECKS, EXPERIMENTAL, RECORDED, check_amount, check_whole
from qmodal.spec.needs.needs import Needs
from qmodal.spec.retries import Retries
from qmodal.spec.variables import allowed, published
from qmodal.wire.plain import NotPlain, pack
from qmodal.wire.signing import Signer

_RENAMED = {
    "keep_warm": "`min_containers`",
    "concurrency_limit": "`max_containers`",
    "_experimental_buffer_containers": "`buffer_containers`",
    "container_idle_timeout": "`scaledown_window`",
    "allow_concurrent_inputs": "the decorator `@modal.concurrent(max_inputs=...)`",
}
# What `with_options` may change; the rest is fixed when the function is defined.
VARIANT_OPTIONS = frozenset(
    [
        "cpu",
        "memory",
        "gpu",
        "env",
        "secrets",
        "volumes",
        "retries",
        "max_containers",
        "buffer_containers",
        "scaledown_window",
        "timeout",
        "region",
        "cloud",
        "routing_region",
    ],
)
_TUPLES = frozenset({"secrets", "gpu", "cpu", "memory", "region"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """How the containers of a function are made, scaled and bounded; times are in seconds."""

    image: Any = None
    schedule: Any = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Any, ...] = ()
    # The variables of its image, as they are when the app is published.
    image_env: Mapping[str, str] = field(default_factory=dict)
    gpu: str | tuple[str, ...] | None = None
    volumes: Mapping[str, Any] = field(default_factory=dict)
    cpu: float | tuple[float, float] | None = None
    memory: int | tuple[int, int] | None = None
    ephemeral_disk: int | None = None
    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    scaledown_window: int = 60
    # How much longer inputs may wait so that fewer containers start: a share of the time that a start takes.
    scaleup_softness: float = 0.25
    # For how long more containers have to be needed, in seconds, before a pool grows.
    scaleup_window: int = 0
    retries: Retries | None = None
    timeout: int = 300
    startup_timeout: int | None = None
    cloud: str | None = None
    region: str | tuple[str, ...] | None = None
    single_use_containers: bool = False
    enable_memory_snapshot: bool = False
    serialized: bool = False
    max_inputs: int = 1
    target_inputs: int = 1
    max_batch_size: int | None = None
    wait_ms: int = 0
    fork: bool = True
    delivery: str = "at_least_once"
    # What becomes of waiting inputs when the containers keep failing to start.
    on_crash_loop: str = "fail"
    # Its share of the containers when there is not room for all, beside other functions of its app.
    priority: int = 1
    recorded: Mapping[str, Any] = field(default_factory=dict)

    def with_concurrency(
        self, max_inputs: int, target_inputs: int | None = None
    ) -> FunctionOptions:
        """The same with several inputs at once in a container; raises InvalidError."""
        target = max_inputs if target_inputs is None else target_inputs
        check_concurrency(max_inputs, target)
        return replace(self, max_inputs=max_inputs, target_inputs=target)

    def with_batching(self, max_batch_size: int, wait_ms: int) -> FunctionOptions:
        """The same with inputs collected into batches; raises InvalidError."""
        check_batching(max_batch_size, wait_ms)
        return replace(self, max_batch_size=max_batch_size, wait_ms=wait_ms)

    @property
    def is_once(self) -> bool:
        """Whether an input that was started never runs again because its container was lost."""
        return self.delivery == "at_most_once"

    @property
    def slots(self) -> int:
        """How many inputs the autoscaler plans for a container: as many batches as it aims at."""
        return self.target_inputs * (self.max_batch_size or 1)

    @property
    def capacity(self) -> int:
        """How many inputs a container may run, more than the autoscaler plans for if it has to be."""
        return self.max_inputs * (self.max_batch_size or 1)

    @property
    def is_concurrent(self) -> bool:
        """Whether a container runs more than one input at a time, side by side or as a batch."""
        return self.max_inputs > 1 or self.max_batch_size is not None

    @property
    def needs(self) -> Needs:
        """What one container needs of its box."""
        return Needs.of(cpu=self.cpu, memory=self.memory, gpu=self.gpu, region=self.region)

    @property
    def environ(self) -> dict[str, str]:
        """The variables of `env` that a program may set."""
        return allowed(self.env)

    def published(self, signer: Signer, app: str) -> FunctionOptions:
        """The same as an app of that name publishes it: with the variables of its image, and its secrets sealed."""
        variables = dict(getattr(self.image, "environ", None) or {})
        secrets = tuple(published(secret, signer, app) for secret in self.secrets)
        return replace(self, image_env=variables, secrets=secrets)

    def with_recorded(self, **recorded: Any) -> FunctionOptions:
        """The same with notes that have no effect yet."""
        return replace(self, recorded={**self.recorded, **recorded})

    def check_kind(
        self, *, is_generator: bool = False, is_web: bool = False, methods: int = 1
    ) -> None:
        """Raise InvalidError if a function of this kind, or a class of so many methods, cannot have these options."""
        if self.retries is not None and is_generator:
            raise InvalidError("Generator Functions do not support retries.")
        if self.retries is not None and is_web:
            raise InvalidError("Web Functions do not support retries; the browser may try again.")
        if is_web and (is_generator or self.schedule is not None):
            raise InvalidError(
                "A web function answers one HTTP request with one response: it can be no generator (return a "
                "StreamingResponse), and have no schedule."
            )
        if is_web and self.max_batch_size is not None:
            raise InvalidError(
                "A web function cannot be batched: each request gets a response of its own."
            )
        if is_generator and self.schedule is not None:
            raise InvalidError("A generator cannot have a schedule: nobody would read its items.")
        if self.max_batch_size is not None and is_generator:
            raise InvalidError("A generator cannot be batched; return a list.")
        if self.max_batch_size is not None and methods > 1:
            raise InvalidError(
                "A batched class can have no other method for calls: all of them would get lists."
            )

    def to_plain(self) -> dict[str, Any]:
        """What differs from the defaults, as values that msgpack takes.

        Objects give what their own `to_plain()` returns, else their repr.
        """
        default = FunctionOptions()
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: _plain(value) for name, value in values.items() if value != getattr(default, name)
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> FunctionOptions:
        """The options that `to_plain` wrote; objects stay as plain as they are. Ignores new names."""
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        for name in _TUPLES & values.keys():
            values[name] = _thawed(values[name])
        retries = values.get("retries")
        if retries is not None:
            values["retries"] = Retries(**retries)
        return cls(**values)


# Overrides are not signed: they say nothing but limits of a function that is, and these are bounded.
MOST_CONTAINERS = 100_000
_AMOUNTS = frozenset({"min_containers", "max_containers", "buffer_containers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerOverride:
    """What `autoscaler.update` changes for a running pool; None leaves the function's own setting.

    `max_containers` 0 takes the function's own limit away.
    """

    min_containers: int | None = None
    max_containers: int | None = None
    buffer_containers: int | None = None
    scaledown_window: int | None = None
    scaleup_softness: float | None = None
    scaleup_window: int | None = None

    def __post_init__(self) -> None:
        plain = self.to_plain()
        _checked({name: value for name, value in plain.items() if value})
        for name in _AMOUNTS & plain.keys():
            check_whole(name, plain[name], 0, MOST_CONTAINERS)
        if self.min_containers is not None:
            check_amount(self.min_containers, self.max_containers or None)

    def apply(self, options: FunctionOptions) -> FunctionOptions:
        """The options with this override; raises InvalidError if minimum and maximum now cross."""
        values: dict[str, Any] = self.to_plain()
        if self.max_containers == 0:
            values["max_containers"] = None
        changed = replace(options, **values)
        check_amount(changed.min_containers, changed.max_containers)
        return changed

    def to_plain(self) -> dict[str, float]:
        """The settings that are overridden."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> AutoscalerOverride:
        """The override that `to_plain` wrote."""
        return cls(**{each.name: plain.get(each.name) for each in fields(cls)})


def validated_options(**given: Any) -> FunctionOptions:
    """The options of a decorator's keywords.

    Raises InvalidError for a bad value, TypeError for an unknown keyword and DeprecationError for
    one that has been renamed. `max_inputs=1` is the old spelling of `single_use_containers=True`.
    """
    for old, new in _RENAMED.items():
        if given.get(old) is not None:
            raise DeprecationError(f"`{old}` has been renamed: use {new} instead.")
        given.pop(old, None)
    if given.get("max_inputs") is not None:
        _check_single_use(given["max_inputs"])
        given["single_use_containers"] = True
    given.pop("max_inputs", None)
    changes, recorded = _checked(given)
    options = FunctionOptions(**changes, recorded=recorded)
    check_amount(options.min_containers, options.max_containers)
    return options


def plain_overrides(**given: Any) -> dict[str, Any]:
    """The options of a `with_options` alone, to be laid over a function's `to_plain()`.

    A value equal to the default is kept, because the function's own may differ from it.
    """
    changes, recorded = _checked_overrides(given)
    if recorded:
        changes["recorded"] = recorded
    return {name: _plain(changes[name]) for name in sorted(changes)}


def check_concurrency(max_inputs: object, target_inputs: object) -> None:
    """Raise InvalidError unless 1 <= target_inputs <= max_inputs <= 1000."""
    ceiling = check_whole("max_inputs", max_inputs, 1, 1000)
    target = check_whole("target_inputs", target_inputs, 1, None)
    if target > ceiling:
        raise InvalidError("`target_inputs` parameter cannot be greater than `max_inputs`.")


def check_batching(max_batch_size: object, wait_ms: object) -> None:
    """Raise InvalidError unless the size is 1 to 1000 and the wait at most 600 000 ms."""
    check_whole("max_batch_size", max_batch_size, 1, 1000)
    check_whole("wait_ms", wait_ms, 0, 600_000)


def _check_single_use(max_inputs: object) -> None:
    if max_inputs != 1:
        raise InvalidError(
            "`max_inputs` may only be 1; for several inputs use `@modal.concurrent`."
        )
    warnings.warn("Use `single_use_containers=True` for `max_inputs=1`.", DeprecationError, 4)


def _checked_overrides(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    for name in given:
        if name not in VARIANT_OPTIONS:
            raise TypeError(f"with_options() got an unexpected keyword argument '{name}'")
    # Modal's rule: what is empty sets nothing, so an option cannot be unset; `retries=0` is a number.
    set_ones = {
        name: value
        for name, value in given.items()
        if value or (name == "retries" and value is not None)
    }
    return _checked(set_ones)


def _checked(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of known options in their frozen form, and those that are only recorded."""
    changes: dict[str, Any] = {}
    recorded: dict[str, Any] = {}
    for name, value in given.items():
        if name in CHECKS:
            checked = CHECKS[name](name, value)
            if value is not None:
                changes[name] = checked
        elif name.startswith(EXPERIMENTAL):
            continue
        elif name not in RECORDED:
            raise TypeError(f"got an unexpected keyword argument '{name}'")
        elif value != RECORDED[name]:
            recorded[name] = value
    return changes, recorded


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Retries):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if hasattr(value, "to_plain"):
        return value.to_plain()
    try:
        pack(value)
    except NotPlain:
        return repr(value)
    return value


def _thawed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
