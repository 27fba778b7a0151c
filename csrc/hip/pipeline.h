// SPDX-License-Identifier: MIT
// The loop over the reduction: requests run `depth` steps ahead of the matrix instructions,
// activations into a ring of LDS stages, weights into a ring of registers. One barrier a step.
// Not here: what a request or a multiplication is (the operand types).
#pragma once

#include "hip/rolling.h"

namespace aiter_moe::hip {

// Sums over the steps of `operands.work`. A stage of the LDS is refilled only after the barrier
// that all waves reach behind their last read of it. Rows that land by themselves fill it from
// their request on, hence that follows the barrier, and there are as many stages as sets of
// registers. Rows that pass through registers fill it just before the barrier of their step: two
// stages do, and one does with a barrier more.
//
// The waits: a wave asks, in this order, w(0), x(0), w(1), x(1), ..., and weights as soon as the
// registers of their step are free, before the wait for the rows of the current one. So one wait,
// for all but the requests made after x(i), serves rows and weights of step i, and the compiler,
// which counts along, adds none. Rows that pass through registers are asked for before their
// weights, behind the barrier.
//
// The loop has one exit, at a multiple of the ring: leaving it in the middle makes the compiler
// assume a jump from any step to the first, and wait there for nearly everything. The steps left
// over have been requested already. As long as the requests ahead are of whole steps, a copy of
// the loop without masks runs.
template <class Operands>
AITER_MOE_DEVICE void accumulate_by_steps(Accumulators<Operands>& sums, Operands& operands) {
  using Shape = typename Operands::Shape;
  constexpr int ring = Shape::ring, depth = Shape::depth;
  constexpr bool w_first = !Operands::rows_through_registers;
  constexpr int w_requests = Operands::w_requests;
  constexpr int step_requests = Operands::x_requests + w_requests;
  AITER_MOE_LDS u8* stages = lds_ring<Operands>();
  typename Operands::Registers registers[ring];
  static_assert(Operands::rows_through_registers || Shape::stages == ring,
                "a stage for every step whose rows are under way");
  const int first = operands.work.first_step, end = first + operands.work.steps;
  const int whole_end = operands.work.end_block / step_blocks;
  const auto stage_of = [&]<int slot>() {
    return stages + slot % Shape::stages * Operands::stage_bytes;
  };
  const auto request_w = [&]<int slot, bool Whole, int Ahead>(const Cursor<Operands>& cursor) {
    operands.template load_w<Whole, Ahead>(registers[slot], cursor);
    pin(sums);
  };
  const auto request_x = [&]<int slot, bool Whole, int Ahead>(const Cursor<Operands>& cursor) {
    operands.template load_x<Whole, Ahead>(
        registers[slot], stage_of.template operator()<slot>(), cursor);
    pin(sums);
  };
  const auto land = [&]<int slot, int later_requests>() {
    if constexpr (Operands::rows_through_registers && Shape::stages == 1) barrier();
    operands.template land_x<later_requests>(
        registers[slot], stage_of.template operator()<slot>());
    barrier();
  };
  const auto multiply = [&]<int slot, bool Whole>(int step) {
    operands.template multiply<Whole>(
        sums, registers[slot], stage_of.template operator()<slot>(), step);
    pin(sums);
  };
  const auto around = [&]<bool Whole>(const Cursor<Operands>& cursor) {
    unroll<ring>([&]<int slot>() {
      constexpr int next = (slot + depth) % ring;
      if constexpr (w_first) request_w.template operator()<next, Whole, slot>(cursor);
      land.template operator()<slot, w_requests + (depth - 1) * step_requests>();
      request_x.template operator()<next, Whole, slot>(cursor);
      if constexpr (!w_first) request_w.template operator()<next, Whole, slot>(cursor);
      multiply.template operator()<slot, Whole>(cursor.step() + slot - depth);
    });
  };
  clear(sums);
  Cursor<Operands> cursor(first);
  unroll<depth>([&]<int i>() {
    if constexpr (w_first) request_w.template operator()<i, false, i>(cursor);
    request_x.template operator()<i, false, i>(cursor);
    if constexpr (!w_first) request_w.template operator()<i, false, i>(cursor);
  });
  cursor.template advance<depth>();  // the first step not yet requested
  for (; cursor.scales <= (whole_end - ring) * s_step_bytes; cursor.template advance<ring>())
    around.template operator()<true>(cursor);
  for (; cursor.scales <= (end - ring + depth) * s_step_bytes; cursor.template advance<ring>())
    around.template operator()<false>(cursor);
  const int done = cursor.step() - depth;
  unroll_while<depth>([&]<int slot>() {
    if (done + slot >= end) return false;
    constexpr int later_steps = depth - 1 - slot;
    land.template operator()<slot, later_steps * step_requests + (w_first ? 0 : w_requests)>();
    multiply.template operator()<slot, false>(done + slot);
    return true;
  });
}

// The sums of `operands.work`.
template <class Operands>
AITER_MOE_DEVICE void accumulate(Accumulators<Operands>& sums, Operands& operands) {
  if constexpr (Operands::rolling) accumulate_rolling(sums, operands);
  else accumulate_by_steps(sums, operands);
}

}  // namespace aiter_moe::hip
