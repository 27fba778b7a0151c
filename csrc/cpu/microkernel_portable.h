// SPDX-License-Identifier: MIT
// Micro-kernels in plain C++ for any architecture, on vectors of four floats, which every SIMD
// unit has and compilers lower without one. Included through microkernel.h.
//
// A byte of codes becomes two neighbouring floats by one table look-up, so lanes hold the even and
// the odd k of a column side by side; a row's sums are added up in pairs after each block.
#pragma once

#include "cpu/operands.h"

namespace aiter_moe::cpu::portable {

using F32x4 = float __attribute__((vector_size(16), may_alias));

constexpr int kPairs = kBlock / 2;       // bytes of codes of a column, pairs of k
constexpr int kVectors = kLanes * 2 / 4; // vectors that hold a pair of k of sixteen columns

// fp4 code to twice its value.
constexpr float kDoubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, -0.0f, -1, -2, -3, -4, -6, -8, -12};

struct PairTable {
  float values[256][2];
};

constexpr PairTable make_pairs() {
  PairTable table{};
  for (int byte = 0; byte < 256; ++byte) {
    table.values[byte][0] = kDoubled[byte & 15];
    table.values[byte][1] = kDoubled[byte >> 4];
  }
  return table;
}

constexpr PairTable kPairValues = make_pairs();

// A group of a tile as doubled values, [pair of k][column][k of the pair].
struct Tile {
  alignas(64) float values[kPairs][kLanes][2];
};

inline void decode(const uint8_t* codes, Tile& tile) {
  for (int column = 0; column < kLanes; ++column) {
    for (int pair = 0; pair < kPairs; ++pair) {
      const uint8_t byte = codes[pair / 4 * 64 + column * 4 + pair % 4];
      __builtin_memcpy(tile.values[pair][column], kPairValues.values[byte], 8);
    }
  }
}

// sum[16] = x[32] * tile, without scales and with doubled weights.
AITER_MOE_INLINE void dot(const float* x, const Tile& tile, float (&sum)[kLanes]) {
  F32x4 total[kVectors] = {};
  for (int pair = 0; pair < kPairs; ++pair) {
    const float even = x[2 * pair], odd = x[2 * pair + 1];
    const F32x4 both = {even, odd, even, odd};
    const F32x4* const w = reinterpret_cast<const F32x4*>(tile.values[pair]);
    AITER_MOE_UNROLL
    for (int i = 0; i < kVectors; ++i) total[i] += both * w[i];
  }
  AITER_MOE_UNROLL
  for (int i = 0; i < kVectors; ++i) {
    sum[2 * i] = total[i][0] + total[i][1];
    sum[2 * i + 1] = total[i][2] + total[i][3];
  }
}

inline void clear(float* out, int count) {
  for (int i = 0; i < count * kLanes; ++i) out[i] = 0.0f;
}

// bf16 activations x MXFP4 weights. Prefetch is left to the hardware.
template <int Rows, int>
struct A16W4 {
  static constexpr int kRows = Rows;
  static constexpr int kRowWords = kBlock;
  static constexpr int kActivationBits = 16;

  static long words(int rows, int blocks) { return static_cast<long>(kRowWords) * rows * blocks; }

  // f32 values, [block][row][32].
  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    for (int m = 0; m < count; ++m) {
      const uint16_t* const from = static_cast<const uint16_t*>(rows[m].values);
      for (int block = 0; block < blocks; ++block) {
        uint32_t* const values = to + (static_cast<long>(block) * count + m) * kBlock;
        for (int k = 0; k < kBlock; ++k) {
          values[k] = static_cast<uint32_t>(from[block * kBlock + k]) << 16;
        }
      }
    }
  }

  static void multiply(Panel panel, const uint8_t*, int, BlockRange range, const uint32_t* x,
                       int rows, int groups, float* out) {
    for (int group = 0; group < groups; ++group) {
      multiply_group(panel, group, range, x, rows, out + group * rows * kLanes);
    }
  }

  static void multiply_group(Panel panel, int group, BlockRange range, const uint32_t* x,
                             int count, float* out) {
    const float* values = reinterpret_cast<const float*>(x);
    clear(out, count);
    for (int block = range.begin; block < range.end; ++block, values += count * kBlock) {
      Tile w;
      float scale[kLanes], sum[kLanes];
      const uint8_t* const tile = panel_tile(panel, block);
      const uint8_t* const scales = group_scales(tile, group);
      decode(group_codes(tile, group), w);
      for (int c = 0; c < kLanes; ++c) scale[c] = e8m0_to_f32(scales[c]);
      for (int m = 0; m < count; ++m) {
        dot(values + m * kBlock, w, sum);
        for (int c = 0; c < kLanes; ++c) out[m * kLanes + c] += 0.5f * sum[c] * scale[c];
      }
    }
  }
};

