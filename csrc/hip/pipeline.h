// SPDX-License-Identifier: MIT
// The loop over the reduction: requests run `depth` steps ahead of the matrix instructions,
// activations into a ring of LDS stages, weights into a ring of registers. One barrier a step.
// Not here: what a request or a multiplication is (the operand types).
#pragma once

#include "hip/tile.h"

namespace aiter_moe::hip {

template <class Operands> struct Accumulators {
  f32x4 tile[Operands::Shape::row_tiles][Operands::Shape::weight_tiles];
  AITER_MOE_DEVICE f32x4* operator[](int m) { return tile[m]; }
  // Sums that take half of the 256 registers that all instructions can use go to the others,
  // which matrix instructions use as well; left to itself the compiler moves them to and fro.
  static constexpr int registers = 4 * Operands::Shape::row_tiles * Operands::Shape::weight_tiles;
  static constexpr bool apart = registers >= 128;
};

template <class Operands> AITER_MOE_DEVICE void pin(Accumulators<Operands>& sums) {
  using Shape = typename Operands::Shape;
  unroll<Shape::row_tiles>([&]<int m>() {
    unroll<Shape::weight_tiles>([&]<int t>() {
      if constexpr (Accumulators<Operands>::apart) pin_apart(sums.tile[m][t]);
      else pin(sums.tile[m][t]);
    });
  });
}

template <class Operands> AITER_MOE_DEVICE AITER_MOE_LDS u8* lds_ring() {
  __attribute__((shared, aligned(fragment_bytes))) static u8
      ring[Operands::Shape::stages * Operands::stage_bytes];
  return (AITER_MOE_LDS u8*)(ring);
}

// Sums over the steps of `operands.work`. A stage of the LDS is refilled only after the barrier
// that all waves reach behind their last read of it. Rows that land by themselves fill it from
// their request on, hence that follows the barrier, and there are as many stages as sets of
// registers. Rows that pass through registers fill it just before the barrier of their step: two
// stages do, and one does with a barrier more.
//
// The waits: a wave asks, in this order, x(0), w(0), x(1), w(1), ...; its own part of x(i) has
// landed once at most the requests made after it are unfinished. Waits for weights are the
// compiler's, which sees their registers. The loop has one exit, at a multiple of the ring:
// leaving it in the middle makes the compiler assume a jump from any step to the first, and wait
// there for nearly everything. The steps left over have been requested already. As long as the
// requests ahead are of whole steps, a copy of the loop without masks runs.
template <class Operands>
AITER_MOE_DEVICE void accumulate(Accumulators<Operands>& sums, const Operands& operands) {
  using Shape = typename Operands::Shape;
  constexpr int ring = Shape::ring, depth = Shape::depth;
  constexpr int w_requests = Operands::w_requests;
  constexpr int step_requests = Operands::x_requests + w_requests;
  AITER_MOE_LDS u8* stages = lds_ring<Operands>();
  typename Operands::Registers registers[ring];
  static_assert(Operands::rows_through_registers || Shape::stages == ring,
                "a stage for every step whose rows are under way");
  const int first = operands.work.first_step, steps = operands.work.steps;
  const int whole_steps = operands.work.end_block / step_blocks - first;
  const auto stage_of = [&]<int slot>() {
    return stages + slot % Shape::stages * Operands::stage_bytes;
  };
  const auto request = [&]<int slot, bool Whole>(int step) {
    operands.template load_x<Whole>(registers[slot], stage_of.template operator()<slot>(), step);
    memory_order();
    operands.template load_w<Whole>(registers[slot], step);
    pin(sums);
  };
  const auto land = [&]<int slot, int later_steps>() {
    if constexpr (Operands::rows_through_registers && Shape::stages == 1) barrier();
    operands.template land_x<w_requests + later_steps * step_requests>(
        registers[slot], stage_of.template operator()<slot>());
    barrier();
  };
  const auto multiply = [&]<int slot, bool Whole>(int step) {
    operands.template multiply<Whole>(
        sums, registers[slot], stage_of.template operator()<slot>(), step);
    pin(sums);
  };
  int done = 0;
  const auto around = [&]<bool Whole>() {
    unroll<ring>([&]<int slot>() {
      land.template operator()<slot, depth - 1>();
      request.template operator()<(slot + depth) % ring, Whole>(first + done + slot + depth);
      multiply.template operator()<slot, Whole>(first + done + slot);
    });
  };
  unroll<Shape::row_tiles>([&]<int m>() {
    unroll<Shape::weight_tiles>([&]<int t>() { sums.tile[m][t] = f32x4{0, 0, 0, 0}; });
  });
  unroll<depth>([&]<int i>() { request.template operator()<i, false>(first + i); });
  for (; done + ring + depth <= whole_steps; done += ring) around.template operator()<true>();
  for (; done + ring <= steps; done += ring) around.template operator()<false>();
  unroll_while<depth>([&]<int slot>() {
    if (done + slot >= steps) return false;
    land.template operator()<slot, depth - 1 - slot>();
    multiply.template operator()<slot, false>(first + done + slot);
    return true;
  });
}

}  // namespace aiter_moe::hip
