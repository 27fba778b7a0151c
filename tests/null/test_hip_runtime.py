# SPDX-License-Identifier: MIT
"""HIP by ctypes against a fake library: where it is looked for, errors, the bytes of a launch."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiter_moe.errors import LaunchError
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.hip import (
    LIBRARY_NAMES,
    FunctionAttribute,
    HipError,
    HipRuntime,
    library_places,
    open_library,
)


class Call:
    """A function of the fake library: notes its arguments, and returns what it is told to."""

    def __init__(self, library: FakeHip, name: str) -> None:
        self.library, self.name = library, name
        self.restype: object = None
        self.argtypes: tuple[object, ...] = ()

    def __call__(self, *arguments: object) -> object:
        if self.name == "hipGetErrorName":
            return b"hipErrorFake" if arguments[0] != 77 else None
        if self.name == "hipGetErrorString":
            return b"a fake failure"
        assert len(arguments) == len(self.argtypes), self.name
        self.library.calls.append((self.name, *arguments))
        answer = self.library.answers.get(self.name)
        return answer(*arguments) if callable(answer) else answer or 0


class FakeHip:
    def __init__(self, missing: str = "", **answers: object) -> None:
        self.missing, self.answers = missing, answers
        self.calls: list[tuple[object, ...]] = []
        self._name = "fake.so"

    def __getattr__(self, name: str) -> Call:
        if name == self.missing or not name.startswith("hip"):
            raise AttributeError(name)
        made = Call(self, name)
        setattr(self, name, made)
        return made

    def named(self, name: str) -> list[tuple[object, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


def writes(value: object):
    """An answer that writes `value` through the first argument."""

    def answer(pointer: object, *_: object) -> int:
        pointer._obj.value = value  # what ctypes.byref points to
        return 0

    return answer


def test_every_call_is_typed_and_the_library_initialised_once():
    library = FakeHip()
    HipRuntime(library)
    assert library.named("hipInit") == [(0,)]
    launch = library.hipModuleLaunchKernel
    assert len(launch.argtypes) == 11
    assert launch.restype is ctypes.c_int
    assert library.hipGetErrorName.restype is ctypes.c_char_p


def test_a_library_without_a_call_is_named_with_what_it_lacks():
    with pytest.raises(LaunchError, match=r"fake\.so has no hipGetDevicePropertiesR0600: ROCm 6"):
        HipRuntime(FakeHip(missing="hipGetDevicePropertiesR0600"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (100, ["HIP_VISIBLE_DEVICES", ":emulator"]),
        (209, ["another architecture"]),
        (700, [":emulator", "lost"]),
        (801, ["AMD_LOG_LEVEL"]),
    ],
)
def test_an_error_names_call_code_and_what_to_do(code, words):
    library = FakeHip()
    runtime = HipRuntime(library)
    library.answers["hipModuleGetFunction"] = code
    with pytest.raises(HipError) as caught:
        runtime.function(5, "kernel")
    error = caught.value
    assert (error.call, error.code, error.name) == ("hipModuleGetFunction", code, "hipErrorFake")
    for word in ("hipModuleGetFunction", "hipErrorFake", f"({code})", "a fake failure", *words):
        assert word in str(error)
    assert isinstance(error, LaunchError)
    # The thread's last error was taken, so that torch does not meet it.
    assert library.calls[-1] == ("hipGetLastError",)


def test_an_error_hip_has_no_name_for_is_told_all_the_same():
    library = FakeHip()
    runtime = HipRuntime(library)
    library.answers["hipDeviceSynchronize"] = 77
    with pytest.raises(HipError, match=r"unknown \(77\)"):
        runtime.synchronise()


def test_a_launch_passes_the_argument_bytes_by_value():
    seen = {}

    def launch(*arguments: object) -> int:
        extra = arguments[-1]
        keys = [extra[i] for i in (0, 2, 4)]
        size = ctypes.c_size_t.from_address(extra[3]).value
        seen.update(keys=keys, bytes=ctypes.string_at(extra[1], size), rest=arguments[:-1])
        return 0

    args = StageArgs(tokens=17, topk=4, n=2880, limit=7.0)
    args.out = 0x1234_5678_9ABC
    HipRuntime(FakeHip(hipModuleLaunchKernel=launch)).launch(9, (3, 2, 4), 256, args, 0x77)
    assert seen["keys"] == [1, 2, 3]
    assert seen["bytes"] == bytes(args)
    assert seen["rest"] == (9, 3, 2, 4, 256, 1, 1, 0, 0x77, None)


def test_properties_are_read_from_where_rocm_6_and_7_put_them():
    def properties(room: ctypes.Array, device: int) -> int:
        assert device == 2
        struct.pack_into("256s", room, 0, b"AMD Instinct MI355X")
        struct.pack_into("i", room, 388, 256)
        struct.pack_into("256s", room, 1160, b"gfx950:sramecc+:xnack-")
        return 0

    library = FakeHip(hipGetDevicePropertiesR0600=properties)
    found = HipRuntime(library).properties(2)
    assert (found.arch, found.compute_units, found.name) == ("gfx950", 256, "AMD Instinct MI355X")


def test_handles_and_numbers_come_through_pointers():
    library = FakeHip(
        hipGetDeviceCount=writes(8),
        hipGetDevice=writes(3),
        hipModuleLoadData=writes(0x7F00_0000_1000),
        hipModuleGetFunction=writes(0x7F00_0000_2000),
        hipFuncGetAttribute=writes(512),
        hipEventCreate=writes(0x11),
        hipStreamCreate=writes(0x12),
        hipEventElapsedTime=writes(1.5),
    )
    runtime = HipRuntime(library)
    assert (runtime.device_count(), runtime.current_device()) == (8, 3)
    module = runtime.load_module(b"\x7fELF\0code")
    assert module == 0x7F00_0000_1000
    assert runtime.function(module, "kernel") == 0x7F00_0000_2000
    assert library.named("hipModuleGetFunction")[0][1:] == (module, b"kernel")
    assert runtime.attribute(5, FunctionAttribute.NUM_REGS) == 512
    assert library.named("hipFuncGetAttribute")[0][1:] == (4, 5)
    event, stream = runtime.create_event(), runtime.create_stream()
    runtime.record_event(event, stream)
    assert library.calls[-1] == ("hipEventRecord", 0x11, 0x12)
    runtime.synchronise_event(event)
    assert runtime.elapsed_ms(event, event) == 1.5
    runtime.synchronise_stream(None)
    assert library.calls[-1] == ("hipStreamSynchronize", None)
    for undo, call in (
        (runtime.destroy_event, "hipEventDestroy"),
        (runtime.destroy_stream, "hipStreamDestroy"),
        (runtime.unload_module, "hipModuleUnload"),
        (runtime.unregister, "hipHostUnregister"),
        (runtime.set_device, "hipSetDevice"),
    ):
        undo(6)
        assert library.calls[-1] == (call, 6)
    runtime.register(0x5000, 96)
    assert library.calls[-1] == ("hipHostRegister", 0x5000, 96, 0)


def test_the_runtime_the_process_holds_comes_first_then_torchs_then_the_installed_one():
    places = list(library_places(Path("/torch/lib"), "/opt/here"))
    held, rest = places[: len(LIBRARY_NAMES)], places[len(LIBRARY_NAMES) :]
    assert [name for name, mode in held if mode == os.RTLD_NOLOAD] == list(LIBRARY_NAMES)
    assert [name for name, _ in rest] == [
        "/torch/lib/libamdhip64.so", *LIBRARY_NAMES, "/opt/here/lib/libamdhip64.so",
    ]  # fmt: skip
    assert all(mode != os.RTLD_NOLOAD for _, mode in rest)
    assert [name for name, _ in library_places(None, "")] == [*LIBRARY_NAMES, *LIBRARY_NAMES]


def test_the_first_library_that_opens_serves_and_all_that_do_not_are_named():
    def places() -> Iterator[tuple[str, int]]:
        yield from (("a.so", 4), ("b.so", 0), ("c.so", 0), ("a.so", 0))

    def load(name: str, mode: int) -> object:
        opened.append((name, mode))
        if name != good:
            raise OSError("cannot open shared object file")
        return name.upper()

    opened: list[tuple[str, int]] = []
    good = "c.so"
    assert open_library(places(), load) == "C.SO"
    assert opened == [("a.so", 4), ("b.so", 0), ("c.so", 0)]
    good = "nowhere"
    with pytest.raises(LaunchError, match=r"a\.so, b\.so, c\.so cannot.*ROCM_PATH.*:emulator"):
        open_library(places(), load)
