// SPDX-License-Identifier: MIT
// One wave reads what another writes, without a barrier between.
KERNEL void kernel(int* out, const int* in) {
  SHARED int tile[128];
  tile[LANE ^ 64] = 0;
  BARRIER();
  tile[LANE] = in[LANE];  // fault
  if (!FAULTY) BARRIER();
  out[LANE ^ 64] = tile[LANE ^ 64];  // fault
}
