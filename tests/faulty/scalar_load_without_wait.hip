// SPDX-License-Identifier: MIT
// The result of a scalar load, used before the wait for it.
KERNEL void kernel(int* out, const int* in) {
  int value;
  asm volatile("s_load_dword %0, %1, 0\n"  // fault
               IF_SOUND("s_waitcnt lgkmcnt(0)\n")
               "s_add_u32 %0, %0, 1\n s_waitcnt lgkmcnt(0)"
               : "=&s"(value) : "s"(in) : "scc");
  out[LANE] = in[LANE];
}
