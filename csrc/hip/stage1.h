// SPDX-License-Identifier: MIT
// Stage 1: gathered token rows times gate and up rows of their expert, then routing weight, bias
// and activation in registers, bf16 rows token * topk + slot; or the partial sums of one part.
// Not here: the reduction loop (pipeline.h) and the finish of split reductions (splitk.h).
#pragma once

#include "hip/pipeline.h"
#include "hip/splitk.h"

namespace aiter_moe::hip {

// The 4 gate and 4 up sums of a lane: row `row` of the block, logical columns `column` onwards.
struct GateUp {
  f32x4 gate;
  f32x4 up;
  int row;
  int column;
};

// Calls use(GateUp) for every column quad a lane holds that lies inside n. Strips of interleaved
// weights hold 16 gate and 16 up rows, of separated ones 32 of a kind, so the middle tiles of a
// pair of strips change places.
template <class Operands, class Use>
AITER_MOE_DEVICE void each_gate_up(
    const StageArgs& a, int first_group, Accumulators<Operands>& sums, Use use) {
  using Shape = typename Operands::Shape;
  unroll<Shape::strips / 2>([&]<int pair>() {
    const int group = first_group + pair;
    if (group * strip_rows >= a.n) return;
    unroll<Shape::row_tiles>([&]<int m>() {
      f32x4* tile = sums[m] + 4 * pair;
      const f32x4 second_gate = a.interleaved ? tile[2] : tile[1];
      const f32x4 first_up = a.interleaved ? tile[1] : tile[2];
      const int row = m * 16 + row_of_lane();
      const int column = group * strip_rows + quarter_of_lane() * 4;
      use(GateUp{tile[0], first_up, row, column});
      use(GateUp{second_gate, tile[3], row, column + 16});
    });
  });
}

// Calls use(Work, sums) for every item of this workgroup with its sums of gate and up.
template <class Operands, bool Persistent, class Use>
AITER_MOE_DEVICE void each_stage1_block(const StageArgs& a, int parts, Use use) {
  using Shape = typename Operands::Shape;
  static_assert(Shape::strips % 2 == 0, "a wave holds gate and up of its columns");
  constexpr int groups_per_wave = Shape::strips / 2;
  const WorkOrder order = work_order<Shape>(a, groups_per_wave, parts);
  each_item<Persistent, Shape::waves * wave_lanes>(order, [&](Item item) {
    Operands operands;
    Accumulators<Operands> sums;
    operands.work = block_work<Shape>(a, item, groups_per_wave, parts);
    operands.strips = wave_strips<Shape>(a, operands.work.expert, [&](int i) {
      return gate_up_strip(a, operands.work.group + i / 2, i % 2);
    });
    operands.gather(a, a.tokens, [](Slot s) { return s.token; });
    accumulate(sums, operands);
    use(item, operands.work, sums);
  });
}

template <class Operands, Activation Which, bool Persistent>
AITER_MOE_DEVICE void stage1(const StageArgs& a) {
  each_stage1_block<Operands, Persistent>(a, 1, [&](Item, auto& work, auto& sums) {
    each_gate_up<Operands>(a, work.group, sums, [&](GateUp v) {
      const Slot slot = work.rows.slot(a, v.row);
      if (!slot.used) return;
      const float weight = a.doweight ? work.rows.weight(a, v.row) : 1.0f;
      finish_columns<Which>(a, v.gate, v.up, slot, weight, work.expert, v.column);
    });
  });
}

// One of ksplit parts: sums to the workspace, activation left to `finish_split`.
template <class Operands, bool Persistent> AITER_MOE_DEVICE void stage1_part(const StageArgs& a) {
  each_stage1_block<Operands, Persistent>(a, a.ksplit, [&](Item item, auto& work, auto& sums) {
    each_gate_up<Operands>(a, work.group, sums, [&](GateUp v) {
      if (!work.rows.slot(a, v.row).used) return;
      float* to = a.workspace + partial_offset(a, item.part, work.rows.first + v.row) + v.column;
      store_f32x4(to, v.gate);
      store_f32x4(to + a.n, v.up);
    });
  });
}

}  // namespace aiter_moe::hip
