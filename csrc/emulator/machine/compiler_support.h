// SPDX-License-Identifier: MIT
// Functions that compilers call where a portable build has no instruction, and that live in a
// library freestanding code goes without.
#pragma once

#include "emulator/isa/instruction.h"

#if defined(__x86_64__) && !defined(__POPCNT__)

extern "C" int __popcountdi2(long word) {
  using aiter_moe::emulator::u64;
  u64 x = static_cast<u64>(word);
  x -= x >> 1 & 0x5555555555555555;
  x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
  x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F;
  return static_cast<int>(x * 0x0101010101010101 >> 56);
}

#endif
