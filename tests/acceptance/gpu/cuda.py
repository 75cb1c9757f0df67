"""A CUDA program without a CUDA toolkit: the driver compiles a kernel, runs it, and says which GPU it was."""

from __future__ import annotations

import ctypes
import json
import os
import uuid
from typing import Any

import qmodal

app = qmodal.App("gpu-acceptance")
NUMBERS = 1 << 26  # four bytes each: 256 MiB
KERNEL = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry add_one(.param .u64 numbers, .param .u32 count)
{
    .reg .pred %p<2>;
    .reg .b32 %r<7>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [numbers];
    ld.param.u32 %r1, [count];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r5, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.u32 %r6, [%rd4];
    add.u32 %r6, %r6, 1;
    st.global.u32 [%rd4], %r6;
DONE:
    ret;
}
\0"""


class Cuda:
    """The driver's interface, of which each call is checked."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def __call__(self, name: str, *args: Any) -> None:
        code = getattr(self._library, name)(*args)
        if code:
            raise RuntimeError(f"{name} says {code}")

    def devices(self) -> int:
        """How many GPUs this process sees; no driver that finds none says 0."""
        if self._library.cuInit(0):
            return 0
        count = ctypes.c_int()
        self("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def uuid_of(self, device: int) -> str:
        """The UUID, as `nvidia-smi -L` writes it behind its prefix."""
        raw = (ctypes.c_ubyte * 16)()
        self("cuDeviceGetUuid_v2", ctypes.byref(raw), ctypes.c_int(device))
        return str(uuid.UUID(bytes=bytes(raw)))


@app.cls(gpu="any", scaledown_window=2)
class Adder:
    """Holds numbers on the GPU, and adds one to each of them."""

    @qmodal.enter()
    def load(self) -> None:
        self.cuda = cuda = Cuda()
        self.devices = cuda.devices()
        context, module = ctypes.c_void_p(), ctypes.c_void_p()
        self.numbers, self.function = ctypes.c_uint64(), ctypes.c_void_p()
        cuda("cuDevicePrimaryCtxRetain", ctypes.byref(context), ctypes.c_int(0))
        cuda("cuCtxSetCurrent", context)
        cuda("cuModuleLoadData", ctypes.byref(module), KERNEL)
        cuda("cuModuleGetFunction", ctypes.byref(self.function), module, b"add_one")
        cuda("cuMemAlloc_v2", ctypes.byref(self.numbers), ctypes.c_size_t(4 * NUMBERS))
        cuda("cuMemsetD32_v2", self.numbers, ctypes.c_uint(41), ctypes.c_size_t(NUMBERS))

    @qmodal.method()
    def add(self) -> dict[str, Any]:
        """The first and last number after one more addition, and what was seen."""
        count = ctypes.c_uint32(NUMBERS)
        places = [ctypes.addressof(self.numbers), ctypes.addressof(count)]
        one = ctypes.c_uint(1)
        self.cuda(
            "cuLaunchKernel",
            self.function,
            *(ctypes.c_uint(NUMBERS // 256), one, one),
            *(ctypes.c_uint(256), one, one),
            *(ctypes.c_uint(0), None, (ctypes.c_void_p * 2)(*places), None),
        )
        self.cuda("cuCtxSynchronize")
        ends = (ctypes.c_uint32 * 2)()
        for index, number in enumerate((0, NUMBERS - 1)):
            self.cuda(
                "cuMemcpyDtoH_v2",
                ctypes.byref(ends, 4 * index),
                ctypes.c_uint64(self.numbers.value + 4 * number),
                ctypes.c_size_t(4),
            )
        return {
            "numbers": list(ends),
            "devices": self.devices,
            "uuid": self.cuda.uuid_of(0),
            "leased": os.environ["CUDA_VISIBLE_DEVICES"],
        }


@app.function()
def without() -> int:
    """How many GPUs a container sees that has leased none."""
    return Cuda().devices()


@app.local_entrypoint()
def main() -> None:
    first, second = Adder().add.remote(), Adder().add.remote()
    print(json.dumps({"first": first, "second": second, "without": without.remote()}))
