# SPDX-License-Identifier: MIT
"""How the emulator starts waves, schedules them, ends them, and reports what they did."""

import signal
import threading

import numpy as np
import pytest
from gcn_asm import Snippet, assemble, kernel_text, run, run_one
from gcn_hip import compiled

from aiter_moe.errors import LaunchError
from aiter_moe.targets.emulator_library import Emulator, EmulatorFaultError, emulator
from aiter_moe.targets.emulator_report import FaultKind, InstructionClass
from aiter_moe.targets.source_lines import source_line

pytestmark = pytest.mark.usefixtures("gfx950_compiler")


def pack(*values):
    """Return kernel arguments: arrays as their address, integers as 32 bits."""
    parts = []
    for value in values:
        if isinstance(value, np.ndarray):
            parts += [b"\0" * (-sum(map(len, parts)) % 8), value.ctypes.data.to_bytes(8, "little")]
        else:
            parts.append(int(value).to_bytes(4, "little", signed=True))
    return b"".join(parts)


def launch(source, name, grid, threads, *values, arch="gfx950", flags=(), **options):
    """Compile and launch a HIP kernel on numpy arrays and integers."""
    tensors = [value for value in values if isinstance(value, np.ndarray)]
    return emulator(arch).launch(
        compiled(source, arch, flags), name, grid, threads, pack(*values), tensors, **options
    )


