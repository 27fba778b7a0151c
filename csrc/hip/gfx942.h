// SPDX-License-Identifier: MIT
// What gfx942 does in several instructions where gfx950 (gfx950.h, of the same names) has one:
// rows to the LDS through registers, fp4 to bf16 by byte look-ups, matrix products over 16 bf16
// elements. Not here: a4w4, which would need the scaled fp4 matrix instruction.
#pragma once

#include "hip/layout.h"

namespace aiter_moe::hip {

// Bytes of the pair {high, low} by four selectors; 0..3 name bytes of `low`, 4..7 of `high`.
AITER_MOE_DEVICE u32 select_bytes(u32 high, u32 low, u32 selectors) {
  return __builtin_amdgcn_perm(high, low, selectors);
}
constexpr u32 low_halves = 0x05040100, high_halves = 0x07060302;
constexpr u32 even_bytes = 0x06040200, odd_bytes = 0x07050301;

// A lane's 8 elements of the reduction are taken as 0, 2, 4, 6, 1, 3, 5, 7 on both sides: the
// low, then the high nibbles of a dword of codes, which need no interleaving that way. Rows are
// brought into that order once a workgroup, codes are decoded by every wave.
AITER_MOE_DEVICE u32x4 even_elements_first(u32x4 row) {
  return {select_bytes(row.y, row.x, low_halves), select_bytes(row.w, row.z, low_halves),
          select_bytes(row.y, row.x, high_halves), select_bytes(row.w, row.z, high_halves)};
}

AITER_MOE_DEVICE u32x4 in_decoder_order(u32x4 row) { return even_elements_first(row); }

// The rows of a step that a wave has requested: in registers until they land, since a load
// straight to the LDS moves 4 bytes a lane at most.
template <int Requests, int Pitch = fragment_bytes> struct GatheredRows {
  static constexpr bool through_registers = true;
  u32x4 row[Requests];

  AITER_MOE_DEVICE static Buffer source(Buffer rows) { return rows; }
  template <int I> AITER_MOE_DEVICE static int lane_offset(int offset) { return offset; }

  template <int I>
  AITER_MOE_DEVICE void request(Buffer b, AITER_MOE_LDS u8*, int vector, int scalar) {
    row[I] = load128(b, vector, scalar);
  }
  // Returns once the rows lie in the LDS. The wait for their loads is the compiler's.
  template <int Later> AITER_MOE_DEVICE void land(AITER_MOE_LDS u8* lds) const {
    unroll<Requests>([&]<int i>() {
      *(AITER_MOE_LDS u32x4*)(lds + i * Pitch + lane() * 16) =
          even_elements_first(not_before(row[i]));
    });
    wait_lds();
  }
};

// Where gathered bf16 rows lie in a stage of the LDS: a fragment is an MX block of 16 rows, lane l
// fetches and reads row l % 16, its 16 bytes l / 16. 8 such pieces of a row are 8 fragments.
struct RowLayout {
  static constexpr int pitch = fragment_bytes;
  static constexpr int sharing = step_blocks;  // consecutive fragments of the same rows
  static constexpr int pieces_at_a_time(int row_tiles) { return row_tiles == 1 ? 2 : 1; }

  AITER_MOE_DEVICE static int row(int fragment) {
    return fragment / step_blocks * 16 + row_of_lane();
  }
  AITER_MOE_DEVICE static int block(int fragment) { return fragment % step_blocks; }
  AITER_MOE_DEVICE static int piece() { return quarter_of_lane(); }
  // Where a lane reads row l % 16 of the first tile, block l / 16, its first 16 bytes; and how
  // much further row tile m, half of the step and piece j are.
  AITER_MOE_DEVICE static int first() {
    return quarter_of_lane() * fragment_bytes + row_of_lane() * 16;
  }
  static constexpr int further(int m, int half, int j) {
    return (step_blocks * m + 4 * half) * fragment_bytes + j * 256;
  }
};

// The 8 fp4 codes of a dword times the power of two of their block, as 8 bf16. The magnitudes
// times the scale are kept as two tables of bytes, made once for the 32 codes of a block: a
// selector of 3 bits finds a byte among 8. Every product is exact, subnormal ones (scale byte 0 is
// 2^-127) included; past bf16's range it is infinite, and under the NaN scale (byte 255) every
// code is NaN. The measure is what the convert instruction of gfx950 is emulated to do.
struct Fp4Decoder {
  static constexpr int ahead = 0;  // fragments decoded before their matrix instructions
  u32 low[2];   // less significant bytes of magnitudes 0..3, 4..7
  u32 high[2];

  AITER_MOE_DEVICE u32x4 operator()(u32 codes) const {
    const u32x2 even = four(codes, codes << 4), odd = four(codes >> 4, codes);
    return {even.x, even.y, odd.x, odd.y};
  }
  // Magnitudes by the low 3 bits of each byte of `codes`, signs by the top bits of `signs`.
  AITER_MOE_DEVICE u32x2 four(u32 codes, u32 signs) const {
    constexpr u32 sign = 0x80808080u;
    const u32 which = codes & 0x07070707u;
    const u32 magnitude = select_bytes(high[1], high[0], which);
    const u32 upper = (signs & sign) | (magnitude & ~sign);
    const u32 lower = select_bytes(low[1], low[0], which);
    return {select_bytes(upper, lower, 0x05010400), select_bytes(upper, lower, 0x07030602)};
  }
};

template <int Byte> AITER_MOE_DEVICE Fp4Decoder fp4_decoder(u32 scales) {
  constexpr u32 least = 0x00400000u;  // 2^-127, which is what scale byte 0 means
  const u32 exponent = scale_exponent<Byte>(scales);
  const float scale = __builtin_bit_cast(float, __builtin_elementwise_max(exponent, least));
  const float zero = 0.0f * scale;  // NaN if the scale is, and then all that is added to it
  const auto times = [&](float a, float b) {
    // As a whole: clang takes the first element for any other in a bit cast of one element.
    const u32x2 product = __builtin_bit_cast(u32x2, __builtin_elementwise_fma(
        f32x2{a, b}, f32x2{scale, scale}, f32x2{zero, zero}));
    return select_bytes(product.y, product.x, high_halves);
  };
  const u32 first = times(0.0f, 0.5f), second = times(1.0f, 1.5f);
  const u32 third = times(2.0f, 3.0f), fourth = times(4.0f, 6.0f);
  return {{select_bytes(second, first, even_bytes), select_bytes(fourth, third, even_bytes)},
          {select_bytes(second, first, odd_bytes), select_bytes(fourth, third, odd_bytes)}};
}

// 16x16x32 product of bf16 operands as two of 16x16x16: lane l holds 8 elements of row (column)
// l % 16, the first 4 of them in the first product.
AITER_MOE_DEVICE f32x4 mfma_bf16(u32x4 a, u32x4 b, f32x4 c) {
  const auto half = [](u32x2 v) { return __builtin_bit_cast(i16x4, v); };
  c = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(half(a.xy), half(b.xy), c, 0, 0, 0);
  return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(half(a.zw), half(b.zw), c, 0, 0, 0);
}

}  // namespace aiter_moe::hip
