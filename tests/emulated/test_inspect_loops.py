# SPDX-License-Identifier: MIT
"""Loops, mixes, waits and address arithmetic of kernels written by hand, all counted by hand."""

from __future__ import annotations

import pytest
from inspected import code_object

from aiter_moe.errors import ArgumentError, LaunchError
from aiter_moe.inspect import Group, hot_loop, inspect_code

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

FP4 = (
    "v_mfma_scale_f32_16x16x128_f8f6f4 v[0:3], v[4:7], v[8:11], v[0:3], v12, v13"
    " op_sel_hi:[0,0,0] cbsz:4 blgp:4"
)
BF16 = "v_mfma_f32_16x16x32_bf16 v[0:3], v[4:7], v[8:11], v[0:3]"
# Two MFMAs and one of everything else a loop should and should not hold.
MIXED = f"""
  s_mov_b32 s4, 0
loop:
  buffer_load_dwordx4 v[4:7], v20, s[16:19], s5 offen nt
  buffer_load_dword v12, v20, s[16:19], 0 offen
  s_mov_b32 m0, s6
  buffer_load_dwordx4 v21, s[16:19], 0 offen lds
  ds_read_b128 v[8:11], v22
  ds_write_b64 v22, v[24:25] offset:4096
  global_store_dwordx2 v[26:27], v[24:25], off
  global_atomic_add_f32 v28, v29, s[8:9]
  s_load_dword s7, s[0:1], 0x0
  s_waitcnt vmcnt(5) lgkmcnt(0)
  s_waitcnt vmcnt(3)
  s_barrier
  {FP4}
  s_nop 1
  v_cvt_scalef32_pk_bf16_fp4 v30, v4, v12
  v_accvgpr_write_b32 a0, v30
  v_mov_b32 v31, v30
  v_add_u32 v32, v31, v30
  {BF16}
  s_add_u32 s4, s4, 1
  s_cmp_lt_u32 s4, 8
  s_cbranch_scc1 loop
"""


def only(body: str, **resources):
    return inspect_code(code_object({"kernel": body}, **resources))["kernel"]


def test_a_mixed_loop_is_counted():
    loop = only(MIXED).hot
    assert (loop.mfma, loop.size, loop.per_mfma) == (2, 22, 11.0)
    assert {group: count for group, count in loop.mix.items() if count} == {
        Group.LOAD: 2, Group.LOAD_TO_LDS: 1, Group.LDS_READ: 1, Group.LDS_WRITE: 1,
        Group.STORE: 1, Group.ATOMIC: 1, Group.SCALAR_LOAD: 1, Group.WAIT: 2, Group.BARRIER: 1,
        Group.MFMA: 2, Group.NOP: 1, Group.CONVERT: 1, Group.ACC_MOVE: 1, Group.MOVE: 1,
        Group.VALU: 1, Group.SALU: 3, Group.BRANCH: 1,
    }  # fmt: skip
    assert loop.wave_bytes(Group.LOAD) == 64 * (16 + 4)
    assert loop.wave_bytes(Group.LOAD_TO_LDS) == 64 * 16
    assert loop.wave_bytes(Group.LDS_WRITE, Group.STORE) == 64 * (8 + 8)
    assert loop.each_mfma(Group.SALU) == 1.5


def test_waits_are_read_from_the_loop_alone():
    loop = only("  s_waitcnt vmcnt(0)\n" + MIXED).hot
    assert (loop.vmcnts, loop.lgkmcnts) == ((5, 3), (0,))
    assert loop.least_vmcnt == 3 and not loop.drains
    drained = only(MIXED.replace("vmcnt(3)", "vmcnt(0)")).hot
    assert drained.least_vmcnt == 0 and drained.drains
    assert only(f"loop:\n  {FP4}\n  s_cbranch_scc1 loop").hot.least_vmcnt is None


def test_the_hot_loop_is_the_innermost_one_with_most_mfmas():
    body = f"""
    outer:
      {FP4}
      {FP4}
      {FP4}
    short:
      {FP4}
      s_cbranch_scc1 short
    masked:
      {FP4}
      {FP4}
      v_mov_b32 v30, v31
      s_cbranch_scc1 masked
      s_nop 0
    plain:
      {FP4}
      {FP4}
      s_cbranch_scc1 plain
      s_cbranch_scc0 outer
    """
    kernel = only(body)
    assert len(kernel.loops) == 4 and kernel.copies == 2
    assert (kernel.hot.mfma, kernel.hot.size) == (2, 3)


