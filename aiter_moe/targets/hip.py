# SPDX-License-Identifier: MIT
"""libamdhip64 by ctypes: where it is found, and the calls a launcher needs, with typed errors.

The same calls reach the emulator, whose library has HIP's names. What is launched, and where its
memory comes from, is `aiter_moe.targets.hip_launcher`.
"""

from __future__ import annotations

import ctypes
import enum
import os
import struct
from collections.abc import Callable, Iterator
from ctypes import c_char, c_char_p, c_float, c_int, c_size_t, c_uint, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from aiter_moe import env
from aiter_moe.errors import LaunchError

LIBRARY_NAMES = ("libamdhip64.so", "libamdhip64.so.7", "libamdhip64.so.6")

# Keys of the `extra` argument of hipModuleLaunchKernel.
BUFFER_POINTER, BUFFER_SIZE, BUFFER_END = 1, 2, 3

# hipDeviceProp_tR0600, the layout since ROCm 6: fields read here, and room for later versions.
_PROPERTY_BYTES = 4096
_NAME, _COMPUTE_UNITS, _ARCH_NAME, _TEXT_BYTES = 0, 388, 1160, 256

# ctypes has no public names for its simple types.
_CType: TypeAlias = Any

_CALLS: dict[str, tuple[_CType, ...]] = {
    "hipInit": (c_uint,),
    "hipGetDeviceCount": (c_void_p,),
    "hipGetDevice": (c_void_p,),
    "hipSetDevice": (c_int,),
    "hipGetDevicePropertiesR0600": (c_void_p, c_int),
    "hipDeviceSynchronize": (),
    "hipModuleLoadData": (c_void_p, c_char_p),
    "hipModuleUnload": (c_void_p,),
    "hipModuleGetFunction": (c_void_p, c_void_p, c_char_p),
    "hipFuncGetAttribute": (c_void_p, c_int, c_void_p),
    "hipModuleLaunchKernel": (c_void_p, *[c_uint] * 7, c_void_p, c_void_p, c_void_p),
    "hipStreamCreate": (c_void_p,),
    "hipStreamDestroy": (c_void_p,),
    "hipStreamSynchronize": (c_void_p,),
    "hipEventCreate": (c_void_p,),
    "hipEventDestroy": (c_void_p,),
    "hipEventRecord": (c_void_p, c_void_p),
    "hipEventSynchronize": (c_void_p,),
    "hipEventElapsedTime": (c_void_p, c_void_p, c_void_p),
    "hipHostRegister": (c_void_p, c_size_t, c_uint),
    "hipHostUnregister": (c_void_p,),
    "hipGetLastError": (),
}
_TEXTS = ("hipGetErrorName", "hipGetErrorString")

# Codes of a kernel that failed: an illegal address, and any other failure of a launch.
KERNEL_FAILURES = (700, 719)

# What to do about an error, by HIP's code.
_ADVICE = {
    2: "free device memory, or cut the batch",
    100: "no AMD GPU is visible: look at HIP_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES and the rights "
    "to /dev/kfd; the targets gfx950:emulator and gfx942:emulator need none",
    200: "the code object is damaged: delete its folder in the kernel cache (`aiter-moe config` "
    "names it) and try again",
    209: "the code object is for another architecture than the device: name the device's target",
    500: "the code object lacks the symbol: delete its folder in the kernel cache (`aiter-moe "
    "config` names it) and try again",
    700: "a kernel left its memory, and the device is lost to this process: the same call on the "
    "target's :emulator names the instruction",
    701: "the kernel asks for more registers or LDS than the device has: choose another plan",
    719: "a kernel failed, and the device is lost to this process: the same call on the target's "
    ":emulator names the instruction",
}
_ANY_ADVICE = "AMD_LOG_LEVEL=3 in the environment lets HIP say more"


class HipError(LaunchError):
    """A HIP call failed.

    Attributes
    ----------
    call : str
        Name of the function.
    code : int
        HIP's error code.
    name : str
        HIP's name for it.
    """

    def __init__(self, call: str, code: int, name: str, text: str) -> None:
        self.call, self.code, self.name = call, code, name
        advice = _ADVICE.get(code, _ANY_ADVICE)
        super().__init__(f"{call} failed with {name} ({code}), {text!r}: {advice}")


class FunctionAttribute(enum.IntEnum):
    """What a loaded kernel can be asked (``hipFunction_attribute``)."""

    MAX_THREADS_PER_BLOCK = 0
    SHARED_SIZE_BYTES = 1
    CONST_SIZE_BYTES = 2
    LOCAL_SIZE_BYTES = 3
    NUM_REGS = 4


