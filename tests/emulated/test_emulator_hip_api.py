# SPDX-License-Identifier: MIT
"""The emulator's library in place of libamdhip64: HIP's names, structs, handles and errors."""

import ctypes
import time
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_void_p

import numpy as np
import pytest
from gcn_asm import Snippet, assemble, kernel_text
from gcn_hip import compiled

from aiter_moe.targets.emulator_library import emulator

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

INVALID_VALUE, OUT_OF_MEMORY, INVALID_CONFIGURATION, BAD_DIRECTION = 1, 2, 9, 21
INVALID_DEVICE, INVALID_IMAGE, NO_BINARY, INVALID_HANDLE, NOT_FOUND = 101, 200, 209, 400, 500
ILLEGAL_ADDRESS, ALREADY_REGISTERED, NOT_REGISTERED, LAUNCH_FAILURE = 700, 712, 713, 719

SOURCE = """
KERNEL void scale(int* out, const int* in, int factor, int count) {
  u32 at = GROUP * BLOCK_DIM(x) + LANE;
  if (at < count) out[at] = in[at] * factor;
}
KERNEL void sizes(int* out) {
  if (LANE == 0 && GROUP == 0) {
    out[0] = BLOCK_DIM(x); out[1] = BLOCK_DIM(y); out[2] = BLOCK_DIM(z);
    out[3] = GRID_DIM(x); out[4] = GRID_DIM(y); out[5] = GRID_DIM(z);
  }
}
KERNEL void __attribute__((amdgpu_flat_work_group_size(1, 64))) small(int* out) { out[LANE] = 1; }
KERNEL void wild(int* out) { out[1 << 20] = 1; }
KERNEL void trapping(int* out) { __builtin_trap(); }
"""


class Hip:
    """HIP calls by name, returning their error code."""

    def __init__(self):
        # A handle of its own: argument types that other users set stay theirs.
        self.cdll = ctypes.CDLL(str(emulator().library.path))

    def __getattr__(self, name):
        return getattr(self.cdll, "hip" + name)

    def done(self, name, *arguments):
        error = getattr(self, name)(*arguments)
        assert error == 0, f"hip{name}: {error}"

    def load(self, source=SOURCE, arch="gfx950"):
        return self.load_bytes(compiled(source, arch).read_bytes())

    def load_bytes(self, code_object):
        module = c_void_p()
        self.done("ModuleLoadData", byref(module), code_object)
        return module

    def function(self, module, name):
        found = c_void_p()
        self.done("ModuleGetFunction", byref(found), module, name)
        return found

    def variable(self, module, name):
        """Return the address and the size of a variable."""
        pointer, size = c_void_p(), c_size_t()
        self.done("ModuleGetGlobal", byref(pointer), byref(size), module, name)
        return pointer, size.value

    def word(self, pointer):
        got = np.zeros(1, np.uint32)
        self.done("MemcpyDtoH", c_void_p(got.ctypes.data), pointer, c_size_t(4))
        return int(got[0])

    def malloc(self, size):
        pointer = c_void_p()
        self.done("Malloc", byref(pointer), c_size_t(size))
        return pointer

    def launch(self, function, grid, block, *parameters, lds=0, stream=None):
        array = (c_void_p * max(1, len(parameters)))(*(ctypes.addressof(p) for p in parameters))
        return self.ModuleLaunchKernel(function, *grid, *block, lds, stream, array, None)


@pytest.fixture
def hip():
    calls = Hip()
    calls.done("SetDevice", 0)
    calls.GetLastError()
    yield calls
    calls.SetDevice(0)
    calls.GetLastError()


@pytest.fixture
def module(hip):
    handle = hip.load()
    yield handle
    hip.ModuleUnload(handle)


