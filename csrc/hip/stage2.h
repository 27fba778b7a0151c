// SPDX-License-Identifier: MIT
// Stage 2: rows token * topk + slot of the intermediate times the down rows of their expert, then
// bias and routing weight. Rows: f32 rows token * topk + slot, whose sum over a token's slots is
// another kernel's, so that its order is fixed. Atomic: added to the zeroed rows of the tokens.
#pragma once

#include "hip/atomics.h"
#include "hip/pipeline.h"

namespace aiter_moe::hip {

enum class Down { rows, atomic };

// Calls f<strip>(column) for the strips of a wave that lie inside n.
template <class Shape, class F>
AITER_MOE_DEVICE void each_strip(const StageArgs& a, int first_group, F f) {
  unroll<Shape::strips>([&]<int strip>() {
    const int column = (first_group + strip) * strip_rows;
    if (column < a.n) f.template operator()<strip>(column);
  });
}

// What the sums of a wave are finished with, asked for all at once. Lane l holds columns
// 4 * (l / 16) onwards of each 16.
template <class Shape> struct DownRows {
  Slot slot[Shape::row_tiles];
  float weight[Shape::row_tiles];
  f32x4 bias[Shape::weight_tiles];

  template <class Work> AITER_MOE_DEVICE DownRows(const StageArgs& a, const Work& work) {
    const auto row = [&](int m) { return work.row + m * 16 + row_of_lane(); };
    unroll<Shape::row_tiles>([&]<int m>() {
      slot[m] = work.rows.slot(a, row(m));
      weight[m] = 1.0f;
    });
    unroll<Shape::weight_tiles>([&]<int t>() { bias[t] = f32x4{0, 0, 0, 0}; });
    if (a.bias) load_bias(a, work);
    if (a.doweight) {
      unroll<Shape::row_tiles>([&]<int m>() { weight[m] = work.rows.weight(a, row(m)); });
    }
  }
  template <class Work> AITER_MOE_DEVICE void load_bias(const StageArgs& a, const Work& work) {
    const float* expert = a.bias + static_cast<i64>(work.expert) * a.bias_stride;
    each_strip<Shape>(a, work.group, [&]<int strip>(int column) {
      unroll<2>([&]<int i>() {
        bias[2 * strip + i] = load_f32x4(expert + column + i * 16, quarter_of_lane() * 4);
      });
    });
  }

  // Calls put(address, values) for 4 columns at a time of the rows in use; row_of(slot) is the
  // address of an output row.
  template <class Work, class Sums, class RowOf, class Put>
  AITER_MOE_DEVICE void each_quad(
      const StageArgs& a, const Work& work, Sums& sums, RowOf row_of, Put put) const {
    unroll<Shape::row_tiles>([&]<int m>() {
      if (!slot[m].used) return;
      auto* row = row_of(slot[m]) + quarter_of_lane() * 4;
      each_strip<Shape>(a, work.group, [&]<int strip>(int column) {
        unroll<2>([&]<int i>() {
          constexpr int t = 2 * strip + i;
          put(row + column + i * 16, (sums[m][t] + bias[t]) * weight[m]);
        });
      });
    });
  }

  template <class Work, class Sums>
  AITER_MOE_DEVICE void store(const StageArgs& a, const Work& work, Sums& sums) const {
    const auto row_of = [&](Slot s) {
      const int row = s.token * a.topk + s.slot;
      return global(static_cast<float*>(a.out)) + row_offset(row, a.out_stride);
    };
    each_quad(a, work, sums, row_of, [](float AITER_MOE_GLOBAL* to, f32x4 values) {
      *reinterpret_cast<f32x4_row AITER_MOE_GLOBAL*>(to) = values;
    });
  }
  template <class T, class Work, class Sums>
  AITER_MOE_DEVICE void add_as(const StageArgs& a, const Work& work, Sums& sums) const {
    const auto row_of = [&](Slot s) {
      return global(static_cast<T*>(a.out)) + row_offset(s.token, a.out_stride);
    };
    each_quad(a, work, sums, row_of,
              [](T AITER_MOE_GLOBAL* to, f32x4 values) { add4(to, values); });
  }
  template <class Work, class Sums>
  AITER_MOE_DEVICE void add(const StageArgs& a, const Work& work, Sums& sums) const {
    switch (static_cast<ElementType>(a.out_type)) {
      case ElementType::f16: return add_as<_Float16>(a, work, sums);
      case ElementType::f32: return add_as<float>(a, work, sums);
      default: return add_as<__bf16>(a, work, sums);
    }
  }
  template <Down To, class Work, class Sums>
  AITER_MOE_DEVICE void put_down(const StageArgs& a, const Work& work, Sums& sums) const {
    if constexpr (To == Down::rows) store(a, work, sums);
    else add(a, work, sums);
  }
};

template <class Operands, Down To, bool Persistent>
AITER_MOE_DEVICE void stage2(const StageArgs& a) {
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
    if constexpr (Operands::reads_early) {
      const DownRows<Shape> rows(a, work);
      accumulate(sums, operands);
      rows.template put_down<To>(a, work, sums);
    } else {
      accumulate(sums, operands);
      const DownRows<Shape> rows(a, work);
      rows.template put_down<To>(a, work, sums);
    }
  });
}

}  // namespace aiter_moe::hip
