# SPDX-License-Identifier: MIT
"""Assembles a kernel for `aiter_moe.inspect`: a body of instructions, and what it says it uses."""

from __future__ import annotations

from gcn_asm import assemble

KERNEL = """
.text
.globl {name}
.p2align 8
.type {name},@function
{name}:
{body}
  s_endpgm
.section .rodata
.p2align 6
.amdhsa_kernel {name}
  .amdhsa_user_sgpr_kernarg_segment_ptr 1
  .amdhsa_kernarg_size 16
  .amdhsa_group_segment_fixed_size {lds}
  .amdhsa_next_free_vgpr {vgprs}
  .amdhsa_accum_offset {accum}
  .amdhsa_next_free_sgpr 100
.end_amdhsa_kernel
"""
ENTRY = """  - .name: {name}
    .symbol: {name}.kd
    .vgpr_count: {vgprs}
    .agpr_count: 0
    .sgpr_count: 100
    .vgpr_spill_count: {spills}
    .sgpr_spill_count: 0
    .group_segment_fixed_size: {lds}
    .private_segment_fixed_size: 0
    .kernarg_segment_size: 16
    .kernarg_segment_align: 8
    .max_flat_workgroup_size: {threads}
    .wavefront_size: 64
"""


def code_object(
    bodies: dict[str, str], arch: str = "gfx950", *, vgprs: int = 64, lds: int = 0,
    threads: int = 256, spills: int = 0,
) -> bytes:  # fmt: skip
    """Return a code object of one kernel per body, all of the same resources."""
    figures = {"vgprs": vgprs, "lds": lds, "threads": threads, "spills": spills}
    accum = min(256, vgprs // 4 * 4)
    text = "".join(
        KERNEL.format(name=name, body=body, accum=accum, **figures) for name, body in bodies.items()
    )
    entries = "".join(ENTRY.format(name=name, **figures) for name in bodies)
    return assemble(
        f"{text}.amdgpu_metadata\namdhsa.version: [1, 2]\n"
        f"amdhsa.target: amdgcn-amd-amdhsa--{arch}\namdhsa.kernels:\n{entries}"
        ".end_amdgpu_metadata\n",
        arch,
    )