@dataclass(frozen=True, slots=True)
class DeviceProperties:
    """What HIP says of a device.

    Attributes
    ----------
    arch : str
        gfx name without its features.
    compute_units : int
        Compute units that kernels can use.
    name : str
        Marketing name.
    """

    arch: str
    compute_units: int
    name: str


class HipRuntime:
    """HIP's calls as methods; each raises `HipError` where HIP returns an error.

    Handles (modules, functions, streams, events) are integers; stream None is the null stream.

    Parameters
    ----------
    library : ctypes.CDLL
        libamdhip64, or a library with its names.

    Raises
    ------
    LaunchError
        If the library lacks a call, as those before ROCm 6 do.
    """

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - whatever has the functions
        self._functions: dict[str, Callable[..., int]] = {
            name: _bound(library, name, c_int, arguments) for name, arguments in _CALLS.items()
        }
        self._texts: dict[str, Callable[[int], bytes | None]] = {
            name: _bound(library, name, c_char_p, (c_int,)) for name in _TEXTS
        }
        self._call("hipInit", 0)

    def _call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401 - C values
        code = self._functions[name](*arguments)
        if code:
            # HIP keeps the last error of a thread; nobody else shall take it for theirs.
            self._functions["hipGetLastError"]()
            texts = [(self._texts[text](code) or b"unknown").decode() for text in _TEXTS]
            raise HipError(name, code, *texts)

    def _made(self, name: str, *arguments: Any) -> int:  # noqa: ANN401 - C values
        """Return the handle that a call writes through its first argument."""
        handle = c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _number(self, name: str, *arguments: Any) -> int:  # noqa: ANN401 - C values
        """Return the integer that a call writes through its first argument."""
        value = c_int()
        self._call(name, ctypes.byref(value), *arguments)
        return value.value

    def device_count(self) -> int:
        """Return how many devices there are."""
        return self._number("hipGetDeviceCount")

    def current_device(self) -> int:
        """Return the device that this thread's calls reach."""
        return self._number("hipGetDevice")

    def set_device(self, device: int) -> None:
        """Let this thread's calls reach a device."""
        self._call("hipSetDevice", device)

    def properties(self, device: int) -> DeviceProperties:
        """Return what HIP says of a device."""
        room = ctypes.create_string_buffer(_PROPERTY_BYTES)
        self._call("hipGetDevicePropertiesR0600", room, device)
        (units,) = struct.unpack_from("i", room, _COMPUTE_UNITS)
        arch = _text(room, _ARCH_NAME).partition(":")[0]
        return DeviceProperties(arch, units, _text(room, _NAME))

    def synchronise(self) -> None:
        """Wait until the device has done all it was given."""
        self._call("hipDeviceSynchronize")

    def load_module(self, code_object: bytes) -> int:
        """Return a module of a code object, whose bytes must outlive it."""
        return self._made("hipModuleLoadData", code_object)

    def unload_module(self, module: int) -> None:
        """Free a module that no launch uses any more."""
        self._call("hipModuleUnload", module)

    def function(self, module: int, symbol: str) -> int:
        """Return a kernel of a module."""
        return self._made("hipModuleGetFunction", module, symbol.encode())

    def attribute(self, function: int, attribute: FunctionAttribute) -> int:
        """Return what is asked of a kernel."""
        value = c_int()
        self._call("hipFuncGetAttribute", ctypes.byref(value), int(attribute), function)
        return value.value

    def launch(
        self,
        function: int,
        grid: tuple[int, int, int],
        threads: int | tuple[int, int, int],
        arguments: ctypes.Structure | ctypes.Array[c_char],
        stream: int | None = None,
        *,
        dynamic_lds: int = 0,
    ) -> None:
        """Start a kernel.

        Parameters
        ----------
        function : int
            The kernel.
        grid : tuple of int
            Workgroups.
        threads : int or tuple of int
            Lanes a workgroup: in x, or in x, y and z.
        arguments : ctypes.Structure or ctypes.Array
            The kernel argument segment, without hidden arguments; copied before this returns.
        stream : int or None
            What the launch is ordered behind.
        dynamic_lds : int
            Bytes of LDS a workgroup gets beyond those of the kernel.
        """
        block = (threads, 1, 1) if isinstance(threads, int) else threads
        size = c_size_t(ctypes.sizeof(arguments))
        extra = (c_void_p * 5)(
            BUFFER_POINTER, ctypes.addressof(arguments), BUFFER_SIZE, ctypes.addressof(size),
            BUFFER_END,
        )  # fmt: skip
        self._call(
            "hipModuleLaunchKernel", function, *grid, *block, dynamic_lds, stream, None, extra
        )

    def create_stream(self) -> int:
        """Return a new stream."""
        return self._made("hipStreamCreate")

    def destroy_stream(self, stream: int) -> None:
        """Free a stream once its work is done."""
        self._call("hipStreamDestroy", stream)

    def synchronise_stream(self, stream: int | None) -> None:
        """Wait until a stream has done all it was given."""
        self._call("hipStreamSynchronize", stream)

    def create_event(self) -> int:
        """Return a new event that takes the time."""
        return self._made("hipEventCreate")

    def destroy_event(self, event: int) -> None:
        """Free an event."""
        self._call("hipEventDestroy", event)

    def record_event(self, event: int, stream: int | None) -> None:
        """Let an event happen when a stream has done what it was given so far."""
        self._call("hipEventRecord", event, stream)

    def synchronise_event(self, event: int) -> None:
        """Wait for an event."""
        self._call("hipEventSynchronize", event)

    def elapsed_ms(self, begin: int, end: int) -> float:
        """Return the milliseconds between two events that have happened."""
        value = c_float()
        self._call("hipEventElapsedTime", ctypes.byref(value), begin, end)
        return value.value

    def register(self, address: int, size: int) -> None:
        """Let kernels reach host memory at its own address."""
        self._call("hipHostRegister", address, size, 0)

    def unregister(self, address: int) -> None:
        """Undo `register`."""
        self._call("hipHostUnregister", address)


