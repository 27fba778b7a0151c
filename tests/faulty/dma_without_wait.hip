// SPDX-License-Identifier: MIT
// LDS that is read before the wait for the load that fills it.
KERNEL void kernel(int* out, const int* in) {
  SHARED int tile[64];
  __builtin_amdgcn_raw_ptr_buffer_load_lds(
      BUFFER(in, 256), (LDS)tile, 4, LANE * 4, 0, 0, 0);
  int value;
  asm volatile(IF_SOUND("s_waitcnt vmcnt(0)\n")  // fault
               "ds_read_b32 %0, %1\n s_waitcnt vmcnt(0) lgkmcnt(0)"
               : "=v"(value) : "v"(LDS_ADDRESS(&tile[LANE])) : "memory");
  out[LANE] = value;
}
