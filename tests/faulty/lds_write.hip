// SPDX-License-Identifier: MIT
// A write past the end of the workgroup's LDS.
KERNEL void kernel(int* out, const int* in) {
  SHARED int tile[64];
  tile[LANE] = in[LANE];
  asm volatile("ds_write_b32 %0, %1 offset:%2\n s_waitcnt lgkmcnt(0)"  // fault
               :: "v"(LDS_ADDRESS(&tile[LANE])), "v"(in[LANE]), "n"(256 * FAULTY) : "memory");
  out[LANE] = tile[LANE];
}
