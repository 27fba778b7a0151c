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
};

template <class Operands> AITER_MOE_DEVICE void pin(Accumulators<Operands>& sums) {
  using Shape = typename Operands::Shape;
  unroll<Shape::row_tiles>([&]<int m>() {
    unroll<Shape::weight_tiles>([&]<int t>() { pin(sums.tile[m][t]); });
  });
}

template <class Operands> AITER_MOE_DEVICE AITER_MOE_LDS u8* lds_ring() {
  __attribute__((shared, aligned(fragment_bytes))) static u8
      ring[Operands::Shape::ring * Operands::stage_bytes];
  return (AITER_MOE_LDS u8*)(ring);
}

// Sums over the steps of `operands.work`. Stage s of the ring is refilled only after the barrier
// that all waves reach behind their last read of it, hence the request follows the barrier.
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
  const int first = operands.work.first_step, steps = operands.work.steps;
  const int whole_steps = operands.work.end_block / step_blocks - first;
  const auto request = [&]<int slot, bool Whole>(int step) {
    operands.template load_x<Whole>(stages + slot * Operands::stage_bytes, step);
    memory_order();
    operands.template load_w<Whole>(registers[slot], step);
    pin(sums);
  };
  const auto multiply = [&]<int slot, bool Whole>(int step) {
    const auto* stage = stages + slot * Operands::stage_bytes;
    operands.template multiply<Whole>(sums, registers[slot], stage, step);
    pin(sums);
  };
  int done = 0;
  const auto around = [&]<bool Whole>() {
    unroll<ring>([&]<int slot>() {
      wait_loads<w_requests + (depth - 1) * step_requests>();
      barrier();
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
    wait_loads<w_requests + (depth - 1 - slot) * step_requests>();
    barrier();
    multiply.template operator()<slot, false>(first + done + slot);
    return true;
  });
}

}  // namespace aiter_moe::hip
