// SPDX-License-Identifier: MIT
// The younger of two loads, used after a wait that leaves one.
KERNEL void kernel(int* out, const int* in) {
  int first, second;
  asm volatile("global_load_dword %0, %2, off\n"  // fault
               "global_load_dword %1, %2, off\n"
               "s_waitcnt vmcnt(" IF_SOUND("0") IF_FAULTY("1") ")\n"
               "v_add_u32 %0, %0, %1\n s_waitcnt vmcnt(0)"
               : "=&v"(first), "=&v"(second) : "v"(in + LANE));
  out[LANE] = first / 2;
}
