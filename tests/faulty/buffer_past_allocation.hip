// SPDX-License-Identifier: MIT
// A descriptor that promises one element more than its tensor has.
KERNEL void kernel(int* out, const int* in) {
  const auto all = BUFFER(in, 256 + 4 * FAULTY);
  out[LANE] = __builtin_amdgcn_raw_buffer_load_b32(all, LANE * 4 + 4 * FAULTY, 0, 0);  // fault
}
