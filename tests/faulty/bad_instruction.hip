// SPDX-License-Identifier: MIT
// A read of a hardware register that is not there.
KERNEL void kernel(int* out, const int* in) {
  out[LANE] = in[LANE];
  asm volatile("s_getreg_b32 s80, hwreg(" IF_SOUND("1") IF_FAULTY("31") ")" ::: "s80");  // fault
}
