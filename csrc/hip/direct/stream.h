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
  static constexpr int tiles = TilesT;
  static constexpr int waves = Waves;
  static constexpr int parts = Parts;
  static constexpr int depth = Depth;
  static constexpr int capacity = Capacity;
  static constexpr int hint = NonTemporal ? non_temporal : 0;
  static_assert(Waves % Parts == 0 && (Parts & (Parts - 1)) == 0,
                "a wave has the same part of all its blocks, for any smaller power of two as well");
};

// Parts of the reduction in use: no more than it has steps.
template <class Shape> AITER_MOE_DEVICE int used_parts(int steps) {
  int parts = Shape::parts;
  while (parts > steps) parts /= 2;
  return parts;
}

// f32 sums: four columns of a row in 16 bytes, rows side by side.
template <class Shape> struct Sums {
  AITER_MOE_LDS f32x4* quads;  // [part][tile][quarter][capacity]

  static AITER_MOE_DEVICE Sums shared() {
    __attribute__((shared)) static f32x4
        quads[Shape::parts * Shape::tiles * 4 * Shape::capacity];
    return {(AITER_MOE_LDS f32x4*)(quads)};
  }
  AITER_MOE_DEVICE AITER_MOE_LDS f32x4* at(int part, int tile, int quarter, int row) const {
    return quads + ((part * Shape::tiles + tile) * 4 + quarter) * Shape::capacity + row;
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

// Blocks first, first + stride, ... below end; of each the steps from begin_step to end_step.
struct Walk {
  int first;
  int stride;
  int end;
  int begin_step;
  int end_step;
  int end_block;  // first MX block that is not part of the reduction
  int part;

  template <class Shape>
  static AITER_MOE_DEVICE Walk of(const StageArgs& a, int first, int end) {
    const int blocks = a.k / mx_block;
    const int steps = (blocks + step_blocks - 1) / step_blocks;
    const int parts = used_parts<Shape>(steps);
    const int part = wave() % parts;
    const int until = (part + 1) * steps / parts;
    return {first + wave() / parts, Shape::waves / parts, end, part * steps / parts, until,
            smaller(blocks, until * step_blocks), part};
  }
  AITER_MOE_DEVICE int steps() const {
    const int blocks = first < end ? (end - 1 - first) / stride + 1 : 0;
    return blocks * (end_step - begin_step);
  }
  AITER_MOE_DEVICE int left(int block, int step) const {
    return block < end ? end_block - step * step_blocks : 0;
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
  bool packed;  // sums start at row 0 instead of the block's first
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
    const Mask mask = Mask::of(walk.left(ahead_block, ahead_step));
    r.weights.template request<Shape::hint>(codes, scales, places, mask, ahead_step);
    r.rows.request(x, row_place, mask, ahead_step);
    pin_sums();
    if (++ahead_step == walk.end_step) enter(ahead_block + walk.stride);
  }

  AITER_MOE_DEVICE void multiply(const Registers& r) {
    const Mask mask = Mask::of(walk.left(block, step));
    Kind::multiply(sums, r.weights, places, r.rows, mask);
    pin_sums();
    if (++step == walk.end_step) leave();
  }

  AITER_MOE_DEVICE void leave() {
    const Block b = block_of(block);
    const int row = row_of_lane() + (packed ? 0 : b.first);
    if (row_of_lane() < b.rows) {
      unroll<Shape::tiles>([&]<int t>() {
        *Sums<Shape>::shared().at(walk.part, t, quarter_of_lane(), row) = sums[t];
      });
    }
    clear();
    step = walk.begin_step;
    block += walk.stride;
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
  }
};

// Calls f<Rows>() for the type of the activations; a16w4 has one.
template <class Kind, class F> AITER_MOE_DEVICE void each_row_type(const StageArgs& a, F f) {
  if constexpr (Kind::quantises) {
    switch (static_cast<ElementType>(a.x_type)) {
      case ElementType::fp4: return f.template operator()<CodeRows>();
      case ElementType::f16: return f.template operator()<WideRows<ElementType::f16>>();
      default: break;
    }
  }
  f.template operator()<WideRows<ElementType::bf16>>();
}

// Runs the stream of this wave. `packed`: there is one block, whose rows are counted from 0.
template <class Kind, class Rows, class Shape, class TileOf, class RowOf>
AITER_MOE_DEVICE void stream(
    const StageArgs& a, const Walk& walk, bool packed, int x_rows, TileOf tile_of, RowOf row_of) {
  Stream<Kind, Rows, Shape, RowOf> s{
      a, walk, TilePlaces<Shape::tiles>::of(a, tile_of), Rows::source(a, x_rows), row_of, packed};
  s.run();
}

}  // namespace aiter_moe::hip::direct
