// SPDX-License-Identifier: MIT
// A wave's walk over blocks of rows: its part of the reduction of one block, then of the next, as
// one run of steps, so that requests run ahead across blocks as well. Waves share nothing while
// they walk; their sums meet in the LDS. No barrier, no stage of the LDS. Waves that share a block
// take parts of its reduction side by side, and the parts are added in their order.
#pragma once

#include "hip/direct/operands.h"

namespace aiter_moe::hip::direct {

// A wave holds Tiles tiles of 16 weight rows; at most Parts waves share a block; Depth steps are
// requested ahead; the sums of Capacity rows are kept.
template <int TilesT, int Waves, int Parts, int Depth, bool NonTemporal, int Capacity>
struct Shape {
  static constexpr bool one_block = Capacity == block_rows;  // all waves walk over the same one
  static constexpr int tiles = TilesT;
  static constexpr int waves = Waves;
  static constexpr int parts = Parts;
  static constexpr int depth = Depth;
  static constexpr int capacity = Capacity;
  static constexpr int hint = NonTemporal ? non_temporal : 0;
  static_assert((Waves & (Waves - 1)) == 0 && (Parts & (Parts - 1)) == 0 && Parts <= Waves,
                "a wave has the same part of all its blocks, for any smaller power of two as well");
};

// Parts of the reduction in use, a power of two: no more than it has steps.
struct Parts {
  int shift;

  template <class Shape> static AITER_MOE_DEVICE Parts of(int steps) {
    int shift = __builtin_ctz(Shape::parts);
    while (1 << shift > steps) --shift;
    return {shift};
  }
  AITER_MOE_DEVICE int count() const { return 1 << shift; }
  AITER_MOE_DEVICE int first_step(int part, int steps) const { return part * steps >> shift; }
};
AITER_MOE_DEVICE int reduction_steps(const StageArgs& a) { return (a.k + step_k - 1) / step_k; }

// f32 sums: four columns of a row in 16 bytes, rows side by side. One place more than there are
// rows, so that the columns of a row lie in different banks.
template <class Shape> struct Sums {
  static constexpr int pitch = Shape::capacity + 1;
  AITER_MOE_LDS f32x4* quads;  // [part][tile][quarter][pitch]

  static AITER_MOE_DEVICE Sums shared() {
    __attribute__((shared)) static f32x4
        quads[Shape::parts * Shape::tiles * 4 * pitch];
    return {(AITER_MOE_LDS f32x4*)(quads)};
  }
  AITER_MOE_DEVICE AITER_MOE_LDS f32x4* at(int part, int tile, int quarter, int row) const {
    return quads + ((part * Shape::tiles + tile) * 4 + quarter) * pitch + row;
  }
  // Four neighbouring columns, and column `column` of the wave's tiles.
  AITER_MOE_DEVICE f32x4 quad(int parts, int tile, int quarter, int row) const {
    f32x4 sum = *at(0, tile, quarter, row);
    for (int part = 1; part < parts; ++part) sum += *at(part, tile, quarter, row);
    return sum;
  }
  AITER_MOE_DEVICE float single(int parts, int column, int row) const {
    const auto of = [&](int part) {
      const auto* four = at(part, column / 16, column / 4 % 4, row);
      return reinterpret_cast<const AITER_MOE_LDS float*>(four)[column % 4];
    };
    float sum = of(0);
    for (int part = 1; part < parts; ++part) sum += of(part);
    return sum;
  }
};

// Blocks first, first + stride(), ... below end; of each the steps from begin_step to end_step.
struct Walk {
  int first;
  int stride_shift;
  int end;
  int begin_step;
  int end_step;
  int end_block;  // first MX block that is not part of the reduction
  int part;

