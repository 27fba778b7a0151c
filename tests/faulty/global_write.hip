// SPDX-License-Identifier: MIT
// A store one element past the end of its tensor.
KERNEL void kernel(int* out, const int* in) {
  out[LANE + FAULTY] = in[LANE];  // fault
}
