// SPDX-License-Identifier: MIT
// A scalar register that is read and was never written.
KERNEL void kernel(int* out, const int* in) {
  int value;
  if (!FAULTY) asm volatile("s_mov_b32 s80, 0" ::: "s80");
  asm volatile("s_add_u32 %0, s80, 0" : "=s"(value) :: "s80", "scc");  // fault
  out[LANE] = in[LANE] + value;
}
