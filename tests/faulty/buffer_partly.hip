// SPDX-License-Identifier: MIT
// A load of 8 bytes across the end of a descriptor.
typedef u32 u32x2 __attribute__((ext_vector_type(2)));
KERNEL void kernel(u32* out, const u32* in) {
  const auto all = BUFFER(in, 256 - 4 * FAULTY);
  const u32 pair = LANE % 32;
  const u32x2 two = __builtin_amdgcn_raw_buffer_load_b64(all, pair * 8, 0, 0);  // fault
  out[2 * pair] = two.x;
  out[2 * pair + 1] = two.y;
}
