// SPDX-License-Identifier: MIT
// An atomic at an address that is no multiple of its size.
KERNEL void kernel(int* out, const int* in) {
  asm volatile("global_atomic_add %0, %1, off offset:%2\n s_waitcnt vmcnt(0)"  // fault
               :: "v"(out + LANE % 32), "v"(0), "n"(2 * FAULTY) : "memory");
  out[LANE] = in[LANE];
}
