// SPDX-License-Identifier: MIT
// A word that is no instruction: a scalar operation nobody has defined.
KERNEL void kernel(int* out, const int* in) {
  out[LANE] = in[LANE];
  asm volatile(IF_SOUND("s_nop 0") IF_FAULTY(".long 0xbe807f80"));  // fault
}
