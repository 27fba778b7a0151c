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

// BlockM sorted rows; Waves waves, each with Strips strips of 32 weight rows, RowWaves of them with
// the same strips and a part of the rows each; Depth steps are requested ahead; the rows of Stages
// steps fit the LDS; NonTemporal weights are streamed past the caches; which rows make a block is
// RowsT's to say.
template <int BlockM, int Strips, int Waves, int Depth, int Stages, bool NonTemporal,
          int RowWaves = 1, class RowsT = SortedRows>
struct Shape {
  using Rows = RowsT;
  static constexpr int block_m = BlockM;
  static constexpr int block_tiles = BlockM / 16;
  static constexpr int row_tiles = block_tiles / RowWaves;  // of a wave
  static_assert(block_tiles % RowWaves == 0 && (RowWaves == 1 || row_tiles % 2 == 0),
                "a wave has whole strips of activation scales");
  static constexpr int strips = Strips;
  static constexpr int weight_tiles = 2 * Strips;
  static constexpr int waves = Waves;
  static constexpr int column_waves = Waves / RowWaves;
  static_assert(Waves % RowWaves == 0);
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
  int row;        // first row of the wave in the block
  int group;      // first 32-column group of the wave
  int first_step;
  int steps;
  int end_block;
};

// The items of a stage whose waves have `groups_per_wave` groups of 32 columns each.
template <class Shape>
AITER_MOE_DEVICE WorkOrder work_order(const StageArgs& a, int groups_per_wave, int parts) {
  const int columns = Shape::column_waves * groups_per_wave * strip_rows;
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
  w.row = Shape::column_waves == Shape::waves
              ? 0
              : w.wave / Shape::column_waves * Shape::row_tiles * 16;
  w.group = (item.column_block * Shape::column_waves + w.wave % Shape::column_waves) *
            groups_per_wave;
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

// Where a wave's strips lie: bytes from the start of codes and scales to what the lane reads of
// the first step.
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
    s.code[2 * i] = w_tile_offset(2 * strip, a.w_k) + lane() * 16;
    s.code[2 * i + 1] = w_tile_offset(2 * strip + 1, a.w_k) + lane() * 16;
    s.scale[i] = s_strip_offset(strip, a.w_scale_cols) + lane() * 4;
  });
  return s;
}

// How far a wave's requests have come along the reduction: scalar offsets, common to everything
// it reads of a kind and moved on once for all the steps of the ring, which lie within reach of
// an instruction's own offset (`Ahead` steps past the cursor).
template <class Operands> struct Cursor {
  int codes;
  int scales;
  int rows;

  AITER_MOE_DEVICE explicit Cursor(int step)
      : codes(step * w_step_bytes), scales(step * s_step_bytes),
        rows(step * Operands::x_step_bytes) {}
  AITER_MOE_DEVICE int step() const { return scales / s_step_bytes; }
  // Kept apart by hand: the compiler would make one of the other by shifts, or count once more.
  template <int Steps> AITER_MOE_DEVICE void advance() {
    codes = counted_apart(codes + Steps * w_step_bytes);
    scales = counted_apart(scales + Steps * s_step_bytes);
    rows = counted_apart(rows + Steps * Operands::x_step_bytes);
  }
};

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

// Makes request `Which` of `Weights::requests` for the step `Ahead` of the cursor: scales first,
// then both halves of each tile. `strips` is renewed rather than changed: sums of an offset that
// never changes and a constant would be kept in registers, instead of the constant in the
// instruction.
template <bool Whole, int Ahead, int Which, class Shape, class Work, class Operands>
AITER_MOE_DEVICE void load_weight(Weights<Shape>& weights, Strips<Shape>& strips,
                                  const Work& work, const Cursor<Operands>& cursor) {
  const StepMask mask = step_mask<Whole>(work, cursor.step() + Ahead);
  if constexpr (Which < Shape::strips) {
    int& strip = strips.scale[Which] = not_before(strips.scale[Which]);
    weights.scale[Which] = load32(
        strips.scales, mask.first ? strip + Ahead * s_step_bytes : outside, cursor.scales);
  } else {
    constexpr int tile = (Which - Shape::strips) / 2, half = (Which - Shape::strips) % 2;
    constexpr int in_reach = Ahead % 2 * w_step_bytes + half * w_half_bytes;  // of 12 bits
    int& code = strips.code[tile] = not_before(strips.code[tile]);
    weights.code[tile][half] = load128<Shape::hint>(
        strips.codes, (half ? mask.second : mask.first) ? code + in_reach : outside,
        cursor.codes + (Ahead - Ahead % 2) * w_step_bytes);
  }
}

template <bool Whole, int Ahead, class Shape, class Work, class Operands>
AITER_MOE_DEVICE void load_weights(Weights<Shape>& weights, Strips<Shape>& strips,
                                   const Work& work, const Cursor<Operands>& cursor) {
  unroll<Weights<Shape>::requests>(
      [&]<int i>() { load_weight<Whole, Ahead, i>(weights, strips, work, cursor); });
}

}  // namespace aiter_moe::hip
