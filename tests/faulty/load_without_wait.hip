// SPDX-License-Identifier: MIT
// The result of a load, used before the wait for it.
KERNEL void kernel(int* out, const int* in) {
  int value;
  asm volatile("global_load_dword %0, %1, off\n"  // fault
               IF_SOUND("s_waitcnt vmcnt(0)\n")
               "v_add_u32 %0, 0, %0\n s_waitcnt vmcnt(0)"
               : "=&v"(value) : "v"(in + LANE));
  out[LANE] = value;
}