IDS = """
KERNEL void ids(int* out) {
  int x = __builtin_amdgcn_workitem_id_x(), y = __builtin_amdgcn_workitem_id_y();
  int z = __builtin_amdgcn_workitem_id_z();
  int group = (__builtin_amdgcn_workgroup_id_z() * GRID_DIM(y) + __builtin_amdgcn_workgroup_id_y())
              * GRID_DIM(x) + __builtin_amdgcn_workgroup_id_x();
  int lane = (z * BLOCK_DIM(y) + y) * BLOCK_DIM(x) + x;
  int at = group * BLOCK_DIM(x) * BLOCK_DIM(y) * BLOCK_DIM(z) + lane;
  out[2 * at] = x | y << 10 | z << 20;
  out[2 * at + 1] = __builtin_amdgcn_workgroup_id_x() | __builtin_amdgcn_workgroup_id_y() << 8 |
                    __builtin_amdgcn_workgroup_id_z() << 16;
}
"""


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
@pytest.mark.parametrize("block", [(64, 1, 1), (100, 1, 1), (5, 7, 3), (1, 1, 1), (32, 8, 4)])
def test_every_lane_learns_its_place(block, arch):
    grid = (3, 2, 2)
    lanes, groups = int(np.prod(block)), int(np.prod(grid))
    out = np.full((groups, lanes, 2), -1, np.int32)
    report = launch(IDS, "ids", grid, block, out, arch=arch)
    lane, group = np.arange(lanes), np.arange(groups)
    x, y, z = lane % block[0], lane // block[0] % block[1], lane // block[0] // block[1]
    np.testing.assert_array_equal(out[:, :, 0], np.tile(x | y << 10 | z << 20, (groups, 1)))
    packed = group % 3 | group // 3 % 2 << 8 | group // 6 << 16
    np.testing.assert_array_equal(out[:, :, 1], np.tile(packed[:, None], (1, lanes)))
    assert report.counters["workgroups"] == groups
    assert report.counters["waves"] == groups * -(-lanes // 64)


def test_partial_waves_have_the_lanes_that_exist():
    snippet = Snippet(
        "partial", "v_mov_b32 v1, exec_lo\nv_mov_b32 v2, exec_hi", outputs=["v1", "v2"], threads=100
    )
    found = run_one(snippet)
    np.testing.assert_array_equal(found["v1"], np.full(100, 0xFFFFFFFF, np.uint32))
    np.testing.assert_array_equal(found["v2"], [0xFFFFFFFF] * 64 + [0xF] * 36)


def test_registers_start_undefined_except_those_the_descriptor_asks_for():
    bodies = {"s4": 7, "v1": 7, "a0": 7, "vcc": 7, "m0": 7, "s0": None, "s2": None, "v0": None}
    snippets = [
        Snippet(f"start_{key}", f"v_not_b32 v9, {'vcc_lo' if key == 'vcc' else key}")
        for key in bodies
        if key != "a0"
    ]
    # A copy alone is no use: it passes on that nothing was written.
    snippets.append(Snippet("start_a0", "v_accvgpr_read_b32 v8, a0\nv_not_b32 v9, v8"))
    for snippet, result in zip(snippets, run(snippets, raise_on_fault=False), strict=True):
        wanted = bodies[snippet.name.partition("_")[2]]
        kinds = [fault.kind for fault in result.report.faults]
        assert kinds == ([] if wanted is None else [FaultKind.undefined_register]), snippet.name


def test_the_dispatch_packet_tells_the_sizes():
    out = np.zeros(8, np.uint32)
    source = """
    KERNEL void packet(u32* out) {
      auto* p = (const __attribute__((address_space(4))) u32*)__builtin_amdgcn_dispatch_ptr();
      auto* half = (const __attribute__((address_space(4))) unsigned short*)p;
      if (LANE == 0) {
        out[0] = half[2]; out[1] = half[3]; out[2] = half[4];
        out[3] = p[3]; out[4] = p[4]; out[5] = p[5]; out[6] = p[7]; out[7] = half[1];
      }
    }
    """
    launch(source, "packet", (1, 1, 1), (16, 2, 1), out, dynamic_lds=4096)
    assert out.tolist() == [16, 2, 1, 16, 2, 1, 4096, 2]


def test_arguments_may_be_preloaded_into_registers():
    source = """
    KERNEL void add(int* __restrict__ out, int a, int b) { out[LANE] = a + b + LANE; }
    """
    out = np.zeros(64, np.int32)
    flags = ("-mllvm", "-amdgpu-kernarg-preload-count=8")
    report = launch(source, "add", (1, 1, 1), 64, out, 1000, 20, flags=flags)
    np.testing.assert_array_equal(out, 1020 + np.arange(64))
    assert not report.by_class()[InstructionClass.smem]


def test_scratch_is_private_to_each_lane():
    source = """
    KERNEL void shuffle(int* out, int step) {
      int held[64];
      for (int i = 0; i < 64; ++i) held[(i * step) & 63] = i + 100 * LANE + GROUP;
      int sum = 0;
      for (int i = 0; i < 64; ++i) sum += held[(i * 7 + LANE) & 63] * (i + 1);
      out[GROUP * 128 + LANE] = sum;
    }
    """
    out = np.zeros((3, 128), np.int32)
    report = launch(source, "shuffle", (3, 1, 1), 128, out, 5)
    lane, i = np.arange(128)[:, None], np.arange(64)
    place = np.zeros(64, np.int64)
    place[i * 5 & 63] = i
    for group in range(3):
        held = place[(i * 7 + lane) & 63] + 100 * lane + group
        np.testing.assert_array_equal(out[group], (held * (i + 1)).sum(1))
    assert report.counters["scratch_bytes"] > 0


def test_functions_call_themselves_on_a_stack():
    source = """
    DEVICE __attribute__((noinline)) int ways(int steps, int most) {
      if (steps <= 0) return steps == 0;
      int sum = 0;
      for (int n = 1; n <= most; ++n) sum += ways(steps - n, most);
      return sum;
    }
    KERNEL void count(int* out, int most) { out[LANE] = ways(LANE % 9, most + LANE % 2); }
    """
    out = np.zeros(64, np.int32)
    report = launch(source, "count", (1, 1, 1), 64, out, 2)

    def ways(steps, most):
        if steps <= 0:
            return int(steps == 0)
        return sum(ways(steps - n, most) for n in range(1, most + 1))

    assert out.tolist() == [ways(lane % 9, 2 + lane % 2) for lane in range(64)]
    assert report.counters["scratch_bytes"] > 0


def test_constants_lie_beside_the_code():
    source = """
    static __attribute__((constant)) const int table[70] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
    KERNEL void pick(int* out) { out[LANE] = table[(LANE * 5) % 70]; }
    """
    out = np.zeros(64, np.int32)
    launch(source, "pick", (1, 1, 1), 64, out)
    table = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8] + [0] * 58)
    np.testing.assert_array_equal(out, table[np.arange(64) * 5 % 70])


EXCHANGE = """
KERNEL void __attribute__((amdgpu_flat_work_group_size(256, 256))) exchange(int* out, int rounds) {
  SHARED static int room[256];
  int value = LANE;
  for (int round = 0; round < rounds; ++round) {
    room[LANE] = value;
    BARRIER();
    value = room[(LANE + 67) & 255] + 1;
    BARRIER();
  }
  out[GROUP * 256 + LANE] = value;
}
"""