def _text(room: ctypes.Array[ctypes.c_char], offset: int) -> str:
    return room.raw[offset : offset + _TEXT_BYTES].partition(b"\0")[0].decode(errors="replace")


def _bound(library: Any, name: str, result: _CType, arguments: tuple[_CType, ...]) -> Any:  # noqa: ANN401
    try:
        function = getattr(library, name)
    except AttributeError:
        raise LaunchError(
            f"{getattr(library, '_name', library)} has no {name}: ROCm 6 or later is needed"
        ) from None
    function.restype, function.argtypes = result, arguments
    return function


def library_places(torch_libraries: Path | None, rocm: str) -> Iterator[tuple[str, int]]:
    """Yield names and paths of libamdhip64 with how to open them, the first that opens serves.

    One that the process holds already comes before all: two runtimes in a process share neither
    devices nor streams nor memory. Then torch's own copy, for the same reason; then the loader's
    search path; then the ROCm installation.

    Parameters
    ----------
    torch_libraries : Path or None
        Folder of torch's libraries where torch is built for HIP.
    rocm : str
        Root of a ROCm installation, or empty.
    """
    for name in LIBRARY_NAMES:
        yield name, os.RTLD_NOLOAD
    if torch_libraries is not None:
        yield str(torch_libraries / LIBRARY_NAMES[0]), ctypes.DEFAULT_MODE
    for name in LIBRARY_NAMES:
        yield name, ctypes.DEFAULT_MODE
    if rocm:
        yield str(Path(rocm) / "lib" / LIBRARY_NAMES[0]), ctypes.DEFAULT_MODE


def open_library(
    places: Iterator[tuple[str, int]], load: Callable[[str, int], Any] = ctypes.CDLL
) -> Any:  # noqa: ANN401 - what ctypes calls a library
    """Return the first library that opens.

    Raises
    ------
    LaunchError
        If none does.
    """
    tried: dict[str, None] = {}
    for place, mode in places:
        try:
            return load(place, mode)
        except OSError:
            tried[place] = None
    raise LaunchError(
        f"no HIP runtime is here: {', '.join(tried)} cannot be loaded; install ROCm or set "
        f"{env.ROCM_PATH.name}. The targets gfx950:emulator and gfx942:emulator need neither ROCm "
        "nor a GPU"
    )


@cache
def hip_runtime() -> HipRuntime:
    """Return the HIP runtime of this process, loaded on first use.

    Raises
    ------
    LaunchError
        If there is none, or it is older than ROCm 6.
    """
    bundled = Path(torch.__file__).parent / "lib" if torch.version.hip else None
    return HipRuntime(open_library(library_places(bundled, env.ROCM_PATH.text())))