  template <class Shape>
  static AITER_MOE_DEVICE Walk of(const StageArgs& a, int first, int end) {
    const int steps = reduction_steps(a);
    const Parts parts = Parts::of<Shape>(steps);
    const int part = wave() & (parts.count() - 1);
    const int until = parts.first_step(part + 1, steps);
    return {first + (wave() >> parts.shift), __builtin_ctz(Shape::waves) - parts.shift, end,
            parts.first_step(part, steps), until, smaller(a.k / mx_block, until * step_blocks),
            part};
  }
  AITER_MOE_DEVICE int steps() const {
    const int blocks = first < end ? ((end - 1 - first) >> stride_shift) + 1 : 0;
    return blocks * (end_step - begin_step);
  }
  AITER_MOE_DEVICE int stride() const { return 1 << stride_shift; }
  // MX blocks from the start of a step on; none past the last block.
  template <class Shape> AITER_MOE_DEVICE int left(int block, int step) const {
    return Shape::one_block || block < end ? end_block - step * step_blocks : 0;
  }
};

// RowOf: from the word of a row to its number in x, which has `x_rows` rows.
template <class Kind, class Rows, class Shape, class RowOf> struct Stream {
  struct Registers {
    WeightTiles<Shape::tiles> weights;
    Rows rows;
  };

  const StageArgs& a;
  Walk walk;
  TilePlaces<Shape::tiles> places;
  RowSource x;
  RowOf row_of;
  // What is requested next.
  int ahead_block;
  int ahead_step;
  Buffer codes;
  Buffer scales;
  RowPlace row_place;
  // What is multiplied next.
  int block;
  int step;
  f32x4 sums[Shape::tiles];

  AITER_MOE_DEVICE void pin_sums() {
    unroll<Shape::tiles>([&]<int t>() { pin(sums[t]); });
  }
  AITER_MOE_DEVICE void clear() {
    unroll<Shape::tiles>([&]<int t>() { sums[t] = f32x4{0, 0, 0, 0}; });
  }

  AITER_MOE_DEVICE void enter(int number) {
    ahead_block = number;
    ahead_step = walk.begin_step;
    if (number >= walk.end) return;
    const Block b = block_of(number);
    codes = expert_codes(a, b.expert);
    scales = expert_scales(a, b.expert);
    const bool used = row_of_lane() < b.rows;
    const RowPlace place = Rows::place(a, row_of(word_of(b, row_of_lane())));
    row_place = {used ? place.values : outside, used ? place.scales : outside};
  }

  AITER_MOE_DEVICE void request(Registers& r) {
    const Mask mask = Mask::of(walk.template left<Shape>(ahead_block, ahead_step));
    r.weights.template request<Shape::hint>(codes, scales, places, mask, ahead_step);
    r.rows.request(x, row_place, mask, ahead_step);
    pin_sums();
    ++ahead_step;
    if constexpr (!Shape::one_block) {
      if (ahead_step == walk.end_step) enter(ahead_block + walk.stride());
    }
  }

  AITER_MOE_DEVICE void multiply(const Registers& r) {
    const Mask mask = Mask::of(walk.template left<Shape>(block, step));
    Kind::multiply(sums, r.weights, places, r.rows, mask);
    pin_sums();
    ++step;
    if constexpr (!Shape::one_block) {
      if (step == walk.end_step) leave();
    }
  }

  AITER_MOE_DEVICE void leave() {
    const Block b = block_of(block);
    const int row = row_of_lane() + (Shape::one_block ? 0 : b.first);
    if (Shape::one_block || row_of_lane() < b.rows) {
      unroll<Shape::tiles>([&]<int t>() {
        *Sums<Shape>::shared().at(walk.part, t, quarter_of_lane(), row) = sums[t];
      });
    }
    clear();
    step = walk.begin_step;
    block += walk.stride();
  }

  AITER_MOE_DEVICE void run() {
    constexpr int depth = Shape::depth, ring = depth + 1;
    Registers registers[ring];
    const int steps = walk.steps();
    block = walk.first;
    step = walk.begin_step;
    clear();
    enter(walk.first);
    if (steps == 0) return;
    unroll<depth>([&]<int i>() { request(registers[i]); });
    int done = 0;
    // One exit at a multiple of the ring: see pipeline.h.
    for (; done + ring <= steps; done += ring) {
      unroll<ring>([&]<int slot>() {
        request(registers[(slot + depth) % ring]);
        multiply(registers[slot]);
      });
    }
    unroll_while<depth>([&]<int slot>() {
      if (done + slot >= steps) return false;
      multiply(registers[slot]);
      return true;
    });
    if constexpr (Shape::one_block) leave();
  }
};

// Runs the stream of this wave.
template <class Kind, class Rows, class Shape, class TileOf, class RowOf>
AITER_MOE_DEVICE void stream(
    const StageArgs& a, const Walk& walk, int x_rows, TileOf tile_of, RowOf row_of) {
  Stream<Kind, Rows, Shape, RowOf> s{
      a, walk, TilePlaces<Shape::tiles>::of(a, tile_of), Rows::source(a, x_rows), row_of};
  s.run();
}

}  // namespace aiter_moe::hip::direct
