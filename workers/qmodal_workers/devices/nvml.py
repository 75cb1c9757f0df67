"""The door to NVIDIA's driver: what it says of each GPU, looked at in a thread, as a look may take seconds."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from qmodal.spec.needs.gpus import Gpu, kind_of

LIBRARY = "libnvidia-ml.so.1"
MEBIBYTE = 2**20
# Xids that a program causes by what it does wrong, such as an access to memory that it has not: the GPU is well.
XIDS_OF_PROGRAMS = frozenset({13, 31, 43, 45, 68, 109})
_MOST_EVENTS = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFigures:
    """One GPU at one moment; memory in MiB, `power` in watts, `use` in per cent, None for what the driver does not say.

    `fault`: why it cannot be used any more; empty if it can. `processes`: pid → MiB.
    """

    gpu: Gpu
    fault: str = ""
    used: int = 0
    total: int = 0
    use: int | None = None
    temperature: int | None = None
    power: float | None = None
    processes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the driver said of all GPUs in a look that began `at` (monotonic seconds).

    `error`: why it said nothing. `xids`: uuid → a number that the driver gave for a fault since the last look.
    """

    at: float
    gpus: Mapping[str, GpuFigures] = field(default_factory=dict)
    xids: Mapping[str, int] = field(default_factory=dict)
    error: str = ""


class _FaultError(Exception):
    """Raised when the driver says that a GPU is lost."""


