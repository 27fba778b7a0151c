// SPDX-License-Identifier: MIT
// A matrix instruction, which ignores EXEC, on lanes that were never written.
KERNEL void kernel(int* out, const int* in) {
  if (!FAULTY || LANE < 32) asm volatile("v_mov_b32 v200, 0" ::: "v200");
  asm volatile("v_mfma_f32_4x4x1_16b_f32 v[204:207], v200, v200, 0\n s_nop 15"  // fault
               ::: "v200", "v204", "v205", "v206", "v207");
  out[LANE] = in[LANE];
}
