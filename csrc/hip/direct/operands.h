// SPDX-License-Identifier: MIT
// What a wave multiplies in a step of 256 elements: weight tiles of 16 rows, and 16 gathered rows
// straight from memory in registers. A lane holds MX block q = lane / 16 of a half step of its row,
// which is the operand of the scaled fp4 instruction, and, 8 elements at a time, that of the bf16
// one: so a lane quantises its blocks by itself. Not here: which steps (stream.h).
#pragma once

#include "hip/architecture.h"
#include "hip/direct/routing.h"
#include "hip/mxfp4.h"

namespace aiter_moe::hip::direct {

// Which blocks of a step a lane may read: q of the first half, q + 4 of the second.
struct Mask {
  bool first;
  bool second;

  // `left` MX blocks are left from the start of the step.
  static AITER_MOE_DEVICE Mask of(int left) {
    return {quarter_of_lane() < left, quarter_of_lane() + 4 < left};
  }
  AITER_MOE_DEVICE u32 scale_bytes() const { return second ? 0xffffffffu : 0xffffu; }
};

// Where the weight tiles of a wave lie in those of any expert.
template <int Tiles> struct TilePlaces {
  int code[Tiles];
  int scale[Tiles];
  int shift[Tiles];  // brings the scales of the tile to bytes 0 (first half) and 2 (second half)

  template <class TileOf>
  static AITER_MOE_DEVICE TilePlaces of(const StageArgs& a, TileOf tile_of) {
    TilePlaces p;
    unroll<Tiles>([&]<int t>() {
      const int tile = uniform(tile_of(t));
      p.code[t] = w_tile_offset(tile, a.w_k);
      p.scale[t] = s_strip_offset(tile / 2, a.w_scale_cols);
      p.shift[t] = tile % 2 * 8;
    });
    return p;
  }
};

template <int Tiles> struct WeightTiles {
  u32x4 code[Tiles][2];
  u32 scale[Tiles];

  template <int Hint>
  AITER_MOE_DEVICE void request(
      Buffer codes, Buffer scales, const TilePlaces<Tiles>& places, Mask mask, int step) {
    const int first = mask.first ? lane() * 16 : outside;
    const int second = mask.second ? lane() * 16 + w_half_bytes : outside;
    const int dword = mask.first ? lane() * 4 : outside;
    unroll<Tiles>([&]<int t>() {
      scale[t] = load32(scales, dword, places.scale[t] + step * s_step_bytes);
      const int base = places.code[t] + step * w_step_bytes;
      code[t][0] = load128<Hint>(codes, first, base);
      code[t][1] = load128<Hint>(codes, second, base);
    });
  }
  // Past the end scales are padding of unknown value.
  AITER_MOE_DEVICE u32 scales_of(int t, const TilePlaces<Tiles>& places, Mask mask) const {
    return (not_before(scale[t]) & mask.scale_bytes()) >> places.shift[t];
  }
};

// One MX block of 16 rows as the scaled fp4 instruction takes it; the scale is in byte 0.
struct Fp4Operand {
  u32x4 code;
  u32 scale;
};

// Rows in memory: elements, and e8m0 scales by row where the elements are codes.
struct RowSource {
  Buffer values;
  Buffer scales;
};

// The byte offsets of a lane's row, `outside` where the block has none.
struct RowPlace {
  int values;
  int scales;
};

// 16-bit floats of two blocks of a row: 64 bytes each.
template <ElementType Type> struct WideRows {
  u32x4 piece[2][4];

  static AITER_MOE_DEVICE RowSource source(const StageArgs& a, int rows) {
    return {{a.x, rows * a.x_stride * 2}, {}};
  }
  static AITER_MOE_DEVICE RowPlace place(const StageArgs& a, int row) {
    return {times(row, a.x_stride * 2) + quarter_of_lane() * 64, 0};
  }
  AITER_MOE_DEVICE void request(const RowSource& x, RowPlace place, Mask mask, int step) {
    const int first = mask.first ? place.values : outside;
    const int second = mask.second ? place.values + 256 : outside;
    unroll<4>([&]<int j>() { piece[0][j] = load128(x.values, first + j * 16, step * 512); });
    unroll<4>([&]<int j>() { piece[1][j] = load128(x.values, second + j * 16, step * 512); });
  }
  template <int Half, int J> AITER_MOE_DEVICE u32x4 bf16() const {
    return in_decoder_order(piece[Half][J]);
  }
  template <int Half> AITER_MOE_DEVICE Fp4Operand fp4(Mask) const {
    u32x4 own[4];
    u32 most = 0;
    unroll<4>([&]<int j>() {
      own[j] = not_before(piece[Half][j]);
      unroll<4>([&]<int i>() { most = larger_pair(most, own[j][i]); });
    });
    Fp4Operand out;
    if constexpr (Type == ElementType::bf16) {
      out.scale = round_up_scale(larger_of_pair(most));
      unroll<4>([&]<int j>() { out.code[j] = fp4_dword(own[j], out.scale); });
    } else {
      const u32 half = larger(most & 0xffffu, most >> 16);
      out.scale = round_up_scale(bits_of(from_f16(half)));
      unroll<4>([&]<int j>() {
        float values[8];
        unroll<8>([&]<int i>() { values[i] = from_f16(own[j][i / 2] >> (i % 2 * 16)); });
        out.code[j] = fp4_dword(values, out.scale);
      });
    }
    return out;
  }
  static AITER_MOE_DEVICE float from_f16(u32 bits) {
    return static_cast<float>(__builtin_bit_cast(_Float16, static_cast<u16>(bits)));
  }
};

// fp4 codes of two blocks, 16 bytes each, and their scales: a byte each, or, where rows of scales
// begin at multiples of 8, the dwords that hold those of all 4 blocks of a half step. The compiler
// waits for bytes at the end of a round of its loop.
template <bool ScaleDwords> struct CodeRows {
  u32x4 code[2];
  u32x2 scale;

  static AITER_MOE_DEVICE RowSource source(const StageArgs& a, int rows) {
    return {{a.x, rows * (a.x_stride / 2)}, {a.x_scale, rows * a.x_scale_stride}};
  }
  static AITER_MOE_DEVICE RowPlace place(const StageArgs& a, int row) {
    return {times(row, a.x_stride / 2) + quarter_of_lane() * 16,
            times(row, a.x_scale_stride) + (ScaleDwords ? 0 : quarter_of_lane())};
  }
  AITER_MOE_DEVICE void request(const RowSource& x, RowPlace place, Mask mask, int step) {
    const int first = mask.first ? place.scales : outside, from = step * step_blocks;
    if constexpr (ScaleDwords) {
      scale = load64(x.scales, first, from);
    } else {
      scale[0] = load8(x.scales, first, from);
      scale[1] = load8(x.scales, mask.second ? place.scales + 4 : outside, from);
    }
    code[0] = load128(x.values, mask.first ? place.values : outside, step * (step_k / 2));
    code[1] = load128(x.values, mask.second ? place.values + 64 : outside, step * (step_k / 2));
  }
  // Past the end dwords hold padding of unknown value.
  template <int Half> AITER_MOE_DEVICE Fp4Operand fp4(Mask mask) const {
    const u32 own = not_before(scale[Half]);
    if constexpr (!ScaleDwords) return {code[Half], own};
    return {code[Half], Half == 0 || mask.second ? own >> (8 * quarter_of_lane()) : 0};
  }
};

// sums[t] += weight tile t times the rows, over one step.
struct A16W4 {
  static constexpr bool quantises = false;

