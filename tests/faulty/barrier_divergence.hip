// SPDX-License-Identifier: MIT
// A barrier that one of two waves does not reach.
KERNEL void kernel(int* out, const int* in) {
  const u32 wave = __builtin_amdgcn_readfirstlane(LANE / 64);
  out[LANE] = in[LANE];
  if (!FAULTY || wave == 0) __builtin_amdgcn_s_barrier();  // fault
}
