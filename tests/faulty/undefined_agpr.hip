// SPDX-License-Identifier: MIT
// An accumulation register that is read and was never written.
KERNEL void kernel(int* out, const int* in) {
  int value;
  if (!FAULTY) asm volatile("v_accvgpr_write_b32 a7, 0" ::: "a7");
  asm volatile("v_accvgpr_read_b32 %0, a7\n v_add_u32 %0, 0, %0"  // fault
               : "=v"(value) :: "a7");
  out[LANE] = in[LANE] + value;
}
