// SPDX-License-Identifier: MIT
// Where the bytes of one 16-row tile of an expert lie: codes in 16x16 tiles (map W), scales in
// 32x8 tiles over the rows of all experts (map S). Nothing here knows an instruction set.
#pragma once

#include <stdint.h>

#include "common/stage_args.h"

namespace aiter_moe::cpu {

constexpr int kBlock = 32;             // elements that share a scale; a W tile is 16 rows of it
constexpr int kTileRows = 16;          // weight rows, i.e. output columns, of a tile
constexpr int kTileBytes = 256;        // 16 rows x 16 bytes of codes
constexpr int kScaleLine = 64;         // one dword per row pair (r, r + 16)

struct WeightTile {
  const uint8_t* codes;   // tile of block 0; block b is kTileBytes * b further
  const uint8_t* scales;  // line of block 0 in the band of 32 rows
  int half;               // 1 when the rows are the upper 16 of their band
};

// Tile of rows [16 * tile, 16 * tile + 16) of `expert`, counted in physical rows.
inline WeightTile weight_tile(const StageArgs& args, int expert, int tile) {
  const long row = static_cast<long>(expert) * args.w_rows + static_cast<long>(tile) * kTileRows;
  const long band = row / 32;
  return {args.w + row * (args.w_k / 2), args.w_scale + band * 32 * args.w_scale_cols,
          static_cast<int>(row / 16 % 2)};
}

// The 64-byte line that holds the scales of block `block`, and the bit position of their byte in
// each of its dwords.
inline const uint8_t* scale_line(const WeightTile& tile, int block) {
  return tile.scales + (block >> 3) * 256 + (block & 3) * kScaleLine;
}

inline int scale_shift(const WeightTile& tile, int block) {
  return ((block >> 2) & 1) * 16 + tile.half * 8;
}

// Physical tiles of w1 that hold the gate and the up rows of output columns [16 j, 16 j + 16).
inline int gate_tile(const StageArgs& args, int j) { return args.interleaved ? 2 * j : j; }

inline int up_tile(const StageArgs& args, int j) {
  return args.interleaved ? 2 * j + 1 : j + args.w_rows / (2 * kTileRows);
}

}  // namespace aiter_moe::cpu