class Nvml:
    """The driver's library, open; its calls may block while a GPU falls from its bus."""

    def __init__(self, library: Any) -> None:
        self._lib = library
        self._events: Any = None
        # MIG devices of a GPU, by its uuid: faults are told of the whole GPU.
        self._parts: dict[str, list[str]] = {}
        self._listen()

    @classmethod
    def open(cls) -> tuple[Nvml | None, str]:
        """The library, or why there is none, for people."""
        try:
            # Before pynvml is imported, which takes 50 ms and some MiB of every worker without GPUs.
            ctypes.CDLL(LIBRARY)
        except OSError:
            return None, f"there is no NVIDIA driver here: {LIBRARY} cannot be loaded"
        try:
            import pynvml
        except ImportError:
            return None, "nvidia-ml-py is not installed: pip install nvidia-ml-py"
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return None, f"the NVIDIA driver does not answer: {error}"
        return cls(pynvml), ""

    def reopen(self) -> None:
        """Begin anew with the driver, so that it lists a GPU that has come back."""
        with suppress(self._lib.NVMLError):
            self._lib.nvmlShutdown()
        with suppress(self._lib.NVMLError):
            self._lib.nvmlInit()
            self._listen()

    def look(self) -> Look:
        """Look at all GPUs; MIG devices count as GPUs, in place of the one that they are parts of."""
        at = time.monotonic()
        try:
            count = self._lib.nvmlDeviceGetCount()
        except self._lib.NVMLError as error:
            return Look(at=at, error=f"the NVIDIA driver does not answer: {error}")
        found: dict[str, GpuFigures] = {}
        self._parts = {}
        for index in range(count):
            # One whose handle cannot be had is left out, and so noticed as one that is lost.
            with suppress(self._lib.NVMLError):
                handle = self._lib.nvmlDeviceGetHandleByIndex(index)
                found |= {each.gpu.uuid: each for each in self._devices(handle)}
        return Look(at=at, gpus=found, xids=self._xids())

    def _devices(self, handle: Any) -> Iterator[GpuFigures]:
        parts = list(self._mig(handle))
        if not parts:
            yield self._figures(handle)
            return
        whole = self._figures(handle)
        self._parts[whole.gpu.uuid] = []
        for part in parts:
            figures = self._figures(part)
            self._parts[whole.gpu.uuid].append(figures.gpu.uuid)
            yield replace(
                figures,
                fault=figures.fault or whole.fault,
                temperature=whole.temperature,
                power=None,
                use=None,
            )

    def _mig(self, handle: Any) -> Iterator[Any]:
        """The MIG devices of a GPU."""
        lib = self._lib
        with suppress(lib.NVMLError):
            if not lib.nvmlDeviceGetMigMode(handle)[0]:
                return
            for index in range(lib.nvmlDeviceGetMaxMigDeviceCount(handle)):
                with suppress(lib.NVMLError):
                    yield lib.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)

    def _figures(self, handle: Any) -> GpuFigures:
        lib = self._lib
        uuid, name = _text(lib.nvmlDeviceGetUUID(handle)), _text(lib.nvmlDeviceGetName(handle))
        try:
            used, total = self._memory(handle)
            use = self._ask(lambda: lib.nvmlDeviceGetUtilizationRates(handle).gpu)
            temperature = self._ask(
                lambda: lib.nvmlDeviceGetTemperature(handle, lib.NVML_TEMPERATURE_GPU)
            )
            power = self._ask(lambda: lib.nvmlDeviceGetPowerUsage(handle) / 1000)
            listed = self._ask(lambda: lib.nvmlDeviceGetComputeRunningProcesses(handle)) or []
        except _FaultError as error:
            return GpuFigures(gpu=Gpu(uuid=uuid, kind=_kind(name, 0)), fault=str(error))
        return GpuFigures(
            gpu=Gpu(uuid=uuid, kind=_kind(name, total), memory=total),
            used=used,
            total=total,
            use=use,
            temperature=temperature,
            power=power,
            processes={each.pid: (each.usedGpuMemory or 0) // MEBIBYTE for each in listed},
        )

    def _memory(self, handle: Any) -> tuple[int, int]:
        """Used and total MiB. The second form of the question leaves out what the driver keeps for itself."""
        lib = self._lib
        said = self._ask(lambda: lib.nvmlDeviceGetMemoryInfo(handle, lib.nvmlMemory_v2))
        said = said or self._ask(lambda: lib.nvmlDeviceGetMemoryInfo(handle))
        return (said.used // MEBIBYTE, said.total // MEBIBYTE) if said else (0, 0)

    def _ask(self, question: Callable[[], T]) -> T | None:
        """The answer; None for what this GPU or driver does not say. Raises _FaultError for a lost GPU."""
        lib = self._lib
        try:
            return question()
        except lib.NVMLError as error:
            if error.value in (
                lib.NVML_ERROR_GPU_IS_LOST,
                lib.NVML_ERROR_RESET_REQUIRED,
                lib.NVML_ERROR_GPU_NOT_FOUND,
            ):
                raise _FaultError(str(error)) from error
            return None

    def _listen(self) -> None:
        """Have the driver tell of Xids from now on, where it can."""
        lib = self._lib
        self._events = None
        with suppress(lib.NVMLError):
            events = lib.nvmlEventSetCreate()
            for index in range(lib.nvmlDeviceGetCount()):
                with suppress(lib.NVMLError):
                    handle = lib.nvmlDeviceGetHandleByIndex(index)
                    lib.nvmlDeviceRegisterEvents(handle, lib.nvmlEventTypeXidCriticalError, events)
            self._events = events

    def _xids(self) -> dict[str, int]:
        """The faults that were told since the last look, without those that programs cause."""
        found: dict[str, int] = {}
        with suppress(self._lib.NVMLError):  # one of them says that there are no more
            for _ in range(_MOST_EVENTS if self._events is not None else 0):
                said = self._lib.nvmlEventSetWait_v2(self._events, 0)
                uuid = _text(self._lib.nvmlDeviceGetUUID(said.device))
                if said.eventData not in XIDS_OF_PROGRAMS:
                    found |= dict.fromkeys(self._parts.get(uuid, [uuid]), int(said.eventData))
        return found


def _text(said: str | bytes) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said


def _kind(name: str, memory: int) -> str:
    """The kind of a GPU. A MIG device is none of the kind that it is a part of, as it has less memory."""
    part = re.search(r"\bMIG ([0-9a-zA-Z.+-]+)", name)
    return f"MIG-{part[1].upper()}" if part else kind_of(name, memory)
