// SPDX-License-Identifier: MIT
// A store in the range of a descriptor that reaches past its tensor.
KERNEL void kernel(int* out, const int* in) {
  const auto all = BUFFER(out, 256 + 4 * FAULTY);
  const int value = in[LANE];
  __builtin_amdgcn_raw_buffer_store_b32(value, all, LANE * 4 + 4 * FAULTY, 0, 0);  // fault
}
