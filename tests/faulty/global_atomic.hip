// SPDX-License-Identifier: MIT
// An atomic one element past the end of its tensor.
KERNEL void kernel(int* out, const int* in) {
  __hip_atomic_fetch_add(&out[LANE + FAULTY], in[LANE], __ATOMIC_RELAXED,  // fault
                         __HIP_MEMORY_SCOPE_AGENT);
}
