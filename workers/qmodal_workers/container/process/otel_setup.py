"""Sets up the SDK of OpenTelemetry in a container whose environment asks for that, if user code has not."""

from __future__ import annotations

import os

from qmodal.telemetry.tracing import is_on
from qmodal_workers.container.process.own_output import show

# What `otlp` may be called, by the package that brings it.
_OTLP = ("otlp", "otlp_proto_http", "otlp_proto_grpc")


def begin() -> None:
    """By `OTEL_TRACES_EXPORTER`; the SDK reads the other variables by itself.

    Nothing happens where the SDK is not installed: the variable may be meant for other programs. What cannot be set up
    is said, and the container goes on.
    """
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "none")
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if wanted in ("", "none") or is_disabled or is_on():
        return
    from importlib.util import find_spec

    try:
        if find_spec("opentelemetry.sdk.trace") is not None:
            _begin([name.strip() for name in wanted.split(",")])
    except ModuleNotFoundError:  # of a parent
        return
    except Exception as error:  # an exporter or a sampler that does not like its settings
        show(f"no traces of this container: {type(error).__name__}: {error}\n")


def _begin(names: list[str]) -> None:
    from importlib.metadata import entry_points  # half a mebibyte

    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    for name in names:
        kinds = _OTLP if name == "otlp" else (name,)
        found = [*entry_points(group="opentelemetry_traces_exporter")]
        exporters = [each for kind in kinds for each in found if each.name == kind]
        if exporters:
            provider.add_span_processor(BatchSpanProcessor(exporters[0].load()()))
        else:
            show(
                f"OTEL_TRACES_EXPORTER is {name!r}, and no such exporter is installed in this container; "
                "install its package, such as opentelemetry-exporter-otlp-proto-http\n"
            )
    trace.set_tracer_provider(provider)
