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

}  // namespace aiter_moe::cpu::portable
