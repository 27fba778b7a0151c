// SPDX-License-Identifier: MIT
// A vector register that is read and was never written.
KERNEL void kernel(int* out, const int* in) {
  int value;
  if (!FAULTY) asm volatile("v_mov_b32 v200, 0" ::: "v200");
  asm volatile("v_add_u32 %0, 0, v200" : "=v"(value) :: "v200");  // fault
  out[LANE] = in[LANE] + value;
}
