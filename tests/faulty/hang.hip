// SPDX-License-Identifier: MIT
// A loop without an end.
KERNEL void kernel(int* out, const int* in) {
  out[LANE] = in[LANE];
  while (FAULTY) asm volatile("s_nop 0");  // fault
}