def test_the_devices_are_a_gfx950_and_a_gfx942(hip):
    count = c_int()
    hip.done("GetDeviceCount", byref(count))
    assert count.value == 2
    for device, (arch, units, lds) in enumerate((("gfx950", 256, 160), ("gfx942", 304, 64))):
        # A struct of HIP 6 and 7 by its known size and offsets, with bytes behind it.
        room = ctypes.create_string_buffer(b"\xaa" * 1600, 1600)
        hip.done("GetDevicePropertiesR0600", room, device)
        assert room.raw[1472:] == b"\xaa" * 128
        assert room.raw[1160:].startswith(f"{arch}:sramecc+:xnack-\0".encode())
        assert int.from_bytes(room.raw[388:392], "little") == units
        value = c_int()
        for attribute, wanted in ((63, units), (74, lds << 10), (87, 64), (56, 1024)):
            hip.done("DeviceGetAttribute", byref(value), attribute, device)
            assert value.value == wanted
        name = ctypes.create_string_buffer(b"\xaa" * 16, 16)
        hip.done("DeviceGetName", name, 8, device)
        assert name.raw == room.raw[:7] + b"\0" + b"\xaa" * 8
    assert hip.GetDevicePropertiesR0600(room, 2) == INVALID_DEVICE
    assert hip.SetDevice(2) == INVALID_DEVICE == hip.GetLastError()
    assert hip.DeviceGetAttribute(byref(value), 9999, 0) == INVALID_VALUE


def test_versions_and_names_of_errors(hip):
    version = c_int()
    hip.done("RuntimeGetVersion", byref(version))
    assert version.value // 10_000_000 == 6
    hip.cdll.hipGetErrorName.restype = hip.cdll.hipGetErrorString.restype = c_char_p
    for code, name in (
        (0, b"hipSuccess"), (500, b"hipErrorNotFound"), (209, b"hipErrorNoBinaryForGpu"),
        (700, b"hipErrorIllegalAddress"), (719, b"hipErrorLaunchFailure"),
        (123456, b"hipErrorUnknown"),
    ):  # fmt: skip
        assert hip.GetErrorName(code) == name
        assert len(hip.GetErrorString(code)) > 5


def test_memory_is_copied_set_and_freed_once(hip):
    device = hip.malloc(1024)
    sent = np.random.default_rng(1).integers(0, 256, 1024, np.uint8)
    got = np.zeros(1024, np.uint8)
    hip.done("Memcpy", device, c_void_p(sent.ctypes.data), c_size_t(1024), 1)
    hip.done("Memset", c_void_p(device.value + 512), 7, c_size_t(512))
    hip.done("MemcpyDtoH", c_void_p(got.ctypes.data), device, c_size_t(1024))
    np.testing.assert_array_equal(got, np.concatenate([sent[:512], np.full(512, 7)]))
    into = c_void_p(device.value + 1)
    assert hip.Memcpy(into, c_void_p(sent.ctypes.data), c_size_t(1024), 1) == INVALID_VALUE
    assert hip.Memset(into, 0, c_size_t(1024)) == INVALID_VALUE
    assert hip.Memcpy(device, c_void_p(sent.ctypes.data), c_size_t(1), 9) == BAD_DIRECTION
    assert hip.Free(into) == INVALID_VALUE
    hip.done("Free", device)
    assert hip.Free(device) == INVALID_VALUE
    hip.done("Free", None)


def test_host_memory_is_registered_once(hip):
    memory = np.zeros(4096, np.uint8)
    at = memory.ctypes.data
    hip.done("HostRegister", c_void_p(at + 64), c_size_t(64), 0)
    for begin, size in ((64, 64), (0, 65), (127, 1), (0, 4096), (80, 8)):
        code = hip.HostRegister(c_void_p(at + begin), c_size_t(size), 0)
        assert code == ALREADY_REGISTERED
    hip.done("HostRegister", c_void_p(at), c_size_t(64), 0)
    assert hip.HostUnregister(c_void_p(at + 65)) == NOT_REGISTERED
    assert hip.Free(c_void_p(at)) == INVALID_VALUE
    hip.done("HostUnregister", c_void_p(at))
    hip.done("HostUnregister", c_void_p(at + 64))
    assert hip.HostUnregister(c_void_p(at)) == NOT_REGISTERED
    assert hip.HostRegister(c_void_p(at), c_size_t(0), 0) == INVALID_VALUE


def test_images_are_refused_by_format_and_architecture(hip):
    module = c_void_p()
    assert hip.ModuleLoadData(byref(module), b"no ELF file" * 100) == INVALID_IMAGE
    other = compiled(SOURCE, "gfx942").read_bytes()
    assert hip.ModuleLoadData(byref(module), other) == NO_BINARY
    hip.done("SetDevice", 1)
    hip.done("ModuleLoadData", byref(module), other)
    own = compiled(SOURCE).read_bytes()
    assert hip.ModuleLoadData(byref(c_void_p()), own) == NO_BINARY
    hip.done("ModuleUnload", module)