// An e8m0 scale as the product of two powers of about half its exponent. Products of a weight's
// and an activation's factors, first with first and second with second, are powers that f32 holds,
// and applied one after the other they round once, wherever the exponents' sum lies.
struct HalfScales {
  float first;
  float second;
};

inline HalfScales half_scales(int byte, int bias) {
  if (byte == kNanScale) return {__builtin_nanf(""), __builtin_nanf("")};
  const int exponent = byte - bias, half = exponent >> 1;
  return {__builtin_bit_cast(float, (half + 127) << 23),
          __builtin_bit_cast(float, (exponent - half + 127) << 23)};
}

// fp4 activations x MXFP4 weights: block products of doubled values are exact in f32.
template <int Rows, int>
struct A4W4 {
  static constexpr int kRows = Rows;
  static constexpr int kRowWords = kBlock + 2;
  static constexpr int kActivationBits = 4;
  static constexpr int kWeightBias = 127;
  static constexpr int kActivationBias = 129;  // undoes the doubling of both sides

  static long words(int rows, int blocks) { return static_cast<long>(kRowWords) * rows * blocks; }

  // [block][row]: 32 doubled values as f32, then the two factors of the row's scale.
  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    float* values = reinterpret_cast<float*>(to);
    for (int block = 0; block < blocks; ++block) {
      for (int m = 0; m < count; ++m, values += kRowWords) {
        const uint8_t* const codes = static_cast<const uint8_t*>(rows[m].values) + block * kPairs;
        for (int pair = 0; pair < kPairs; ++pair) {
          __builtin_memcpy(values + 2 * pair, kPairValues.values[codes[pair]], 8);
        }
        const HalfScales scale = half_scales(rows[m].scales[block], kActivationBias);
        values[kBlock] = scale.first;
        values[kBlock + 1] = scale.second;
      }
    }
  }

  static void multiply(Panel panel, const uint8_t*, int, BlockRange range, const uint32_t* x,
                       int rows, int groups, float* out) {
    for (int group = 0; group < groups; ++group) {
      multiply_group(panel, group, range, x, rows, out + group * rows * kLanes);
    }
  }

  static void multiply_group(Panel panel, int group, BlockRange range, const uint32_t* x,
                             int count, float* out) {
    const float* values = reinterpret_cast<const float*>(x);
    clear(out, count);
    for (int block = range.begin; block < range.end; ++block) {
      Tile w;
      float first[kLanes], second[kLanes], sum[kLanes];
      const uint8_t* const tile = panel_tile(panel, block);
      const uint8_t* const scales = group_scales(tile, group);
      decode(group_codes(tile, group), w);
      for (int c = 0; c < kLanes; ++c) {
        const HalfScales scale = half_scales(scales[c], kWeightBias);
        first[c] = scale.first;
        second[c] = scale.second;
      }
      for (int m = 0; m < count; ++m, values += kRowWords) {
        dot(values, w, sum);
        const float x_first = values[kBlock], x_second = values[kBlock + 1];
        for (int c = 0; c < kLanes; ++c) {
          out[m * kLanes + c] += sum[c] * (first[c] * x_first) * (second[c] * x_second);
        }
      }
    }
  }
};

}  // namespace aiter_moe::cpu::portable
