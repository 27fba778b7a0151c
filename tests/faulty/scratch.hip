// SPDX-License-Identifier: MIT
// A read past the end of a lane's private memory.
KERNEL void kernel(int* out, const int* in) {
  int volatile own[16];
  u32 index = LANE % 16;
  own[index] = in[LANE];
  asm volatile("v_add_u32 %0, %1, %0" : "+v"(index) : "n"(4096 * FAULTY));
  out[LANE] = own[index];  // fault
}
