// SPDX-License-Identifier: MIT
// The sum of a token's rows over its slots, in slot order and f32, rounded once. 4 columns a lane;
// the rows of 8 slots are requested before the first is added. Rows are read once, so past the
// caches.
#pragma once

#include "common/step_args.h"
#include "hip/steps/wave.h"

namespace aiter_moe::hip {

constexpr int sum_columns = 4;
constexpr int slots_ahead = 8;

// Bit i: slot `first` + i has a row, of up to a wave's lanes.
AITER_MOE_DEVICE u64 used_slots(const ReduceStepArgs& a, int first) {
  const int slot = first + lane();
  if (!a.positions) return ballot(slot < a.topk);
  const i64 pair = static_cast<i64>(group_x()) * a.topk + slot;
  return ballot(slot < a.topk && global(a.positions)[pair] >= 0);
}

// Adds 8 rows; of slots without one no byte is read.
AITER_MOE_DEVICE void add_rows(Buffer rows, u64 used, int first, int column_at, int pitch,
                               f32x4& sum) {
  f32x4 row[slots_ahead];
  unroll<slots_ahead>([&]<int i>() {
    const int from = used >> i & 1 ? column_at : outside;
    row[i] = __builtin_bit_cast(f32x4, load128<non_temporal>(rows, from, (first + i) * pitch));
  });
  // No partial sum is -0, so that a zero added for a row that is not there changes no bit.
  unroll<slots_ahead>([&]<int i>() { sum += row[i]; });
}

AITER_MOE_DEVICE f32x4 sum_of_slots(const ReduceStepArgs& a, int column) {
  const int pitch = a.columns * 4;
  const i64 first_row = static_cast<i64>(group_x()) * a.topk;
  const Buffer rows{a.rows + first_row * a.columns, a.topk * pitch};
  const int column_at = column < a.columns ? column * 4 : outside;
  f32x4 sum = {0, 0, 0, 0};
  for (int chunk = 0; chunk < a.topk; chunk += wave_lanes) {
    u64 used = used_slots(a, chunk);
    for (int first = chunk; used != 0; first += slots_ahead, used >>= slots_ahead) {
      add_rows(rows, used, first, column_at, pitch, sum);
    }
  }
  return sum;
}

template <class Element> AITER_MOE_DEVICE void reduce_step(const ReduceStepArgs& a) {
  const int column = (group_y() * a.threads + thread()) * sum_columns;
  const f32x4 sum = sum_of_slots(a, column);
  if (column >= a.out_columns) return;
  typedef Element quad __attribute__((ext_vector_type(sum_columns), aligned(sizeof(Element))));
  quad rounded;
  unroll<sum_columns>([&]<int i>() { rounded[i] = static_cast<Element>(sum[i]); });
  auto* to = global(static_cast<Element*>(a.out)) + group_x() * a.out_stride + column;
  *(quad AITER_MOE_GLOBAL*)(to) = rounded;
}

}  // namespace aiter_moe::hip