  template <int Tiles, class Rows>
  static AITER_MOE_DEVICE void multiply(
      f32x4 (&sums)[Tiles], const WeightTiles<Tiles>& weights, const TilePlaces<Tiles>& places,
      const Rows& rows, Mask mask) {
    u32 scales[Tiles];
    unroll<Tiles>([&]<int t>() { scales[t] = weights.scales_of(t, places, mask); });
    unroll<2>([&]<int half>() {
      Fp4Decoder decoded[Tiles];
      u32x4 codes[Tiles];
      unroll<Tiles>([&]<int t>() {
        decoded[t] = fp4_decoder<2 * half>(scales[t]);
        codes[t] = not_before(weights.code[t][half]);
      });
      unroll<4>([&]<int j>() {
        const u32x4 row = rows.template bf16<half, j>();
        unroll<Tiles>(
            [&]<int t>() { sums[t] = mfma_bf16(decoded[t](codes[t][j]), row, sums[t]); });
      });
    });
  }
};

#ifdef __gfx950__
struct A4W4 {
  static constexpr bool quantises = true;

  template <int Tiles, class Rows>
  static AITER_MOE_DEVICE void multiply(
      f32x4 (&sums)[Tiles], const WeightTiles<Tiles>& weights, const TilePlaces<Tiles>& places,
      const Rows& rows, Mask mask) {
    u32 scales[Tiles];
    unroll<Tiles>([&]<int t>() { scales[t] = weights.scales_of(t, places, mask); });
    unroll<2>([&]<int half>() {
      const Fp4Operand own = rows.template fp4<half>(mask);
      unroll<Tiles>([&]<int t>() {
        sums[t] = mfma_fp4<2 * half, 0>(
            weights.code[t][half], own.code, sums[t], scales[t], own.scale);
      });
    });
  }
};
#endif

}  // namespace aiter_moe::hip::direct