@pytest.mark.parametrize("seed", range(6))
def test_barriers_hold_in_every_order_of_waves(seed):
    out = np.zeros((4, 256), np.int32)
    report = launch(EXCHANGE, "exchange", (4, 1, 1), 256, out, 9, seed=seed)
    np.testing.assert_array_equal(out, np.tile((np.arange(256) + 9 * 67) % 256 + 9, (4, 1)))
    assert report.counters["barriers"] == 4 * 4 * 18


def wave_number():
    return "v_lshrrev_b32 v1, 6, v0\nv_readfirstlane_b32 s20, v1\n"


# Each wave takes the next place in a list a hundred times.
APPEND = (
    wave_number()
    + """
    s_movk_i32 s21, 100
    v_mov_b32 v2, 0
    v_mov_b32 v3, s20
    s_mov_b64 s[30:31], exec
    s_mov_b64 exec, 1
  again:
    v_mov_b32 v4, 1
    global_atomic_add v4, v2, v4, s[10:11] sc0
    s_waitcnt vmcnt(0)
    v_lshlrev_b32 v4, 2, v4
    global_store_dword v4, v3, s[12:13]
    s_sub_u32 s21, s21, 1
    s_cmp_lg_u32 s21, 0
    s_cbranch_scc1 again
    s_mov_b64 exec, s[30:31]
    """
)


def order_of_waves(seed, threads=1):
    count, order = np.zeros(1, np.uint32), np.zeros(400, np.uint32)
    emulator().set_option("threads", threads)
    try:
        run_one(
            Snippet("append", APPEND, buffers={"s[10:11]": count, "s[12:13]": order}, threads=256),
            seed=seed,
        )
    finally:
        emulator().set_option("threads", 0)
    assert count[0] == 400
    np.testing.assert_array_equal(np.bincount(order, minlength=4), 100)
    return order.tolist()


def test_the_seed_alone_orders_waves():
    orders = [order_of_waves(seed) for seed in range(8)]
    assert [order_of_waves(seed, threads=2) for seed in range(8)] == orders
    assert len({tuple(order) for order in orders}) == 8
    assert any(order[0] != orders[0][0] for order in orders), "the first wave differs too"


def test_waves_that_ended_hold_no_barrier_shut():
    body = (
        wave_number()
        + """
        s_cmp_eq_u32 s20, 2
        s_cbranch_scc1 done
        s_barrier
        s_barrier
      done:
        """
    )
    for seed in range(4):
        result = run_one(Snippet("early", body, threads=256), seed=seed)
        assert result.report.counters["barriers"] == 6


def spin(condition):
    return wave_number() + f"s_cmp_{condition}_u32 s20, 1\ns_cbranch_scc0 past\n"


def test_a_wave_that_never_ends_is_a_hang():
    body = spin("eq") + "forever:\ns_nop 0\ns_branch forever\npast:\n"
    result = run_limited(Snippet("endless", body, threads=128), 5000)
    (fault,) = result.faults
    assert fault.kind is FaultKind.hang
    assert fault.wave == 1
    assert fault.instruction.partition(" ")[0] in ("s_nop", "s_branch")


def test_a_barrier_that_never_opens_is_reported_at_the_barrier():
    body = spin("eq") + "forever:\ns_nop 0\ns_branch forever\npast:\ns_barrier\n"
    result = run_limited(Snippet("shut", body, threads=192), 5000)
    kinds = {fault.kind: fault for fault in result.faults}
    assert set(kinds) == {FaultKind.hang, FaultKind.barrier_divergence}
    assert kinds[FaultKind.barrier_divergence].instruction == "s_barrier"
    assert kinds[FaultKind.barrier_divergence].occurrences == 2


def run_limited(snippet, limit):
    code = assemble(kernel_text(snippet))
    room = np.zeros(64, np.uint32)
    arguments = pack(room, room)
    return emulator().launch(
        code, snippet.name, snippet.grid, snippet.threads, arguments, [room],
        instruction_limit=limit, raise_on_fault=False,
    )  # fmt: skip


FAULTY = """
KERNEL void faulty(int* out, const int* in) {
  if (GROUP % 3 == 2) out[1 << 28] = LANE;
  if (GROUP % 5 == 3) out[LANE] = in[1 << 28];
  out[GROUP] = 1;
}
"""


