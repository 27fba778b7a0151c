// SPDX-License-Identifier: MIT
// A barrier that is reached before a write to the LDS has landed.
KERNEL void kernel(int* out, const int* in) {
  SHARED int tile[128];
  tile[LANE] = 0;
  BARRIER();
  asm volatile("ds_write_b32 %0, %1\n"  // fault
               IF_SOUND("s_waitcnt lgkmcnt(0)\n")
               "s_barrier"
               :: "v"(LDS_ADDRESS(&tile[LANE])), "v"(in[LANE]) : "memory");
  out[LANE ^ 64] = tile[LANE ^ 64];  // fault
}
