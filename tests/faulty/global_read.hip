// SPDX-License-Identifier: MIT
// A load one element past the end of its tensor.
KERNEL void kernel(int* out, const int* in) {
  out[LANE] = in[LANE + FAULTY];  // fault
}
