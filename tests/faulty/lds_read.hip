// SPDX-License-Identifier: MIT
// A read past the end of the workgroup's LDS.
KERNEL void kernel(int* out, const int* in) {
  SHARED int tile[64];
  tile[LANE] = in[LANE];
  BARRIER();
  int value;
  asm volatile("ds_read_b32 %0, %1 offset:%2\n s_waitcnt lgkmcnt(0)"  // fault
               : "=v"(value) : "v"(LDS_ADDRESS(&tile[LANE])), "n"(4 * FAULTY) : "memory");
  out[LANE] = value;
}
