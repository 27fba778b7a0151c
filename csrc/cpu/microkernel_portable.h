// SPDX-License-Identifier: MIT
// Micro-kernels in plain C++ for any architecture: loops over sixteen columns that compilers
// vectorise for whatever the flags allow. Included through microkernel.h.
#pragma once

#include "cpu/operands.h"

namespace aiter_moe::cpu::portable {

// fp4 code 0..7 to twice its value (0 1 2 3 4 6 8 12, a convex piecewise line), with sign bit 3.
inline float doubled_fp4(int code) {
  const int c = code & 7;
  const int low = c > 2 * c - 4 ? c : 2 * c - 4;
  const int value = low > 4 * c - 16 ? low : 4 * c - 16;
  return static_cast<float>(code & 8 ? -value : value);
}

// A W tile as doubled values, [32 k][16 columns].
inline void decode(const uint8_t* codes, float (&w)[kBlock][kLanes]) {
  for (int byte = 0; byte < kTileRows; ++byte) {
    int column[kLanes];
    for (int c = 0; c < kLanes; ++c) column[c] = codes[c * 16 + byte];
    for (int c = 0; c < kLanes; ++c) w[2 * byte][c] = doubled_fp4(column[c] & 15);
    for (int c = 0; c < kLanes; ++c) w[2 * byte + 1][c] = doubled_fp4(column[c] >> 4);
  }
}

inline void dot(const float* x, const float (&w)[kBlock][kLanes], float (&sum)[kLanes]) {
  F32 total{};
  for (int k = 0; k < kBlock; ++k) total += x[k] * load(w[k]);
  store(sum, total);
}

inline void load_scale_bytes(const WeightTile& tile, int block, uint8_t (&bytes)[kLanes]) {
  const uint8_t* const line = scale_line(tile, block) + scale_shift(tile, block) / 8;
  for (int c = 0; c < kLanes; ++c) bytes[c] = line[4 * c];
}

// bf16 activations x MXFP4 weights. `Ahead` is the AVX-512 kernels' prefetch distance, unused.
template <int Ahead>
struct A16W4 {
  static constexpr int kRows = 16;
  static constexpr int kRowWords = kBlock;
  static constexpr int kActivationBits = 16;

  static long words(int rows, int blocks) { return long{kRowWords} * rows * blocks; }

  // f32 values, [block][row][32].
  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    for (int m = 0; m < count; ++m) {
      const uint16_t* const from = static_cast<const uint16_t*>(rows[m].values);
      for (int k = 0; k < blocks * kBlock; ++k) {
        const long place = (static_cast<long>(k / kBlock) * count + m) * kBlock + k % kBlock;
        to[place] = uint32_t{from[k]} << 16;
      }
    }
  }

  static void multiply(const WeightTile& tile, const uint8_t*, BlockRange range, const uint32_t* x,
                       int count, float* out) {
    const float* values = reinterpret_cast<const float*>(x);
    for (int i = 0; i < count * kLanes; ++i) out[i] = 0.0f;
    for (int block = range.begin; block < range.end; ++block, values += count * kBlock) {
      float w[kBlock][kLanes], scale[kLanes];
      uint8_t bytes[kLanes];
      decode(tile.codes + static_cast<long>(block) * kTileBytes, w);
      load_scale_bytes(tile, block, bytes);
      for (int c = 0; c < kLanes; ++c) scale[c] = e8m0_to_f32(bytes[c]);
      for (int m = 0; m < count; ++m) {
        float sum[kLanes];
        dot(values + m * kBlock, w, sum);
        for (int c = 0; c < kLanes; ++c) out[m * kLanes + c] += 0.5f * sum[c] * scale[c];
      }
    }
  }
};

// x * w * 2^(exponent) for exponents of two added scale bytes less 256, in two factors that are
// normal numbers, so that neither over- nor underflows before the product does.
inline float scale_by(float value, int exponent) {
  const int bounded = exponent > -252 ? exponent : -252;
  const int half = bounded >> 1;
  const float first = __builtin_bit_cast(float, (half + 127) << 23);
  const float second = __builtin_bit_cast(float, (bounded - half + 127) << 23);
  return value * first * second;
}

// fp4 activations x MXFP4 weights: products of doubled values are exact in f32.
template <int Ahead>
struct A4W4 {
  static constexpr int kRows = 16;
  static constexpr int kRowWords = kBlock + 1;
  static constexpr int kActivationBits = 4;

  static long words(int rows, int blocks) { return long{kRowWords} * rows * blocks; }

  // Per block: doubled values as f32 [row][32], then the scale byte of every row.
  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    for (int block = 0; block < blocks; ++block, to += count * kRowWords) {
      for (int m = 0; m < count; ++m) {
        const uint8_t* const codes =
            static_cast<const uint8_t*>(rows[m].values) + block * (kBlock / 2);
        for (int byte = 0; byte < kBlock / 2; ++byte) {
          uint32_t* const pair = to + m * kBlock + 2 * byte;
          pair[0] = __builtin_bit_cast(uint32_t, doubled_fp4(codes[byte] & 15));
          pair[1] = __builtin_bit_cast(uint32_t, doubled_fp4(codes[byte] >> 4));
        }
        to[count * kBlock + m] = rows[m].scales[block];
      }
    }
  }

  static void multiply(const WeightTile& tile, const uint8_t*, BlockRange range, const uint32_t* x,
                       int count, float* out) {
    for (int i = 0; i < count * kLanes; ++i) out[i] = 0.0f;
    for (int block = range.begin; block < range.end; ++block, x += count * kRowWords) {
      float w[kBlock][kLanes];
      uint8_t bytes[kLanes];
      decode(tile.codes + static_cast<long>(block) * kTileBytes, w);
      load_scale_bytes(tile, block, bytes);
      for (int m = 0; m < count; ++m) {
        const int x_byte = static_cast<int>(x[count * kBlock + m]);
        float sum[kLanes];
        dot(reinterpret_cast<const float*>(x) + m * kBlock, w, sum);
        for (int c = 0; c < kLanes; ++c) {
          const bool nan = x_byte == kNanScale || bytes[c] == kNanScale;
          const float product = scale_by(sum[c], bytes[c] + x_byte - 256);
          out[m * kLanes + c] += nan ? __builtin_nanf("") : product;
        }
      }
    }
  }
};

}  // namespace aiter_moe::cpu::portable
