// SPDX-License-Identifier: MIT
// A scalar load past the end of its tensor.
KERNEL void kernel(int* out, const int* in) {
  int last;
  asm volatile("s_load_dword %0, %1, %2\n s_waitcnt lgkmcnt(0)"  // fault
               : "=s"(last) : "s"(in), "n"(252 + 4 * FAULTY));
  out[LANE] = in[LANE];
}