def test_reports_do_not_depend_on_threads():
    reports = []
    # The same memory every time: how many lines an access touches depends on where it lies.
    out, given = np.zeros(64, np.int32), np.zeros(64, np.int32)
    for threads in (1, 2, 4, 2):
        emulator().set_option("threads", threads)
        try:
            report = launch(FAULTY, "faulty", (40, 1, 1), 64, out, given, raise_on_fault=False)
        finally:
            emulator().set_option("threads", 0)
        # Addresses differ from run to run.
        faults = [(f.kind, f.pc, f.group, f.occurrences, f.instruction) for f in report.faults]
        reports.append((faults, dict(report.counters), report.hits.tolist()))
    assert len(reports[0][0]) == 2
    assert reports[0][0][0][2:4] == ((2, 0, 0), 13)
    assert reports[0][0][1][2:4] == ((3, 0, 0), 8)
    for report in reports[1:]:
        assert report == reports[0]


def test_a_fatal_fault_ends_the_launch_and_hides_what_is_behind_it():
    source = """
    KERNEL void stops(int* out) {
      if (GROUP == 20) __builtin_trap();
      if (GROUP % 8 == 7) out[1 << 28] = LANE;
      out[GROUP] = 1;
    }
    """
    for threads in (1, 2, 4):
        emulator().set_option("threads", threads)
        try:
            out = np.zeros(1 << 12, np.int32)
            report = launch(source, "stops", (4000, 1, 1), 64, out, raise_on_fault=False)
        finally:
            emulator().set_option("threads", 0)
        first, fatal = report.faults
        assert (first.kind, first.group, first.occurrences) == (
            FaultKind.global_out_of_range, (7, 0, 0), 2,
        )  # fmt: skip
        assert (fatal.kind, fatal.group) == (FaultKind.bad_instruction, (20, 0, 0))
        assert out[:20].all()
        assert not out[20]


def test_unknown_instructions_are_named_and_never_guessed():
    words = "s_nop 0\n.long 0xbfff1234\n"  # an s_opcode that gfx950 does not have
    with pytest.raises(EmulatorFaultError, match="unknown_instruction") as caught:
        run_one(Snippet("unknown", words))
    (fault,) = caught.value.report.faults
    assert "0xbfff1234" in fault.instruction
    assert fault.kind is FaultKind.unknown_instruction


def test_checks_can_be_switched_off_one_by_one():
    snippet = Snippet("reads", "v_not_b32 v1, v2")
    assert run([snippet], raise_on_fault=False)[0].report.faults
    every = (1 << len(FaultKind)) - 1
    without = every & ~(1 << FaultKind.undefined_register)
    assert not run_one(snippet, checks=without).report.faults


def test_counts_by_mnemonic_and_class_are_those_of_the_waves():
    body = """
    s_mov_b32 s20, 10
  loop:
    v_add_f32 v1, v1, v1
    v_mul_f32 v2, v1, v1
    s_sub_u32 s20, s20, 1
    s_cmp_lg_u32 s20, 0
    s_cbranch_scc1 loop
    v_mfma_f32_16x16x32_bf16 v[4:7], v[8:11], v[12:15], 0
    """
    inputs = {key: 0 for key in ("v1", "v2", "v[8:11]", "v[12:15]")}
    harness = run_one(Snippet("nothing", "", inputs, threads=192)).report
    report = run_one(Snippet("counted", body, inputs, threads=192)).report
    counts, classes = report.by_mnemonic(), report.by_class()
    assert counts["v_add_f32_e32"] == counts["v_mul_f32_e32"] == 30
    assert counts["v_mfma_f32_16x16x32_bf16"] == 3 == classes[InstructionClass.mfma]
    assert counts["s_cbranch_scc1"] == 30
    extra = {kind: classes[kind] - n for kind, n in harness.by_class().items()}
    assert extra[InstructionClass.valu] == 60
    assert extra[InstructionClass.salu] == 63
    assert extra[InstructionClass.branch] == 30
    assert sum(classes.values()) == report.counters["instructions"]
    assert report.by_mnemonic(InstructionClass.mfma) == {"v_mfma_f32_16x16x32_bf16": 3}


