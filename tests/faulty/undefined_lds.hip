// SPDX-License-Identifier: MIT
// LDS that one lane reads and no lane has written.
KERNEL void kernel(int* out, const int* in) {
  SHARED int tile[64];
  if (LANE < 64 - FAULTY) tile[LANE] = in[LANE];
  BARRIER();
  out[LANE] = tile[LANE];  // fault
}
