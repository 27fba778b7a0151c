// SPDX-License-Identifier: MIT
// v_trig_preop_f64: 53 bits of 2/pi from where they matter for an argument, for the reduction of
// large angles.
#pragma once

#include "emulator/exec/vector_float.h"

namespace aiter_moe::emulator::vector {

// 2/pi, highest bits first.
constexpr int inverse_pi_words = 38;
constexpr u32 inverse_pi[inverse_pi_words] = {
    0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561,
    0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e, 0xe88235f5, 0x2ebb4484,
    0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4, 0x9c845f8b, 0xbdf9283b, 0x1ff897ff, 0xde05980f,
    0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7, 0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b,
    0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1, 0x1f8d5d08, 0x56033046, 0xfc7b6bab,
};

// Bits behind the binary point number `first` and following, as an integer of 53 bits.
inline u64 inverse_pi_bits(u32 first) {
  const u32 word = first >> 5, shift = first & 31;
  if (word + 2 >= inverse_pi_words) return 0;
  const u64 high = static_cast<u64>(inverse_pi[word]) << 32 | inverse_pi[word + 1];
  const u64 low = static_cast<u64>(inverse_pi[word + 2]) << 32;
  return (shift ? high << shift | low >> (64 - shift) : high) >> 11;
}

// Segment n of 53 bits; large arguments skip bits that only add whole turns, and the largest are
// expected to have been scaled down by 2^128.
inline f64 inverse_pi_segment(f64 a, u32 segment) {
  const u32 exponent = static_cast<u32>(as<u64>(a) >> 52 & 0x7ff);
  const u32 first = (segment & 31) * 53 + (exponent > 1077 ? exponent - 1077 : 0);
  const i32 scale = -53 - static_cast<i32>(first) + (exponent >= 1968 ? 128 : 0);
  return scale_double_by_power(static_cast<f64>(inverse_pi_bits(first)), scale);
}

}  // namespace aiter_moe::emulator::vector
