// SPDX-License-Identifier: MIT
// Stage 1 of a few tokens: a workgroup finds the blocks in the routing and computes `columns`
// columns of gate and up of one block, its waves parts of the reduction; then weight, bias and
// activation by one of them, rows token * topk + slot. Not here: the walk (stream.h), fp4 rows
// (fp4_output.h).
#pragma once

#include "hip/direct/stream.h"
#include "hip/gate_up.h"
#include "hip/work.h"

namespace aiter_moe::hip::direct {

// Gate tiles of the workgroup's columns, then up tiles. Rows of up begin half way down the
// physical rows (n may leave padding out), or stand between those of gate.
template <int Tiles>
AITER_MOE_DEVICE int gate_up_tile(const StageArgs& a, int column_block, int t) {
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
  const auto run = [&]<class Rows>() {
    stream<Kind, Rows, Shape>(a, walk, a.tokens, tile_of, [](u32 word) { return token_of(word); });
  };
  if constexpr (Kind::quantises) {
    switch (static_cast<ElementType>(a.x_type)) {
      case ElementType::fp4: return run.template operator()<CodeRows</*ScaleDwords=*/false>>();
      case ElementType::f16: return run.template operator()<WideRows<ElementType::f16>>();
      default: break;
    }
  }
  run.template operator()<WideRows<ElementType::bf16>>();
}

// Weight, bias and activation of a lane's 4 columns of each of the workgroup's tiles.
template <class Shape, Activation Which> struct Finished {
  static constexpr int tiles = Shape::tiles / 2;
  f32x4 columns[tiles];

  static AITER_MOE_DEVICE Finished of(
      const StageArgs& a, const Block& block, int row, int first_column) {
    const int parts = Parts::of<Shape>(reduction_steps(a)).count();
    const auto sums = Sums<Shape>::shared();
    const float weight = a.doweight ? routing().weight[block.readable(row)] : 1.0f;
    const float* bias = gate_bias(a, block.expert) + first_column + quarter_of_lane() * 4;
    Finished f;
    unroll<tiles>([&]<int t>() {
      f32x4 of_gate = {0, 0, 0, 0}, of_up = {0, 0, 0, 0};
      if (a.bias) {
        of_gate = load_f32x4(bias + t * 16);
        of_up = load_f32x4(bias + t * 16 + up_bias_offset(a));
      }
      f.columns[t] = activated<Which>(
          a, sums.quad(parts, t, quarter_of_lane(), row),
          sums.quad(parts, t + tiles, quarter_of_lane(), row), weight, of_gate, of_up);
    });
    return f;
  }
};

struct Bf16Output {
  template <int Tiles>
  static AITER_MOE_DEVICE void store(
      const StageArgs& a, const f32x4 (&columns)[Tiles], Slot slot, int first_column) {
    if (!slot.used) return;
    unroll<Tiles>([&]<int t>() {
      const int column = first_column + t * 16 + quarter_of_lane() * 4;
      store_bf16x4(bf16_row(a, slot) + column, columns[t]);
    });
  }
};

template <class Kind, class Shape, Activation Which, class Output>
AITER_MOE_DEVICE void stage1(const StageArgs& a) {
  constexpr int columns = Shape::tiles * 8;
  const WorkOrder order{read_routing<Shape::waves>(a), a.n / columns, 1};
  each_item<false, Shape::waves * wave_lanes>(order, [&](Item item) {
    accumulate_stage1<Kind, Shape>(a, item);
    exchange();
    if (wave() != 0) return;
    const Block block = block_of(item.row_block);
    const int row = row_of_lane(), first_column = item.column_block * columns;
    const auto finished = Finished<Shape, Which>::of(a, block, row, first_column);
    Slot slot = slot_of(word_of(block, row));
    slot.used = row < block.rows;
    Output::store(a, finished.columns, slot, first_column);
  });
}

}  // namespace aiter_moe::hip::direct