def test_the_message_of_a_fault_says_where():
    with pytest.raises(EmulatorFaultError) as caught:
        launch(FAULTY, "faulty", (4, 1, 1), 64, np.zeros(64, np.int32), np.zeros(64, np.int32))
    message = str(caught.value)
    for part in ("faulty", "global_out_of_range", "global_store_dword", "workgroup (2, 0, 0)"):
        assert part in message


@pytest.mark.parametrize("flags", [("-g",), ("-g", "-gdwarf-4"), ("-gline-tables-only",)])
def test_with_debug_information_a_fault_names_its_source_line(flags):
    out, given = np.zeros(64, np.int32), np.zeros(64, np.int32)
    with pytest.raises(EmulatorFaultError) as caught:
        launch(FAULTY, "faulty", (40, 1, 1), 64, out, given, flags=flags)
    path = compiled(FAULTY, "gfx950", flags)
    lines = next(path.parent.glob("*.hip")).read_text().splitlines()
    for fault, text in zip(
        caught.value.report.faults, ("out[1 << 28]", "in[1 << 28]"), strict=True
    ):
        place = source_line(path.read_bytes(), fault.pc)
        assert text in lines[place.line - 1]
        assert place.file.endswith(".hip")
        assert f"times) at {place}\n" in str(caught.value) + "\n"
    assert "-g" not in str(caught.value)


def test_code_without_debug_information_has_no_source_lines():
    plain = compiled(FAULTY).read_bytes()
    assert source_line(plain, 0) is None
    debug = compiled(FAULTY, "gfx950", ("-g",)).read_bytes()
    assert source_line(debug, 0) is not None
    assert source_line(debug, 1 << 20) is None
    for size in range(0, len(debug), 97):
        source_line(debug[:size], 0)


def test_both_architectures_run_in_one_process():
    body = "s_getreg_b32 s6, hwreg(HW_REG_MODE)\nv_mov_b32 v1, s6"
    for arch in ("gfx950", "gfx942", "gfx950"):
        found = run_one(Snippet("mode", body, outputs=["v1"]), arch)["v1"]
        assert (found == found[0]).all()
        other = {"gfx950": "gfx942", "gfx942": "gfx950"}[arch]
        code = assemble(kernel_text(Snippet("mode", body)), other)
        with pytest.raises(LaunchError, match="hipErrorNoBinaryForGpu"):
            emulator(arch).launch(code, "mode", (1, 1, 1), 64, b"", [])
    with pytest.raises(LaunchError, match="gfx90a"):
        emulator("gfx90a")


COPY = """
KERNEL void copy(int* to, const int* from) { to[LANE] = from[LANE]; }
"""


SPIN = """
KERNEL void spin(volatile int* out) { for (u32 n = 0; n < 4000000000u; ++n) out[GROUP] = n; }
"""


def test_an_interrupt_ends_a_launch():
    out, values = np.zeros(4, np.int32), np.arange(64, dtype=np.int32)
    compiled(SPIN)
    press = (threading.main_thread().ident, signal.SIGINT)
    timer = threading.Timer(0.3, signal.pthread_kill, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        launch(SPIN, "spin", (4, 1, 1), 64, out, instruction_limit=1 << 40)
    launch(COPY, "copy", (1, 1, 1), 64, copied := np.zeros_like(values), values)
    assert (copied == values).all()


def test_memory_that_python_may_not_write_kernels_may_only_read():
    values, out = np.arange(64, dtype=np.int32), np.zeros(64, np.int32)
    sealed = values.copy()
    sealed.flags.writeable = False
    launch(COPY, "copy", (1, 1, 1), 64, out, sealed)
    assert (out == values).all()
    out[:] = 0
    report = launch(COPY, "copy", (1, 1, 1), 64, sealed, out + 1, raise_on_fault=False)
    (fault,) = report.faults
    assert fault.kind == FaultKind.global_out_of_range
    assert "not allowed" in fault.detail
    assert (sealed == values).all()
    view = out.view()
    view.flags.writeable = False
    arguments = pack(out, values)
    emulator().launch(compiled(COPY), "copy", (1, 1, 1), 64, arguments, [view, out, values])
    assert (out == values).all()


def test_options_are_checked():
    device: Emulator = emulator()
    for name, value in (("threads", -1), ("arch", 90), ("instruction_limit", 0), ("speed", 1)):
        with pytest.raises(LaunchError, match=name):
            device.set_option(name, value)
