// SPDX-License-Identifier: MIT
// What was read from the LDS, used before the wait for it.
KERNEL void kernel(int* out, const int* in) {
  SHARED int tile[64];
  tile[LANE] = in[LANE];
  BARRIER();
  int value;
  asm volatile("ds_read_b32 %0, %1\n"  // fault
               IF_SOUND("s_waitcnt lgkmcnt(0)\n")
               "v_add_u32 %0, 0, %0\n s_waitcnt lgkmcnt(0)"
               : "=&v"(value) : "v"(LDS_ADDRESS(&tile[LANE])) : "memory");
  out[LANE] = value;
}
