// SPDX-License-Identifier: MIT
// MXFP4 quantisation by aiter's default rule (RoundUp), the pieces: the scale of a block from its
// largest magnitude, and fp4 codes of values under a scale. Every input gives the bits of
// csrc/cpu/runtime/quantise.h; codes of a block that holds an infinity or NaN are 0.
// Not here: who finds the largest magnitude, and where codes and scales go.
#pragma once

#include "hip/runtime.h"

namespace aiter_moe::hip {

constexpr u32 nan_scale = 255;

AITER_MOE_DEVICE u32 bits_of(float value) { return __builtin_bit_cast(u32, value); }
AITER_MOE_DEVICE float float_of(u32 bits) { return __builtin_bit_cast(float, bits); }

// Magnitudes order as integers, an infinity or NaN above all others.
AITER_MOE_DEVICE u32 magnitude_bits(float value) { return bits_of(value) & 0x7fffffffu; }
AITER_MOE_DEVICE u32 larger(u32 a, u32 b) { return a > b ? a : b; }

// The larger magnitudes of two pairs of bf16, and the magnitude of the larger of a pair as f32.
AITER_MOE_DEVICE u32 larger_pair(u32 a, u32 b) {
  typedef u16 u16x2 __attribute__((ext_vector_type(2)));
  return __builtin_bit_cast(u32, __builtin_elementwise_max(
      __builtin_bit_cast(u16x2, a & 0x7fff7fffu), __builtin_bit_cast(u16x2, b & 0x7fff7fffu)));
}
AITER_MOE_DEVICE u32 larger_of_pair(u32 pair) {
  return larger(pair << 16, pair & 0xffff0000u) & 0x7fff0000u;
}

// The e8m0 byte of a block: the least power of two that is no less than a sixth of the largest
// magnitude. The quotient, rounded to f32, is a power of two exactly where the dividend is 6 times
// one, so that no division is needed; below 2^-126 it is a subnormal number, which counts as
// 2^-126, or, of the three least dividends, zero.
AITER_MOE_DEVICE u32 round_up_scale(u32 largest_bits) {
  const int quotient = static_cast<int>((largest_bits + 0x3fffffu) >> 23) - 2;
  const int least = largest_bits > 3 ? 1 : 0;
  const u32 scale = static_cast<u32>(quotient > least ? quotient : least);
  return largest_bits >= 0x7f800000u ? nan_scale : scale;
}

// fp4 codes of values that share a scale byte: to nearest, ties to even, saturating; the sign is
// kept, also of what becomes zero. Even elements are in the low halves of bytes.
#if defined(__gfx950__)

struct Fp4Encoder {
  float scale;  // the instruction reads its exponent bits alone
  u32 kept;     // no bit of codes under the NaN scale

  template <int Byte> AITER_MOE_DEVICE u32 put(u32 codes, float low, float high) const {
    return __builtin_amdgcn_cvt_scalef32_pk_fp4_f32(codes, low, high, scale, Byte);
  }
  template <int Byte> AITER_MOE_DEVICE u32 put(u32 codes, u32 bf16_pair) const {
    typedef __bf16 bf16x2 __attribute__((ext_vector_type(2)));
    return __builtin_amdgcn_cvt_scalef32_pk_fp4_bf16(
        codes, __builtin_bit_cast(bf16x2, bf16_pair), scale, Byte);
  }
  AITER_MOE_DEVICE u32 finish(u32 codes) const { return codes & kept; }
};

AITER_MOE_DEVICE Fp4Encoder fp4_encoder(u32 scale) {
  return {float_of(scale << 23), scale == nan_scale ? 0 : ~0u};
}

#else

struct Fp4Encoder {
  float inverse;
  u32 kept;

  AITER_MOE_DEVICE u32 code(float value) const {
    const u32 bits = bits_of(value * inverse);
    const u32 size = bits & 0x7fffffffu;
    // From 1 on: round the mantissa to one bit; exponent and mantissa then count codes up from 2.
    const u32 large = ((size + 0x1fffffu + (size >> 22 & 1u)) >> 22) - (2 * 127 - 2);
    // Below 1: adding 2^22 rounds to a multiple of a half, counted in the low bits.
    const u32 small = bits_of(float_of(size) + float_of(0x4a800000u)) - 0x4a800000u;
    const u32 found = size < 0x3f800000u ? small : large;
    return (found < 7 ? found : 7) | (bits >> 28 & 8u);
  }
  template <int Byte> AITER_MOE_DEVICE u32 put(u32 codes, float low, float high) const {
    return codes | (code(low) | code(high) << 4) << (8 * Byte);
  }
  template <int Byte> AITER_MOE_DEVICE u32 put(u32 codes, u32 bf16_pair) const {
    return put<Byte>(codes, float_of(bf16_pair << 16), float_of(bf16_pair & 0xffff0000u));
  }
  AITER_MOE_DEVICE u32 finish(u32 codes) const { return codes & kept; }
};

// The inverse of scale 254 would be subnormal; no finite block has that scale.
AITER_MOE_DEVICE Fp4Encoder fp4_encoder(u32 scale) {
  return {float_of((254u - scale) << 23), scale == nan_scale ? 0 : ~0u};
}

#endif

// 8 values as a dword of codes.
AITER_MOE_DEVICE u32 fp4_dword(u32x4 bf16_pairs, u32 scale) {
  const Fp4Encoder encoder = fp4_encoder(scale);
  u32 codes = 0;
  unroll<4>([&]<int i>() { codes = encoder.put<i>(codes, bf16_pairs[i]); });
  return encoder.finish(codes);
}
AITER_MOE_DEVICE u32 fp4_dword(const float (&values)[8], u32 scale) {
  const Fp4Encoder encoder = fp4_encoder(scale);
  u32 codes = 0;
  unroll<4>([&]<int i>() { codes = encoder.put<i>(codes, values[2 * i], values[2 * i + 1]); });
  return encoder.finish(codes);
}

}  // namespace aiter_moe::hip
