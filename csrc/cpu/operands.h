// SPDX-License-Identifier: MIT
// What drivers hand to micro-kernels beside weight tiles, and the scale format both know.
#pragma once

#include "cpu/layout.h"
#include "cpu/vector.h"

namespace aiter_moe::cpu {

// One activation row as the caller has it: bf16 without scales, or fp4 codes with e8m0 scales.
struct RowSource {
  const void* values;
  const uint8_t* scales;
};

// Blocks of 32 elements [begin, end) of the reduction.
struct BlockRange {
  int begin;
  int end;
};

constexpr int kNanScale = 255;

// 2^(byte - 127) as e8m0 has it: byte 0 is a denormal, byte 255 NaN.
inline float e8m0_to_f32(int byte) {
  const uint32_t bits = byte == 0           ? 0x00400000u
                        : byte == kNanScale ? 0x7FC00000u
                                            : static_cast<uint32_t>(byte) << 23;
  return __builtin_bit_cast(float, bits);
}

}  // namespace aiter_moe::cpu
