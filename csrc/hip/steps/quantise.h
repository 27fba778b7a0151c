// SPDX-License-Identifier: MIT
// Rows of bf16, f16 or f32 to MXFP4: codes by row, and the scale of each block either by row or
// into the 32x8 tiles of all sorted rows that take the row. 8 elements a lane, so that 4 lanes hold
// a block and share out the rows it goes to.
#pragma once

#include "common/step_args.h"
#include "hip/mxfp4.h"

namespace aiter_moe::hip {

constexpr int lane_elements = 8;
constexpr int block_lanes = 4;

// Where the scale of block `block` of sorted row `row` lies among tiles of `columns` columns.
AITER_MOE_DEVICE int tiled_scale(int row, int block, int columns) {
  const int tile = (row & ~31) * columns + (block >> 3) * 256;
  return tile + (block & 3) * 64 + (row & 15) * 4 + (block >> 2 & 1) * 2 + (row >> 4 & 1);
}

// The larger of a value's and another lane's; lanes of a block are a quad.
template <int Control> AITER_MOE_DEVICE u32 quad_moved(u32 value) {
  return static_cast<u32>(
      __builtin_amdgcn_update_dpp(0, static_cast<int>(value), Control, 0xf, 0xf, true));
}
constexpr int neighbours = 0xb1, pairs_swapped = 0x4e;  // quad_perm [1,0,3,2] and [2,3,0,1]

struct Bf16Row {
  static constexpr int bytes = 2;
  u32x4 pairs;

  AITER_MOE_DEVICE void load(const u8 AITER_MOE_GLOBAL* from) {
    typedef u32 u32x4_row __attribute__((ext_vector_type(4), aligned(2)));
    pairs = *(const u32x4_row AITER_MOE_GLOBAL*)(from);
  }
  AITER_MOE_DEVICE u32 largest_of_block() const {
    u32 most = larger_pair(larger_pair(pairs.x, pairs.y), larger_pair(pairs.z, pairs.w));
    most = larger_pair(most, quad_moved<neighbours>(most));
    most = larger_pair(most, quad_moved<pairs_swapped>(most));
    return larger_of_pair(most);
  }
  AITER_MOE_DEVICE u32 codes(u32 scale) const { return fp4_dword(pairs, scale); }
};

template <class Element> struct WideRow {
  static constexpr int bytes = sizeof(Element);
  float value[lane_elements];

  AITER_MOE_DEVICE void load(const u8 AITER_MOE_GLOBAL* from) {
    typedef Element row __attribute__((ext_vector_type(lane_elements), aligned(sizeof(Element))));
    const row found = *(const row AITER_MOE_GLOBAL*)(from);
    unroll<lane_elements>([&]<int i>() { value[i] = static_cast<float>(found[i]); });
  }
  AITER_MOE_DEVICE u32 largest_of_block() const {
    u32 most = 0;
    unroll<lane_elements>([&]<int i>() { most = larger(most, magnitude_bits(value[i])); });
    most = larger(most, quad_moved<neighbours>(most));
    return larger(most, quad_moved<pairs_swapped>(most));
  }
  AITER_MOE_DEVICE u32 codes(u32 scale) const { return fp4_dword(value, scale); }
};

// What a lane works on: a quarter of a block of a row. Blocks past the columns, which pad the
// tiles, have scale 0 and no codes.
struct Piece {
  int row;
  int column;
  bool inside;

  AITER_MOE_DEVICE int block() const { return column / (block_lanes * lane_elements); }
  AITER_MOE_DEVICE int part() const { return lane() % block_lanes; }
};

AITER_MOE_DEVICE Piece piece_of(const QuantiseStepArgs& a) {
  const int column = (group_y() * a.threads + thread()) * lane_elements;
  return {group_x(), column, column < a.columns};
}
AITER_MOE_DEVICE bool is_idle(const QuantiseStepArgs& a) {
  return a.num_valid && group_x() >= constant(a.num_valid)[1] * a.rows_per_token;
}

// The sorted rows that a lane tells the scale of its block: every fourth that takes the row. The
// first are requested before the elements are.
struct Takers {
  static constexpr int ahead = 2;
  const int AITER_MOE_GLOBAL* positions;
  int row[ahead];

  AITER_MOE_DEVICE Takers(const QuantiseStepArgs& a, Piece piece) {
    if (!a.positions) return;
    positions = global(a.positions) + static_cast<i64>(piece.row) * a.fan;
    unroll<ahead>([&]<int i>() {
      const int slot = piece.part() + i * block_lanes;
      row[i] = slot < a.fan ? positions[slot] : -1;
    });
  }
  AITER_MOE_DEVICE void store(const QuantiseStepArgs& a, Piece piece, u32 scale) const {
    unroll<ahead>([&]<int i>() { store_tiled(a, row[i], piece.block(), scale); });
    for (int i = piece.part() + ahead * block_lanes; i < a.fan; i += block_lanes) {
      store_tiled(a, positions[i], piece.block(), scale);
    }
  }
  AITER_MOE_DEVICE static void store_tiled(
      const QuantiseStepArgs& a, int row, int block, u32 scale) {
    if (row < 0) return;
    global(a.scales)[tiled_scale(row, block, a.scale_stride)] = static_cast<u8>(scale);
  }
};

AITER_MOE_DEVICE void store_scale(
    const QuantiseStepArgs& a, Piece piece, const Takers& takers, u32 scale) {
  if (piece.block() >= a.scale_stride) return;
  if (a.positions) return takers.store(a, piece, scale);
  const i64 at = static_cast<i64>(piece.row) * a.scale_stride + piece.block();
  if (piece.part() == 0) global(a.scales)[at] = static_cast<u8>(scale);
}

template <class Row> AITER_MOE_DEVICE void quantise_step(const QuantiseStepArgs& a) {
  if (is_idle(a)) return;
  const Piece piece = piece_of(a);
  const Takers takers(a, piece);
  u32 scale = 0;
  if (piece.inside) {
    const i64 at = (piece.row * a.x_stride + piece.column) * Row::bytes;
    Row row;
    row.load(global(static_cast<const u8*>(a.x)) + at);
    scale = round_up_scale(row.largest_of_block());
    const i64 code = (static_cast<i64>(piece.row) * a.columns + piece.column) / 2;
    *(u32 AITER_MOE_GLOBAL*)(global(a.codes) + code) = row.codes(scale);
  }
  store_scale(a, piece, takers, scale);
}

// Scales of rows that are codes already.
AITER_MOE_DEVICE void scatter_step(const QuantiseStepArgs& a) {
  if (is_idle(a)) return;
  const Piece piece = piece_of(a);
  const Takers takers(a, piece);
  u32 scale = 0;
  if (piece.inside) {
    scale = global(a.given)[static_cast<i64>(piece.row) * a.given_stride + piece.block()];
  }
  store_scale(a, piece, takers, scale);
}

}  // namespace aiter_moe::hip
