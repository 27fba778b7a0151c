// SPDX-License-Identifier: MIT
// Stage 1 with its rows requantised: fp4 rows token * topk + slot, and their scales where stage 2
// reads them. Same bits as the bf16 rows of stage1.h, then quantised.
#pragma once

#include "hip/fp4_output.h"
#include "hip/stage1.h"

namespace aiter_moe::hip {

template <Activation Which, class Scales, class Operands, class Work>
AITER_MOE_DEVICE void store_fp4_rows(
    const StageArgs& a, const Work& work, Accumulators<Operands>& sums) {
  using Shape = typename Operands::Shape;
  constexpr int tiles = smaller(Shape::row_tiles, 4);  // quantised together
  constexpr int batches = Shape::row_tiles / tiles;
  static_assert(batches * tiles == Shape::row_tiles);
  int row[batches];
  Slot slot[batches];
  unroll<batches>([&]<int batch>() {
    row[batch] = owned_row<tiles>(work.row + batch * tiles * 16);
    slot[batch] = work.rows.slot(a, row[batch]);
  });
  const Finish<Which, Shape> finish(a, work);
  unroll<batches>([&]<int batch>() {
    each_pair<Shape>(a, work.group, [&]<int pair>(int group) {
      Fp4Blocks<tiles> blocks;
      unroll<tiles>([&]<int i>() {
        constexpr int m = batch * tiles + i;
        blocks.template put<i>(finish.template operator()<m, pair, 0>(a, sums[m]),
                               finish.template operator()<m, pair, 1>(a, sums[m]));
      });
      store_blocks<Scales>(a, blocks, work.rows.first + row[batch], slot[batch], group);
    });
  });
}

template <class Operands, Activation Which, bool Persistent>
AITER_MOE_DEVICE void stage1_fp4(const StageArgs& a) {
  each_stage1_block<Operands, Persistent>(a, 1, [&](Item, auto& work, auto& sums) {
    store_fp4_rows<Which, SortedScales>(a, work, sums);
  });
}

}  // namespace aiter_moe::hip