def bundle(*entries):
    """Return a clang offload bundle."""
    head = b"__CLANG_OFFLOAD_BUNDLE__" + len(entries).to_bytes(8, "little")
    size = len(head) + sum(24 + len(name) for name, _ in entries)
    table, body = b"", b""
    for name, code in entries:
        body += b"\0" * (-(size + len(body)) % 4096)
        for number in (size + len(body), len(code), len(name)):
            table += number.to_bytes(8, "little")
        table += name
        body += code
    return head + table + body


def test_a_bundle_gives_the_code_object_of_the_device(hip):
    codes = {arch: compiled(SOURCE, arch).read_bytes() for arch in ("gfx942", "gfx950")}
    host = (b"host-x86_64-unknown-linux-gnu-", b"")
    both = bundle(
        host, *((f"hipv4-amdgcn-amd-amdhsa--{arch}".encode(), code) for arch, code in codes.items())
    )
    module = c_void_p()
    hip.done("ModuleLoadData", byref(module), both)
    check_scale(hip, module)
    hip.done("ModuleUnload", module)
    one = bundle(host, (b"hipv4-amdgcn-amd-amdhsa--gfx942", codes["gfx942"]))
    assert hip.ModuleLoadData(byref(module), one) == NO_BINARY


def test_handles_end_with_their_module(hip):
    module = hip.load()
    function = hip.function(module, b"scale")
    assert hip.function(module, b"scale").value == function.value
    assert hip.ModuleGetFunction(byref(c_void_p()), module, b"absent") == NOT_FOUND
    hip.done("ModuleUnload", module)
    assert hip.ModuleUnload(module) == INVALID_HANDLE
    assert hip.ModuleGetFunction(byref(c_void_p()), module, b"scale") == INVALID_HANDLE
    assert hip.launch(function, (1, 1, 1), (64, 1, 1)) == INVALID_HANDLE
    assert hip.FuncGetAttribute(byref(c_int()), 0, function) == INVALID_HANDLE
    again = hip.load()
    assert again.value != module.value
    hip.done("ModuleUnload", again)


COUNTING = """
DEVICE u32 counter = 40;
DEVICE u32 zeros[6];
DEVICE __attribute__((constant)) u32 fixed[3] = {8, 9, 10};
KERNEL void count(u32 by) { if (LANE == 0) __atomic_fetch_add(&counter, by, __ATOMIC_RELAXED); }
KERNEL void tell(u32* out) { if (LANE == 0) *out = counter + zeros[2] + fixed[LANE]; }
KERNEL void store(u32* at) { if (LANE == 0) *at = 123; }
"""


@pytest.mark.parametrize("device", [0, 1])
def test_kernels_and_the_host_share_the_variables_of_a_module(hip, device):
    hip.done("SetDevice", device)
    modules = [hip.load(COUNTING, ("gfx950", "gfx942")[device]) for _ in range(2)]
    module = modules[0]
    out = hip.malloc(4)

    def run(name, argument):
        assert hip.launch(hip.function(module, name), (2, 1, 1), (64, 1, 1), argument) == 0
        hip.done("DeviceSynchronize")

    counter, size = hip.variable(module, b"counter")
    assert size == 4
    assert hip.word(counter) == 40
    run(b"count", c_int(5))
    run(b"tell", out)
    assert hip.word(out) == 40 + 2 * 5 + 8
    zeros, size = hip.variable(module, b"zeros")
    assert size == 24
    hip.done("Memset", zeros, 1, c_size_t(24))
    sent = np.array([1000], np.uint32)
    hip.done("MemcpyHtoD", counter, c_void_p(sent.ctypes.data), c_size_t(4))
    run(b"count", c_int(1))
    run(b"tell", out)
    assert hip.word(out) == 1000 + 2 + 0x01010101 + 8
    assert hip.word(hip.variable(modules[1], b"counter")[0]) == 40, "a module has its own"
    for handle in modules:
        hip.done("ModuleUnload", handle)
    hip.done("Free", out)


