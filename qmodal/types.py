"""The records that verbs return."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from qmodal.call_graph import InputInfo as InputInfo, InputStatus as InputStatus
from qmodal.client import deprecation as legacy


@dataclass(frozen=True, slots=True)
class FunctionCurrentStats:
    """One pool at this moment.

    `backlog` inputs wait, `num_running_inputs` run, `num_total_runners` containers exist (starting
    ones included) and can take `input_headroom` more inputs at once.
    """

    backlog: int
    num_total_runners: int
    num_running_inputs: int
    input_headroom: int


@dataclass(frozen=True, slots=True)
class FunctionAutoscalerSettings:
    """The settings in force for a pool; `max_containers` None means no limit, windows in seconds.

    `scaleup_softness` and `scaleup_window` are qmodal's own. A softness of 0 starts as many containers as could help, 1 the fewest.
    """

    min_containers: int
    max_containers: int | None
    buffer_containers: int
    scaledown_window: int
    scaleup_softness: float = 0.25
    scaleup_window: int = 0


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line that a container printed, without its end, at a time in UTC.

    `object_id` is its pool's (`fu-...`), or the app's for what was printed while modules were
    imported; `context_ids` has the container and, as far as they are known, the call and the input.
    """

    message: str
    timestamp: datetime
    source: Literal["stdout", "stderr", "system"]
    object_id: str
    context_ids: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretInfo:
    """A secret that is stored by name; `last_used`: when a container was last started with it. Times are in UTC."""

    name: str | None
    environment_name: str
    created_at: datetime
    created_by: str | None = None  # not recorded
    last_used: datetime | None = None


@dataclass(frozen=True, slots=True)
class DictInfo:
    """A Dict: `name` is None for an ephemeral one; who made it is not kept."""

    name: str | None
    created_at: datetime
    created_by: str | None


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A Queue: `name` is None for an ephemeral one; who made it is not kept."""

    name: str | None
    created_at: datetime
    created_by: str | None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Images are recorded and not built."""

    image_name: str | None = None
    image_id: str | None = None


@dataclass(frozen=True, slots=True)
class BatchingInfo:
    """How inputs are collected; milliseconds."""

    max_batch_size: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class WebInfo:
    """Where a web function answers (None if no gateway runs), the method it is for, and whether anybody may ask."""

    web_url: str | None
    method: str | None
    unauthenticated: bool


@dataclass(frozen=True, slots=True)
class ConcurrencyInfo:
    """How many inputs a container takes at once."""

    max_inputs: int | None
    target_inputs: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionInfo:
    """How a function is configured; times in seconds, sizes in MiB."""

    cpu: float | tuple[float, float] | None = None
    memory_mib: int | tuple[int, int] | None = None
    gpus: list[tuple[str, int]] = field(default_factory=list)
    ephemeral_disk_mib: int | None = None
    image_info: ImageInfo = ImageInfo()
    startup_timeout: int | None = None
    timeout: int = 300
    max_retries: int | None = None
    nonpreemptible: bool = False
    regions: list[str] | None = None
    routing_region: str | None = None
    cloud: str | None = None
    cluster_info: None = None
    batching_info: BatchingInfo | None = None
    concurrency_info: ConcurrencyInfo | None = None
    schedule: str | None = None
    restrict_modal_access: bool = False
    block_network: bool = False
    single_use_containers: bool = False
    volumes: dict[str, Any] = field(default_factory=dict)
    cloud_bucket_mounts: dict[str, Any] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    web_info: WebInfo | None = None
    method_names: list[str] | None = None
    method_details: dict[str, WebInfo] | None = None


if TYPE_CHECKING:
    # The name that versions of Modal before 1.6 gave it.
    FunctionStats = FunctionCurrentStats


def __getattr__(name: str) -> Any:
    if name == "FunctionStats":
        legacy.warn("FunctionStats", "use FunctionCurrentStats")
        return FunctionCurrentStats
    raise legacy.refusal(__name__, name, {})
