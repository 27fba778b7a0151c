// SPDX-License-Identifier: MIT
// A barrier that one of two waves never reaches: it waits for what only the other could do.
KERNEL void kernel(int* out, const int* in) {
  const u32 wave = __builtin_amdgcn_readfirstlane(LANE / 64);
  out[LANE] = in[LANE];
  while (FAULTY && wave == 1) asm volatile("s_nop 0");  // fault
  __builtin_amdgcn_s_barrier();  // fault
}
