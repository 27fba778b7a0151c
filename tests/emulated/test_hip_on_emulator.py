# SPDX-License-Identifier: MIT
"""HIP by ctypes, with the emulator's library in the place of libamdhip64."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.render import render
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.emulator_library import emulator
from aiter_moe.targets.hip import FunctionAttribute, HipError, HipRuntime

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

GFX950, GFX942 = 0, 1


@pytest.fixture
def runtime() -> HipRuntime:
    made = HipRuntime(ctypes.CDLL(str(emulator("gfx950").library.path)))
    made.set_device(GFX950)
    return made


@pytest.fixture(scope="module")
def artifact():
    return ensure(render(next(i for i in catalogue("gfx950") if i.stage == 2)))


def test_devices_say_what_they_are(runtime):
    assert runtime.device_count() == 2
    found = [runtime.properties(device) for device in (GFX950, GFX942)]
    assert [(p.arch, p.compute_units) for p in found] == [("gfx950", 256), ("gfx942", 304)]
    assert all(p.name for p in found)
    runtime.set_device(GFX942)
    assert runtime.current_device() == GFX942


def test_a_kernel_says_what_its_binary_says(runtime, artifact):
    code = artifact.path.read_bytes()
    module = runtime.load_module(code)
    (kernel,) = artifact.manifest["resources"]["kernels"]
    function = runtime.function(module, kernel["name"])
    assert function == runtime.function(module, kernel["name"])
    for attribute, want in (
        (FunctionAttribute.SHARED_SIZE_BYTES, kernel["lds_bytes"]),
        (FunctionAttribute.LOCAL_SIZE_BYTES, kernel["scratch_bytes"]),
        (FunctionAttribute.MAX_THREADS_PER_BLOCK, kernel["max_workgroup"]),
    ):
        assert runtime.attribute(function, attribute) == want, attribute
    # Registers are given out by 8.
    given = runtime.attribute(function, FunctionAttribute.NUM_REGS)
    assert kernel["vgprs"] <= given < kernel["vgprs"] + 8
    with pytest.raises(HipError, match=r"hipModuleGetFunction.*hipErrorNotFound \(500\)"):
        runtime.function(module, "no_such_kernel")
    runtime.unload_module(module)
    with pytest.raises(HipError, match="hipErrorInvalidHandle"):
        runtime.function(module, kernel["name"])


def test_code_objects_of_other_devices_and_other_files_are_refused(runtime, artifact):
    runtime.set_device(GFX942)
    with pytest.raises(HipError, match=r"hipErrorNoBinaryForGpu \(209\).*another architecture"):
        runtime.load_module(artifact.path.read_bytes())
    with pytest.raises(HipError, match=r"hipErrorInvalidImage \(200\).*damaged"):
        runtime.load_module(b"no code object at all" * 100)


def test_a_launch_that_cannot_be_is_refused(runtime, artifact):
    module = runtime.load_module(artifact.path.read_bytes())
    function = runtime.function(module, artifact.manifest["resources"]["kernels"][0]["name"])
    with pytest.raises(HipError, match="hipModuleLaunchKernel"):
        runtime.launch(function, (0, 1, 1), 256, StageArgs())
    with pytest.raises(HipError, match="hipModuleLaunchKernel"):
        runtime.launch(function, (1, 1, 1), 2048, StageArgs())
    runtime.unload_module(module)


def test_streams_and_events(runtime):
    stream, begin, end = runtime.create_stream(), runtime.create_event(), runtime.create_event()
    runtime.record_event(begin, stream)
    runtime.record_event(end, stream)
    runtime.synchronise_event(end)
    runtime.synchronise_stream(stream)
    assert runtime.elapsed_ms(begin, end) >= 0
    for event in (begin, end):
        runtime.destroy_event(event)
    runtime.destroy_stream(stream)
    with pytest.raises(HipError, match="hipEventSynchronize"):
        runtime.synchronise_event(end)


def test_memory_is_registered_once(runtime):
    memory = np.zeros(64, np.uint8)
    runtime.register(memory.ctypes.data, 64)
    with pytest.raises(HipError, match=r"hipErrorHostMemoryAlreadyRegistered \(712\)"):
        runtime.register(memory.ctypes.data + 63, 1)
    runtime.unregister(memory.ctypes.data)
    with pytest.raises(HipError, match=r"hipErrorHostMemoryNotRegistered \(713\)"):
        runtime.unregister(memory.ctypes.data)
