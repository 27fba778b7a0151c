// SPDX-License-Identifier: MIT
// What every tile shares: its shape, the block of work of a workgroup, the weight registers of a
// wave, and how requests past the end of the reduction are masked. Not here: the operand kinds
// (a4w4_tile.h, a16w4_tile.h) and the loop (pipeline.h).
#pragma once

#include "hip/architecture.h"
#include "hip/layout.h"
#include "hip/rows.h"
#include "hip/work.h"

namespace aiter_moe::hip {

// BlockM sorted rows; Waves waves side by side, each with Strips strips of 32 weight rows; Depth
// steps are requested ahead; the rows of Stages steps fit the LDS; NonTemporal weights are streamed
// past the caches; which rows make a block is RowsT's to say.
template <int BlockM, int Strips, int Waves, int Depth, int Stages, bool NonTemporal,
          class RowsT = SortedRows>
struct Shape {
  using Rows = RowsT;
  static constexpr int block_m = BlockM;
  static constexpr int row_tiles = BlockM / 16;
  static constexpr int strips = Strips;
  static constexpr int weight_tiles = 2 * Strips;
  static constexpr int waves = Waves;
  static constexpr int depth = Depth;
  static constexpr int ring = Depth + 1;  // sets of weight registers
  static constexpr int stages = Stages;
  static_assert(ring % Stages == 0, "a step's stage is known where its registers are");
  static constexpr int hint = NonTemporal ? non_temporal : 0;
};

// What a workgroup and wave works on. `steps` counts from `first_step`; `end_block` is the first
// MX block past them (and past k).
template <class Rows> struct Work {
  Rows rows;
  int expert;
  int wave;       // of the workgroup
  int group;      // first 32-column group of the wave
  int first_step;
  int steps;
  int end_block;
};

// The items of a stage whose waves have `groups_per_wave` groups of 32 columns each.
template <class Shape>
AITER_MOE_DEVICE WorkOrder work_order(const StageArgs& a, int groups_per_wave, int parts) {
  const int columns = Shape::waves * groups_per_wave * strip_rows;
  const int row_blocks = Shape::Rows::template blocks<Shape::block_m>(a);
  return {row_blocks, (a.n + columns - 1) / columns, parts};
}

// The parts of a split reduction differ by at most one step.
template <class Shape>
AITER_MOE_DEVICE Work<typename Shape::Rows> block_work(
    const StageArgs& a, Item item, int groups_per_wave, int parts) {
  using Rows = typename Shape::Rows;
  Work<Rows> w;
  w.rows = Rows::template of<Shape::block_m>(a, item.row_block);
  w.expert = Rows::expert(a, item.row_block);
  w.wave = wave();
  w.group = (item.column_block * Shape::waves + w.wave) * groups_per_wave;
  const int blocks = a.k / mx_block;
  const int all_steps = (blocks + step_blocks - 1) / step_blocks;
  w.first_step = item.part * all_steps / parts;
  w.steps = (item.part + 1) * all_steps / parts - w.first_step;
  w.end_block = smaller(blocks, (w.first_step + w.steps) * step_blocks);
  return w;
}

// The weight fragments of one step: codes of both halves of each 16-row tile, scale dwords.
template <class Shape> struct Weights {
  u32x4 code[Shape::weight_tiles][2];
  u32 scale[Shape::strips];
  static constexpr int requests = 2 * Shape::weight_tiles + Shape::strips;
};

// Where a wave's strips lie: scalar offsets into codes and scales.
template <class Shape> struct Strips {
  Buffer codes;
  Buffer scales;
  int code[Shape::weight_tiles];
  int scale[Shape::strips];
};

template <class Shape, class StripOf>
AITER_MOE_DEVICE Strips<Shape> wave_strips(const StageArgs& a, int expert, StripOf strip_of) {
  Strips<Shape> s;
  s.codes = expert_codes(a, expert);
  s.scales = expert_scales(a, expert);
  unroll<Shape::strips>([&]<int i>() {
    const int strip = uniform(strip_of(i));
    s.code[2 * i] = w_tile_offset(2 * strip, a.w_k);
    s.code[2 * i + 1] = w_tile_offset(2 * strip + 1, a.w_k);
    s.scale[i] = s_strip_offset(strip, a.w_scale_cols);
  });
  return s;
}

// Which MX blocks of a step this lane may read: block q of the first half, q + 4 of the second.
// A lane past the end asks `outside` (codes and scales read 0) and clears the scale bytes of a
// second half that is past the end, since those are padding of unknown value. Of a whole step,
// known to lie before the end, every lane reads everything, which costs no instruction.
struct StepMask {
  bool first;
  bool second;
  AITER_MOE_DEVICE u32 bytes() const { return second ? 0xffffffffu : 0xffffu; }
};
template <bool Whole, class Work>
AITER_MOE_DEVICE StepMask step_mask(const Work& work, int step) {
  if constexpr (Whole) return {true, true};
  const int left = work.end_block - step * step_blocks;
  const int quarter = quarter_of_lane();
  return {quarter < left, quarter + 4 < left};
}

template <bool Whole, class Shape, class Work>
AITER_MOE_DEVICE void load_weights(
    Weights<Shape>& weights, const Strips<Shape>& strips, const Work& work, int step) {
  const StepMask mask = step_mask<Whole>(work, step);
  const int first = mask.first ? lane() * 16 : outside;
  const int second = mask.second ? lane() * 16 + w_half_bytes : outside;
  const int scale = mask.first ? lane() * 4 : outside;
  unroll<Shape::strips>([&]<int i>() {
    weights.scale[i] = load32(strips.scales, scale, strips.scale[i] + step * s_step_bytes);
  });
  unroll<Shape::weight_tiles>([&]<int t>() {
    const int base = strips.code[t] + step * w_step_bytes;
    weights.code[t][0] = load128<Shape::hint>(strips.codes, first, base);
    weights.code[t][1] = load128<Shape::hint>(strips.codes, second, base);
  });
}

}  // namespace aiter_moe::hip
