"""FunctionInfo: how a function is configured, as published and with the changes of its variant."""

from __future__ import annotations

from qmodal.spec.documents import FunctionSpec
from qmodal.spec.options import FunctionOptions
from qmodal.spec.variant import Variant
from qmodal.types import BatchingInfo, ConcurrencyInfo, FunctionInfo, WebInfo

_RECORDED = ("nonpreemptible", "routing_region", "restrict_modal_access", "block_network")


def describe(spec: FunctionSpec, variant: Variant, web: dict[str, WebInfo]) -> FunctionInfo:
    """The configuration of a published function or class, whose web functions are `web`."""
    options = variant.over(spec.options)
    recorded = {name: options.recorded[name] for name in _RECORDED if name in options.recorded}
    return FunctionInfo(
        cpu=options.cpu,
        memory_mib=options.memory,
        gpus=_gpus(options.gpu),
        ephemeral_disk_mib=options.ephemeral_disk,
        startup_timeout=options.startup_timeout,
        timeout=options.timeout,
        max_retries=None if options.retries is None else options.retries.max_retries,
        regions=[options.region] if isinstance(options.region, str) else _listed(options.region),
        cloud=options.cloud,
        batching_info=_batching(options),
        concurrency_info=_concurrency(options),
        schedule=None if options.schedule is None else str(options.schedule),
        single_use_containers=options.single_use_containers,
        volumes=dict(options.volumes),
        secrets=[str(each.get("name") or each["kind"]) for each in options.secrets],
        web_info=web.get(""),
        method_names=sorted(spec.methods) if spec.is_class else None,
        method_details=web if spec.is_class and web else None,
        **recorded,
    )


def _gpus(wanted: str | tuple[str, ...] | None) -> list[tuple[str, int]]:
    kinds = (wanted,) if isinstance(wanted, str) else wanted or ()
    split = [kind.partition(":") for kind in kinds]
    return [(name, int(count or 1)) for name, _, count in split]


def _listed(regions: tuple[str, ...] | None) -> list[str] | None:
    return None if regions is None else list(regions)


def _concurrency(options: FunctionOptions) -> ConcurrencyInfo | None:
    if options.max_inputs == 1:
        return None
    return ConcurrencyInfo(options.max_inputs, options.target_inputs)


def _batching(options: FunctionOptions) -> BatchingInfo | None:
    if options.max_batch_size is None:
        return None
    return BatchingInfo(options.max_batch_size, options.wait_ms)
