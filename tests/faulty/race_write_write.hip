// SPDX-License-Identifier: MIT
// Two waves write the same LDS, without a barrier between.
KERNEL void kernel(int* out, const int* in) {
  SHARED int volatile tile[128];
  tile[FAULTY ? LANE % 64 : LANE] = in[LANE];  // fault
  BARRIER();
  out[LANE] = tile[FAULTY ? LANE % 64 : LANE];
}
