// SPDX-License-Identifier: MIT
// Split reduction of a16w4 stage 1: where partial sums lie, and the finish that adds them in
// ascending order of parts, then weight, bias and activation. No atomics.
// Not here: which steps a part covers (tile.h).
#pragma once

#include "hip/gate_up.h"

namespace aiter_moe::hip {

// f32 [parts][sorted_rows][2 * n]: gate columns 0..n-1, then up columns.
AITER_MOE_DEVICE i64 partial_offset(const StageArgs& a, int part, int sorted_row) {
  return (static_cast<i64>(part) * a.sorted_rows + sorted_row) * 2 * a.n;
}

constexpr int finish_rows = 4;  // sorted rows a workgroup, one a wave

// Workgroup (x, y): sorted rows 4 * x onwards, columns 256 * y onwards.
template <Activation Which, int BlockM> AITER_MOE_DEVICE void finish_split(const StageArgs& a) {
  const int row = group_x() * finish_rows + wave();
  const int column = (group_y() * wave_lanes + lane()) * 4;
  const SortedRows rows = SortedRows::of<1>(a, row);
  if (row >= rows.used) return;  // also where no row is used, and none can be asked for
  const Slot slot = rows.slot(a, 0);
  if (!slot.used || column >= a.n) return;
  const int expert = SortedRows::expert(a, row / BlockM);
  f32x4 gate = {0, 0, 0, 0}, up = {0, 0, 0, 0};
  for (int part = 0; part < a.ksplit; ++part) {
    const float* sums = a.workspace + partial_offset(a, part, row) + column;
    gate += load_f32x4(sums);
    up += load_f32x4(sums + a.n);
  }
  const float weight = a.doweight ? rows.weight(a, 0) : 1.0f;
  finish_columns<Which>(a, gate, up, slot, weight, expert, column);
}

}  // namespace aiter_moe::hip
