// SPDX-License-Identifier: MIT
// The sums a wave keeps in registers, and the LDS its workgroup's rows pass through.
// Not here: the loops that fill both (pipeline.h, rolling.h).
#pragma once

#include "hip/tile.h"

namespace aiter_moe::hip {

template <class Operands> struct Accumulators {
  f32x4 tile[Operands::Shape::row_tiles][Operands::Shape::weight_tiles];
  AITER_MOE_DEVICE f32x4* operator[](int m) { return tile[m]; }
  // Sums that take half of the 256 registers that all instructions can use go to the others,
  // which matrix instructions use as well; left to itself the compiler moves them to and fro.
  static constexpr int registers = 4 * Operands::Shape::row_tiles * Operands::Shape::weight_tiles;
  static constexpr bool apart = registers >= 128 && !Operands::rolling;
};

// Pins the sums of row tile `M`, or all.
template <int M, class Operands> AITER_MOE_DEVICE void pin_row(Accumulators<Operands>& sums) {
  unroll<Operands::Shape::weight_tiles>([&]<int t>() {
    if constexpr (Accumulators<Operands>::apart) pin_apart(sums.tile[M][t]);
    else pin(sums.tile[M][t]);
  });
}
template <class Operands> AITER_MOE_DEVICE void pin(Accumulators<Operands>& sums) {
  unroll<Operands::Shape::row_tiles>([&]<int m>() { pin_row<m>(sums); });
}
template <class Operands> AITER_MOE_DEVICE void clear(Accumulators<Operands>& sums) {
  unroll<Operands::Shape::row_tiles>([&]<int m>() {
    unroll<Operands::Shape::weight_tiles>([&]<int t>() { sums.tile[m][t] = f32x4{0, 0, 0, 0}; });
  });
}

template <class Operands> AITER_MOE_DEVICE AITER_MOE_LDS u8* lds_ring() {
  __attribute__((shared, aligned(fragment_bytes))) static u8
      ring[Operands::Shape::stages * Operands::stage_bytes];
  return (AITER_MOE_LDS u8*)(ring);
}

}  // namespace aiter_moe::hip
