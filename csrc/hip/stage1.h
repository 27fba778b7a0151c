// SPDX-License-Identifier: MIT
// Stage 1: gathered token rows times gate and up rows of their expert, then routing weight, bias
// and activation in registers, bf16 rows token * topk + slot; or the partial sums of one part.
// Not here: the reduction loop (pipeline.h), fp4 rows (stage1_fp4.h), the finish of split
// reductions (splitk.h).
#pragma once

#include "hip/gate_up.h"
#include "hip/pipeline.h"
#include "hip/splitk.h"

namespace aiter_moe::hip {

// Strips of interleaved weights hold 16 gate and 16 up rows, of separated ones 32 of a kind: the
// middle tiles of a pair of strips change places, after which tiles 0 and 1 of 4 are gate.
template <class Operands>
AITER_MOE_DEVICE void gate_before_up(const StageArgs& a, Accumulators<Operands>& sums) {
  using Shape = typename Operands::Shape;
  if (!a.interleaved) return;
  memory_order();  // a branch, not a choice for every sum
  unroll<Shape::row_tiles>([&]<int m>() {
    unroll<Shape::strips / 2>([&]<int pair>() {
      const f32x4 gate = sums[m][4 * pair + 2];
      sums[m][4 * pair + 2] = sums[m][4 * pair + 1];
      sums[m][4 * pair + 1] = gate;
    });
  });
}

// Calls f<pair>(group) for the groups of 32 columns of a wave that lie inside n.
template <class Shape, class F>
AITER_MOE_DEVICE void each_pair(const StageArgs& a, int first_group, F f) {
  unroll<Shape::strips / 2>([&]<int pair>() {
    const int group = first_group + pair;
    if (group * strip_rows < a.n) f.template operator()<pair>(group);
  });
}

// What the sums of a wave are finished with, asked for all at once. Lane l holds columns
// 4 * (l / 16) onwards of each 16.
template <Activation Which, class Shape> struct Finish {
  f32x4 bias[Shape::weight_tiles];
  float weight[Shape::row_tiles];

  template <class Work> AITER_MOE_DEVICE Finish(const StageArgs& a, const Work& work) {
    unroll<Shape::weight_tiles>([&]<int t>() { bias[t] = f32x4{0, 0, 0, 0}; });
    unroll<Shape::row_tiles>([&]<int m>() { weight[m] = 1.0f; });
    if (a.bias) load_bias(a, work);
    if (a.doweight) {
      unroll<Shape::row_tiles>(
          [&]<int m>() { weight[m] = work.rows.weight(a, work.row + m * 16 + row_of_lane()); });
    }
  }
  template <class Work> AITER_MOE_DEVICE void load_bias(const StageArgs& a, const Work& work) {
    each_pair<Shape>(a, work.group, [&]<int pair>(int group) {
      const float* gate = gate_bias(a, work.expert) + group * strip_rows;
      unroll<4>([&]<int i>() {
        const float* half = i / 2 ? gate + up_bias_offset(a) : gate;
        bias[4 * pair + i] = load_f32x4(half + i % 2 * 16, quarter_of_lane() * 4);
      });
    });
  }
  // Columns of the first (second) 16 of a group, one row a lane.
  template <int M, int Pair, int Half>
  AITER_MOE_DEVICE f32x4 operator()(const StageArgs& a, const f32x4* tile) const {
    constexpr int gate = 4 * Pair + Half;
    return activated<Which>(a, tile[gate], tile[gate + 2], weight[M], bias[gate], bias[gate + 2]);
  }
};

// bf16 rows token * topk + slot.
template <Activation Which, class Shape> struct Bf16Rows {
  Slot slot[Shape::row_tiles];
  Finish<Which, Shape> finish;

  template <class Work>
  AITER_MOE_DEVICE Bf16Rows(const StageArgs& a, Item, const Work& work) : finish(a, work) {
    unroll<Shape::row_tiles>(
        [&]<int m>() { slot[m] = work.rows.slot(a, work.row + m * 16 + row_of_lane()); });
  }
  template <class Work, class Sums>
  AITER_MOE_DEVICE void store(const StageArgs& a, const Work& work, Sums& sums) const {
    unroll<Shape::row_tiles>([&]<int m>() {
      auto* row = bf16_row(a, slot[m]) + quarter_of_lane() * 4;
      each_pair<Shape>(a, work.group, [&]<int pair>(int group) {
        unroll<2>([&]<int half>() {
          const f32x4 values = finish.template operator()<m, pair, half>(a, sums[m]);
          if (slot[m].used) store_bf16x4(row + group * strip_rows + half * 16, values);
        });
      });
    });
  }
};

// Sums of one of ksplit parts to the workspace; activation is left to `finish_split`.
template <class Shape> struct PartialSums {
  int part;
  bool used[Shape::row_tiles];

  template <class Work>
  AITER_MOE_DEVICE PartialSums(const StageArgs& a, Item item, const Work& work) : part(item.part) {
    unroll<Shape::row_tiles>(
        [&]<int m>() { used[m] = work.rows.slot(a, work.row + m * 16 + row_of_lane()).used; });
  }
  template <class Work, class Sums>
  AITER_MOE_DEVICE void store(const StageArgs& a, const Work& work, Sums& sums) const {
    unroll<Shape::row_tiles>([&]<int m>() {
      if (!used[m]) return;
      const int row = work.rows.first + work.row + m * 16 + row_of_lane();
      float* to = a.workspace + partial_offset(a, part, row) + quarter_of_lane() * 4;
      each_pair<Shape>(a, work.group, [&]<int pair>(int group) {
        unroll<4>([&]<int i>() {
          store_f32x4(to + group * strip_rows + i % 2 * 16 + i / 2 * a.n, sums[m][4 * pair + i]);
        });
      });
    });
  }
};

// Has Results finish the sums of gate and up of every item of this workgroup; what that needs is
// read when Results is made.
template <class Operands, class Results, bool Persistent>
AITER_MOE_DEVICE void each_stage1_block(const StageArgs& a, int parts) {
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
    if constexpr (Operands::reads_early) {
      const Results results(a, item, operands.work);
      accumulate(sums, operands);
      gate_before_up<Operands>(a, sums);
      results.store(a, operands.work, sums);
    } else {
      accumulate(sums, operands);
      gate_before_up<Operands>(a, sums);
      const Results results(a, item, operands.work);
      results.store(a, operands.work, sums);
    }
  });
}

template <class Operands, Activation Which, bool Persistent>
AITER_MOE_DEVICE void stage1(const StageArgs& a) {
  each_stage1_block<Operands, Bf16Rows<Which, typename Operands::Shape>, Persistent>(a, 1);
}

template <class Operands, bool Persistent> AITER_MOE_DEVICE void stage1_part(const StageArgs& a) {
  each_stage1_block<Operands, PartialSums<typename Operands::Shape>, Persistent>(a, a.ksplit);
}

}  // namespace aiter_moe::hip