def test_globals_are_found_by_name_until_their_module_goes(hip):
    module, other = hip.load(COUNTING), hip.load(COUNTING)
    counter, _ = hip.variable(module, b"counter")
    size = c_size_t()
    hip.done("ModuleGetGlobal", None, byref(size), module, b"fixed")
    assert size.value == 12
    for name in (b"absent", b"count", b"count.kd", b"counte", b"counterr"):
        assert hip.ModuleGetGlobal(byref(c_void_p()), byref(size), module, name) == NOT_FOUND
    for name in (b"", None):
        assert hip.ModuleGetGlobal(byref(c_void_p()), byref(size), module, name) == INVALID_VALUE
    assert hip.ModuleGetGlobal(None, None, module, b"counter") == INVALID_VALUE
    store = hip.function(other, b"store")
    assert hip.launch(store, (1, 1, 1), (64, 1, 1), counter) == 0
    hip.done("DeviceSynchronize")
    assert hip.word(counter) == 123
    hip.done("ModuleUnload", module)
    assert hip.ModuleGetGlobal(byref(c_void_p()), byref(size), module, b"counter") == INVALID_HANDLE
    assert hip.launch(store, (1, 1, 1), (64, 1, 1), counter) == 0
    assert hip.DeviceSynchronize() == ILLEGAL_ADDRESS, "it went with its module"
    hip.done("ModuleUnload", other)


def test_a_module_of_many_kernels_loads_quickly(hip):
    count, adds = 300, 200
    code_object = assemble(
        "".join(
            kernel_text(
                Snippet(f"many_{n}", f"v_mov_b32 v1, {n}\n.rept {adds}\nv_add_u32 v1, 1, v1\n.endr",
                        outputs=["v1"], preset=False)
            )
            for n in range(count)
        )
    )  # fmt: skip
    start = time.process_time()
    module = hip.load_bytes(code_object)
    functions = [hip.function(module, b"many_%d" % n) for n in range(count)]
    assert time.process_time() - start < 0.5
    assert len({function.value for function in functions}) == count
    out = hip.malloc(4 * 64)
    words = np.array([0, out.value], np.uint64)
    size = c_size_t(words.nbytes)
    extra = (c_void_p * 5)(1, words.ctypes.data, 2, ctypes.addressof(size), 3)
    for n in (0, 123, count - 1):
        error = hip.ModuleLaunchKernel(functions[n], 1, 1, 1, 64, 1, 1, 0, None, None, extra)
        assert error == 0
        hip.done("DeviceSynchronize")
        assert hip.word(out) == n + adds
    hip.done("Free", out)
    hip.done("ModuleUnload", module)


def check_scale(hip, module, stream=None):
    count = 1000
    numbers = np.random.default_rng(2).integers(-1000, 1000, count, np.int32)
    out, given = hip.malloc(4 * count), hip.malloc(4 * count)
    hip.done("MemcpyHtoD", given, c_void_p(numbers.ctypes.data), c_size_t(4 * count))
    error = hip.launch(
        hip.function(module, b"scale"), (8, 1, 1), (128, 1, 1), out, given, c_int(-7), c_int(count),
        stream=stream,
    )  # fmt: skip
    assert error == 0
    hip.done("StreamSynchronize", stream)
    got = np.zeros(count, np.int32)
    hip.done("MemcpyDtoH", c_void_p(got.ctypes.data), out, c_size_t(4 * count))
    np.testing.assert_array_equal(got, -7 * numbers)
    hip.done("Free", out)
    hip.done("Free", given)


def test_arguments_come_one_by_one(hip, module):
    check_scale(hip, module)


def test_arguments_come_packed(hip, module):
    out = np.zeros(64, np.int32)
    given = np.arange(64, dtype=np.int32)
    function = hip.function(module, b"scale")
    packed = ctypes.create_string_buffer(
        np.array([out.ctypes.data, given.ctypes.data], np.uint64).tobytes()
        + np.array([3, 64], np.int32).tobytes(), 24,
    )  # fmt: skip
    for array in (out, given):
        hip.done("HostRegister", c_void_p(array.ctypes.data), c_size_t(array.nbytes), 0)

    def launch(size, pointer):
        size = c_size_t(size)
        extra = (c_void_p * 5)(1, pointer, 2, ctypes.addressof(size), 3)
        return hip.ModuleLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, None, None, extra)

    assert launch(24, ctypes.addressof(packed)) == 0
    np.testing.assert_array_equal(out, 3 * given)
    assert launch(20, ctypes.addressof(packed)) == INVALID_VALUE, "an argument is missing"
    assert launch(24, None) == INVALID_VALUE
    for array in (out, given):
        hip.done("HostUnregister", c_void_p(array.ctypes.data))


