// SPDX-License-Identifier: MIT
// Where the bytes of weights and scales lie, seen from a wave of 64 lanes: the address maps W
// (codes, 16-row tiles of 16 bytes), S (scales, 32-row tiles of 8 columns) and the strips of 32
// weight rows a wave owns. Not here: activations, which are gathered (a4w4_tile.h, a16w4_tile.h).
#pragma once

#include "common/stage_args.h"
#include "hip/runtime.h"

namespace aiter_moe::hip {

constexpr int mx_block = 32;    // elements that share a scale
constexpr int strip_rows = 32;  // weight rows whose scales share dwords
constexpr int step_k = 256;     // elements of the reduction a pipeline step covers
constexpr int step_blocks = step_k / mx_block;
constexpr int fragment_bytes = 1024;  // 16 bytes a lane: what one request brings to the LDS

AITER_MOE_DEVICE int row_of_lane() { return lane() % 16; }
AITER_MOE_DEVICE int quarter_of_lane() { return lane() / 16; }

// W: tile t of 16 rows starts at t * 16 * (w_k / 2); a step is 8 pieces of 256 bytes, one per
// MX block, so that half a step is 1 KiB in lane order.
AITER_MOE_DEVICE int w_tile_offset(int tile, int w_k) { return tile * 8 * w_k; }
constexpr int w_step_bytes = 16 * step_k / 2;
constexpr int w_half_bytes = w_step_bytes / 2;

// S: a strip of 32 rows starts at strip * 32 * columns; a step is 256 bytes, a dword a lane:
// bytes (row, block q), (row + 16, q), (row, q + 4), (row + 16, q + 4).
AITER_MOE_DEVICE int s_strip_offset(int strip, int columns) { return strip * strip_rows * columns; }
constexpr int s_step_bytes = 256;

// Byte `Byte` of a dword of e8m0 scales in place of an f32's exponent.
template <int Byte> AITER_MOE_DEVICE u32 scale_exponent(u32 scales) {
  constexpr u32 exponent = 0x7f800000u;
  return (Byte == 3 ? scales >> 1 : scales << (23 - 8 * Byte)) & exponent;
}

// The codes and scales of one expert.
AITER_MOE_DEVICE Buffer expert_codes(const StageArgs& a, int expert) {
  const int bytes = a.w_rows * (a.w_k / 2);
  return {a.w + static_cast<i64>(expert) * bytes, bytes};
}
AITER_MOE_DEVICE Buffer expert_scales(const StageArgs& a, int expert) {
  const int bytes = a.w_rows * a.w_scale_cols;
  return {a.w_scale + static_cast<i64>(expert) * bytes, bytes};
}

// Stage 1: strips of the 32 columns `group` of gate and up. Separated rows: the first strip is
// gate, the second up, which begin half way down the physical rows (n may leave padding out);
// interleaved rows: each strip is 16 gate and 16 up rows.
AITER_MOE_DEVICE int gate_up_strip(const StageArgs& a, int group, int which) {
  const int inside = smaller(group, a.n / strip_rows - 1);
  return a.interleaved ? 2 * inside + which : inside + which * (a.w_rows / (2 * strip_rows));
}

// Stage 2: the strip of output columns 32 * group onwards; columns past n repeat the last strip,
// which is computed and not stored.
AITER_MOE_DEVICE int down_strip(const StageArgs& a, int group) {
  return smaller(group, a.n / strip_rows - 1);
}

}  // namespace aiter_moe::hip
