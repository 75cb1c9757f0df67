"""The keywords of `@app.function(...)` and `@app.cls(...)`, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from qmodal.spec.retries import Retries


class OptionKeywords(TypedDict, total=False):
    """How containers are made, scaled and bounded; see `qmodal.spec.options.FunctionOptions`."""

    image: Any
    env: Mapping[str, str | None] | None
    secrets: Sequence[Any] | None
    gpu: str | Sequence[str] | None
    volumes: Mapping[Any, Any]
    network_file_systems: Mapping[Any, Any]
    cpu: float | tuple[float, float] | None
    memory: int | tuple[int, int] | None
    ephemeral_disk: int | None
    min_containers: int | None
    max_containers: int | None
    buffer_containers: int | None
    scaledown_window: int | None
    scaleup_softness: float | None
    scaleup_window: int | None
    proxy: Any
    retries: int | Retries | None
    timeout: int
    startup_timeout: int | None
    cloud: str | None
    region: str | Sequence[str] | None
    routing_region: str | None
    nonpreemptible: bool
    enable_memory_snapshot: bool
    block_network: bool
    restrict_modal_access: bool
    single_use_containers: bool
    i6pn: bool | None
    include_source: bool | None
    experimental_options: Mapping[str, Any] | None
    max_inputs: int | None
    fork: bool
    priority: int
    delivery: str
    on_crash_loop: str
    keep_warm: int | None
    concurrency_limit: int | None
    container_idle_timeout: int | None
    allow_concurrent_inputs: int | None


class VariantOptions(TypedDict, total=False):
    """What `with_options` can change; see `qmodal.spec.options.VARIANT_OPTIONS`."""

    cpu: float | tuple[float, float] | None
    memory: int | tuple[int, int] | None
    gpu: str | Sequence[str] | None
    env: Mapping[str, str | None] | None
    secrets: Sequence[Any] | None
    volumes: Mapping[Any, Any]
    retries: int | Retries | None
    max_containers: int | None
    buffer_containers: int | None
    scaledown_window: int | None
    timeout: int | None
    region: str | Sequence[str] | None
    cloud: str | None
    routing_region: str | None
