// SPDX-License-Identifier: MIT
// Stage 2: rows token * topk + slot of the intermediate times the down rows of their expert, then
// bias and routing weight, f32 rows token * topk + slot. The sum over a token's slots is another
// kernel's, so that its order is fixed.
#pragma once

#include "hip/pipeline.h"

namespace aiter_moe::hip {

AITER_MOE_DEVICE void store_down(
    const StageArgs& a, f32x4 sum, Slot slot, float weight, int expert, int column) {
  if (a.bias) sum += load_f32x4(a.bias + static_cast<i64>(expert) * a.bias_stride + column);
  const i64 row = static_cast<i64>(slot.token) * a.topk + slot.slot;
  store_f32x4(static_cast<float*>(a.out) + row * a.out_stride + column, sum * weight);
}

template <class Operands, bool Persistent> AITER_MOE_DEVICE void stage2(const StageArgs& a) {
  using Shape = typename Operands::Shape;
  const WorkOrder order = work_order<Shape>(a, Shape::strips, 1);
  each_item<Persistent, Shape::waves * wave_lanes>(order, [&](Item item) {
    Operands operands;
    Accumulators<Operands> sums;
    operands.work = block_work<Shape>(a, item, Shape::strips, 1);
    const auto& work = operands.work;
    operands.strips = wave_strips<Shape>(
        a, work.expert, [&](int i) { return down_strip(a, work.group + i); });
    operands.gather(a, a.tokens * a.topk, [&](Slot s) { return s.token * a.topk + s.slot; });
    accumulate(sums, operands);
    unroll<Shape::row_tiles>([&]<int m>() {
      const int row = m * 16 + row_of_lane();
      const Slot slot = work.rows.slot(a, row);
      if (!slot.used) return;
      const float weight = a.doweight ? work.rows.weight(a, row) : 1.0f;
      unroll<Shape::weight_tiles>([&]<int t>() {
        const int column = (work.group * 2 + t) * 16 + quarter_of_lane() * 4;
        if (column < a.n) store_down(a, sums[m][t], slot, weight, work.expert, column);
      });
    });
  });
}

}  // namespace aiter_moe::hip