def test_blocks_of_a_loop_are_those_control_passes():
    body = f"""
      s_branch test
    rare:
      v_mov_b32 v30, v31
      s_branch back
    loop:
      {FP4}
      s_cbranch_vccnz rare
    back:
      s_nop 0
      s_cbranch_scc0 left
      s_branch test
    left:
      s_endpgm
    test:
      s_cbranch_scc1 loop
    """
    kernel = only(body)
    (loop,) = kernel.loops
    texts = [i.mnemonic for i in loop.instructions]
    assert texts.count("v_mov_b32_e32") == 1 and "s_endpgm" not in texts
    # all but the first branch and the two ends, one of which the helper adds
    assert loop.size == 8 and kernel.whole.size == 11


def test_code_that_is_never_reached_is_left_out():
    body = f"  s_endpgm\nloop:\n  {FP4}\n  s_cbranch_scc1 loop"
    kernel = only(body)
    assert kernel.hot is None and kernel.loops == () and kernel.whole.size == 1


def test_vector_instructions_that_make_up_an_address_are_found():
    body = f"""
    loop:
      v_add_u32 v20, v20, v21
      v_lshlrev_b32 v22, 2, v20
      buffer_load_dwordx4 v[4:7], v22, s[16:19], s5 offen
      v_readfirstlane_b32 s8, v23
      s_add_u32 s9, s8, 64
      s_mov_b32 m0, s9
      buffer_load_dwordx4 v24, s[16:19], 0 offen lds
      v_add_f32 v30, v4, v5
      v_xor_b32 v31, v30, v4
      global_store_dword v[32:33], v30, off
      ds_write_b32 v34, v31
      v_add_u32 v34, 4, v34
      {FP4}
      s_cbranch_scc1 loop
    """
    found = [i.text for i in only(body).hot.address_valu]
    assert [text.split(" ")[0] for text in found] == [
        "v_add_u32_e32", "v_lshlrev_b32_e32", "v_readfirstlane_b32", "v_add_u32_e32",
    ]  # fmt: skip


def test_addresses_that_are_ready_before_the_loop_are_no_arithmetic_in_it():
    body = f"  v_lshlrev_b32 v20, 2, v0\n{MIXED}"
    assert only(body).hot.address_valu == ()


def test_scratch_in_a_loop_is_seen():
    body = f"loop:\n  {FP4}\n  scratch_load_dword v5, off, s32\n  s_cbranch_scc1 loop"
    assert only(body).hot.uses_scratch
    assert not only(MIXED).hot.uses_scratch


def test_two_kernels_of_a_code_object_keep_apart():
    loop = f"x{{n}}:\n  {BF16}\n{{more}}  s_cbranch_scc1 x{{n}}"
    kernels = inspect_code(
        code_object({"one": loop.format(n=1, more=""), "two": loop.format(n=2, more="  s_nop 0\n")})
    )
    assert list(kernels) == ["one", "two"]
    assert [k.hot.size for k in kernels.values()] == [2, 3]


def test_gfx942_is_read_too():
    body = "loop:\n  v_mfma_f32_16x16x16_bf16 v[0:3], v[4:5], v[8:9], v[0:3]\n  s_cbranch_scc1 loop"
    kernel = inspect_code(code_object({"kernel": body}, "gfx942"))["kernel"]
    assert kernel.arch == "gfx942" and kernel.hot.size == 2


def test_a_kernel_without_a_matrix_loop_and_an_unknown_kernel_are_refused():
    code = code_object({"kernel": "  s_nop 0"})
    with pytest.raises(ArgumentError, match="no loop with matrix instructions"):
        hot_loop(code, "kernel")
    with pytest.raises(ArgumentError, match="no kernel kernal; the code object has kernel"):
        hot_loop(code, "kernal")


def test_what_is_no_code_object_is_refused():
    with pytest.raises(LaunchError, match="no AMD GPU code object"):
        inspect_code(b"\x7fELF" + bytes(100))
    code = code_object({"kernel": MIXED})
    with pytest.raises(LaunchError):
        inspect_code(code[: len(code) // 2])
