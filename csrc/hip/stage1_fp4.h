// SPDX-License-Identifier: MIT
// Stage 1 with its rows requantised: fp4 rows token * topk + slot, and their scales where stage 2
// reads them. Same bits as the bf16 rows of stage1.h, then quantised.
#pragma once

#include "hip/fp4_output.h"
#include "hip/stage1.h"

namespace aiter_moe::hip {

template <Activation Which, class Scales, class Shape> struct Fp4Rows {
  static constexpr int tiles = smaller(Shape::row_tiles, 4);  // quantised together
  static constexpr int batches = Shape::row_tiles / tiles;
  static_assert(batches * tiles == Shape::row_tiles);
  Slot slot[batches];  // of the rows that the lane stores
  Finish<Which, Shape> finish;

  template <class Work>
  AITER_MOE_DEVICE Fp4Rows(const StageArgs& a, Item, const Work& work) : finish(a, work) {
    unroll<batches>([&]<int batch>() { slot[batch] = work.rows.slot(a, row<batch>(work)); });
  }
  template <int Batch, class Work> static AITER_MOE_DEVICE int row(const Work& work) {
    return owned_row<tiles>(work.row + Batch * tiles * 16);
  }
  template <class Work, class Sums>
  AITER_MOE_DEVICE void store(const StageArgs& a, const Work& work, Sums& sums) const {
    unroll<batches>([&]<int batch>() {
      each_pair<Shape>(a, work.group, [&]<int pair>(int group) {
        Fp4Blocks<tiles> blocks;
        unroll<tiles>([&]<int i>() {
          constexpr int m = batch * tiles + i;
          blocks.template put<i>(finish.template operator()<m, pair, 0>(a, sums[m]),
                                 finish.template operator()<m, pair, 1>(a, sums[m]));
        });
        store_blocks<Scales>(a, blocks, work.rows.first + row<batch>(work), slot[batch], group);
      });
    });
  }
};

template <class Operands, Activation Which, bool Persistent>
AITER_MOE_DEVICE void stage1_fp4(const StageArgs& a) {
  using Rows = Fp4Rows<Which, SortedScales, typename Operands::Shape>;
  each_stage1_block<Operands, Rows, Persistent>(a, 1);
}

}  // namespace aiter_moe::hip
