"""Which GPUs a worker offers: all that the driver lists, some of them, declared ones, or none."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from qmodal.exception import ConfigurationError, InvalidError
from qmodal.spec.needs.gpus import Gpu, expand
from qmodal_workers.devices.nvml import Look, Nvml

_UUID = re.compile(r"(GPU|MIG)-[0-9A-Za-z][0-9A-Za-z./_-]*")
_MOST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuOption:
    """What `--gpus` says. Empty: offer all that are found.

    `declared`: GPUs that nobody looks for; `first`: only so many of those found; `uuids`: only these of them.
    """

    declared: tuple[Gpu, ...] = ()
    first: int | None = None
    uuids: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, host: str = "") -> GpuOption:
        """The meaning of "", "none", "2", "4xA100" or "GPU-…,GPU-…"; raises ConfigurationError."""
        text = text.strip()
        if text in ("", "all"):
            return cls()
        if text == "none":
            return cls(first=0)
        if re.fullmatch(r"[0-9]{1,4}", text):
            return cls(first=int(text))
        parts = [part.strip() for part in text.split(",")]
        if all(map(_UUID.fullmatch, parts)):
            return cls(uuids=tuple(dict.fromkeys(parts)))
        try:
            declared = expand(text, host or socket.gethostname())
        except InvalidError as error:
            raise ConfigurationError(
                f'--gpus (QMODAL_GPUS) is {text!r}; write "2" for the first two that are found, "none", UUIDs as '
                '`nvidia-smi -L` prints them, or declare them: "4xA100" or "2xA100,1xL4"'
            ) from error
        if len(declared) > _MOST:
            raise ConfigurationError(f"--gpus (QMODAL_GPUS) declares more than {_MOST} GPUs")
        return cls(declared=declared)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedGpus:
    """The GPUs that a worker hands out. `nvml`: what watches them, None for declared ones; `why_none` is for people."""

    gpus: tuple[Gpu, ...] = ()
    nvml: Nvml | None = None
    look: Look | None = None  # the first one
    why_none: str = ""

    @classmethod
    def find(cls, option: GpuOption) -> OfferedGpus:
        """The GPUs to offer here; raises ConfigurationError if those that were asked for are not there."""
        if option.declared:
            return cls(gpus=option.declared)
        if option.first == 0:
            return cls(why_none="it was told to offer none")
        nvml, why_not = Nvml.open()
        look = None if nvml is None else nvml.look()
        found = () if look is None else tuple(each.gpu for each in look.gpus.values())
        if look is not None and not found:
            why_not = look.error or "the driver lists no GPU"
        if not option.uuids:
            found = _visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))
            why_not = why_not or ("" if found else "CUDA_VISIBLE_DEVICES hides all that there are")
        offered = _among(found, option, why_not)
        return cls(gpus=offered, nvml=nvml if offered else None, look=look, why_none=why_not)


def _among(found: Sequence[Gpu], option: GpuOption, why_not: str) -> tuple[Gpu, ...]:
    listed = ", ".join(gpu.uuid for gpu in found) or f"none ({why_not})"
    if option.first is not None and option.first > len(found):
        raise ConfigurationError(
            f"--gpus asks for {option.first} GPUs, and this machine has {len(found)}: {listed}"
        )
    known = {gpu.uuid: gpu for gpu in found}
    missing = [uuid for uuid in option.uuids if uuid not in known]
    if missing:
        raise ConfigurationError(
            f"--gpus names {', '.join(missing)}, and this machine has {listed}"
        )
    if option.uuids:
        return tuple(known[uuid] for uuid in option.uuids)
    return tuple(found)[: option.first]


def _visible(found: Sequence[Gpu], variable: str | None) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves to this process, as Slurm sets it: indexes, or beginnings of UUIDs."""
    if variable is None:
        return tuple(found)
    kept: list[Gpu] = []
    for word in filter(None, map(str.strip, variable.split(","))):
        index = int(word) if word.isdecimal() else -1
        listed = found[index : index + 1] if index >= 0 else found
        named = next((gpu for gpu in listed if index >= 0 or gpu.uuid.startswith(word)), None)
        if named is None:
            break  # as CUDA does: what stands behind it is not seen
        kept.append(named)
    return tuple(dict.fromkeys(kept))
