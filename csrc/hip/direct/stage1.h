// SPDX-License-Identifier: MIT
// Stage 1 of a few tokens: a workgroup finds the blocks in the routing and computes `columns`
// columns of gate and up of one block, its waves parts of the reduction; then weight, bias and
// activation, bf16 rows token * topk + slot. Not here: the walk (stream.h).
#pragma once

#include "hip/direct/stream.h"
#include "hip/splitk.h"
#include "hip/work.h"

namespace aiter_moe::hip::direct {

// Gate tiles of the workgroup's columns, then up tiles. Rows of up begin half way down the
// physical rows (n may leave padding out), or stand between those of gate.
template <int Tiles> AITER_MOE_DEVICE int gate_up_tile(const StageArgs& a, int column_block, int t) {
  constexpr int half_tiles = Tiles / 2;
  const int tile = column_block * half_tiles + t % half_tiles, up = t / half_tiles;
  return a.interleaved ? 2 * tile + up : tile + up * (a.w_rows / 32);
}

template <class Kind, class Shape>
AITER_MOE_DEVICE void accumulate_stage1(const StageArgs& a, Item item) {
  const Walk walk = Walk::of<Shape>(a, item.row_block, item.row_block + 1);
  const auto tile_of = [&](int t) {
    return gate_up_tile<Shape::tiles>(a, item.column_block, t);
  };
  const auto token_of = [](u32 word) { return static_cast<int>(word & 0xffffffu); };
  each_row_type<Kind>(a, [&]<class Rows>() {
    stream<Kind, Rows, Shape>(a, walk, /*packed=*/true, a.tokens, tile_of, token_of);
  });
}

template <class Kind, class Shape, Activation Which>
AITER_MOE_DEVICE void stage1(const StageArgs& a) {
  constexpr int columns = Shape::tiles * 8;
  const WorkOrder order{read_routing<Shape::waves>(a), a.n / columns, 1};
  each_item<false, Shape::waves * wave_lanes>(order, [&](Item item) {
    accumulate_stage1<Kind, Shape>(a, item);
    exchange();
    const Block block = block_of(item.row_block);
    const int parts = used_parts<Shape>((a.k + step_k - 1) / step_k), row = row_of_lane();
    const auto sums = Sums<Shape>::shared();
    for (int t = wave(); t < Shape::tiles / 2; t += Shape::waves) {
      if (row >= block.rows) return;
      const f32x4 gate = sums.quad(parts, t, quarter_of_lane(), row);
      const f32x4 up = sums.quad(parts, t + Shape::tiles / 2, quarter_of_lane(), row);
      const Slot slot = slot_of(a, word_of(block, row));
      const float weight = a.doweight ? routing().weight[block.first + row] : 1.0f;
      const int column = item.column_block * columns + t * 16 + quarter_of_lane() * 4;
      finish_columns<Which>(a, gate, up, slot, weight, block.expert, column);
    }
  });
}

}  // namespace aiter_moe::hip::direct
