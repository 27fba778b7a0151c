// SPDX-License-Identifier: MIT
// A register written while a load to it is in flight.
KERNEL void kernel(int* out, const int* in) {
  int value;
  asm volatile("global_load_dword %0, %1, off\n"  // fault
               IF_SOUND("s_waitcnt vmcnt(0)\n")
               "v_mov_b32 %0, 0\n s_waitcnt vmcnt(0)"
               : "=&v"(value) : "v"(in + LANE));
  out[LANE] = in[LANE] + (FAULTY ? 0 : value);
}