def test_kernels_learn_their_sizes_from_hidden_arguments(hip, module):
    out = hip.malloc(24)
    hip.done("Memset", out, 0, c_size_t(24))
    assert hip.launch(hip.function(module, b"sizes"), (5, 3, 2), (32, 4, 2), out) == 0
    hip.done("DeviceSynchronize")
    got = np.zeros(6, np.int32)
    hip.done("MemcpyDtoH", c_void_p(got.ctypes.data), out, c_size_t(24))
    assert got.tolist() == [32, 4, 2, 5, 3, 2]
    hip.done("Free", out)


@pytest.mark.parametrize(
    ("name", "grid", "block", "lds", "error"),
    [
        (b"sizes", (0, 1, 1), (64, 1, 1), 0, INVALID_VALUE),
        (b"sizes", (1, 1, 1), (64, 0, 1), 0, INVALID_VALUE),
        (b"sizes", (1, 1, 1), (64, 32, 1), 0, INVALID_VALUE),
        (b"sizes", (1, 1, 1), (64, 1, 1), (160 << 10) + 1, INVALID_VALUE),
        (b"sizes", (1 << 27, 1, 1), (64, 1, 1), 0, INVALID_CONFIGURATION),
        (b"sizes", (1 << 20, 1 << 20, 1 << 20), (1, 1, 1), 0, INVALID_CONFIGURATION),
        (b"small", (1, 1, 1), (128, 1, 1), 0, LAUNCH_FAILURE),
    ],
)
def test_launches_of_impossible_sizes_are_refused(hip, module, name, grid, block, lds, error):
    function = hip.function(module, name)
    out = hip.malloc(1024)
    assert hip.launch(function, grid, block, out, lds=lds) == error == hip.GetLastError()
    assert hip.DeviceSynchronize() == 0, "nothing was launched"
    hip.done("Free", out)


def test_function_attributes(hip, module):
    value = c_int()
    hip.done("FuncGetAttribute", byref(value), 0, hip.function(module, b"small"))
    assert value.value == 64
    hip.done("FuncGetAttribute", byref(value), 8, hip.function(module, b"small"))
    assert value.value == 160 << 10
    hip.done("FuncGetAttribute", byref(value), 4, hip.function(module, b"scale"))
    assert 0 < value.value <= 16
    assert hip.FuncGetAttribute(byref(value), 77, hip.function(module, b"scale")) == INVALID_VALUE


@pytest.mark.parametrize(
    ("kernel", "error"), [(b"wild", ILLEGAL_ADDRESS), (b"trapping", LAUNCH_FAILURE)]
)
@pytest.mark.parametrize("tell", ["DeviceSynchronize", "GetLastError", "StreamSynchronize"])
def test_a_faulting_launch_is_told_once_by_what_comes_next(hip, module, kernel, error, tell):
    out = hip.malloc(256)
    assert hip.launch(hip.function(module, kernel), (1, 1, 1), (64, 1, 1), out) == 0
    assert hip.PeekAtLastError() == error
    arguments = (None,) if tell == "StreamSynchronize" else ()
    assert getattr(hip, tell)(*arguments) == error
    hip.GetLastError()
    assert getattr(hip, tell)(*arguments) == 0
    hip.done("Free", out)


def test_streams_and_events(hip, module):
    stream, start, stop, silent = c_void_p(), c_void_p(), c_void_p(), c_void_p()
    hip.done("StreamCreate", byref(stream))
    hip.done("EventCreate", byref(start))
    hip.done("EventCreate", byref(stop))
    hip.done("EventCreateWithFlags", byref(silent), 2)
    passed = c_float()
    assert hip.EventElapsedTime(byref(passed), start, stop) == INVALID_HANDLE, "not recorded"
    hip.done("EventRecord", start, stream)
    check_scale(hip, module, stream)
    hip.done("EventRecord", stop, stream)
    hip.done("EventRecord", silent, stream)
    hip.done("EventSynchronize", stop)
    hip.done("EventElapsedTime", byref(passed), start, stop)
    assert 0 < passed.value < 60_000
    hip.done("EventElapsedTime", byref(passed), stop, start)
    assert passed.value < 0
    assert hip.EventElapsedTime(byref(passed), start, silent) == INVALID_HANDLE
    for event in (start, stop, silent):
        hip.done("EventDestroy", event)
        assert hip.EventRecord(event, stream) == INVALID_HANDLE
    hip.done("StreamDestroy", stream)
    assert hip.StreamDestroy(stream) == INVALID_HANDLE
    assert hip.StreamSynchronize(stream) == INVALID_HANDLE
    assert hip.launch(hip.function(module, b"small"), (1, 1, 1), (64, 1, 1), stream=stream) == 400
