// SPDX-License-Identifier: MIT
// v_mfma_(scale_)f32_16x16x128_f8f6f4 and 32x32x64: A and B each in one of five formats (cbsz,
// blgp), with a power of two for every row or column and every 32 elements of k.
//
// Per block of 32: products summed in f32, times both scales, added to the result; so a block of
// fp4 or fp6 e2m3 is exact until it is added.
#pragma once

#include "emulator/exec/matrix_scaled_fp4.h"
#include "emulator/exec/matrix_scales.h"

namespace aiter_moe::emulator::matrix {

template <int edge>
void multiply_scaled(const ScaledOperands& operands, float* tile) {
  Panel<float> a, b;
  unpack<edge>(operands.a_format, operands.registers.a, scaled_layout(operands.a_format), a.at);
  unpack<edge>(operands.b_format, operands.registers.b, scaled_layout(operands.b_format), b.at);
  for (int block = 0; block < lanes / edge; ++block) {
    const int panel_row = block * scale_block * edge;
    const float* a_exponents = operands.a_scales.exponent + block * edge;
    const float* b_exponents = operands.b_scales.exponent + block * edge;
    multiply_panels<edge, Products::exact>(
        a.at + panel_row, b.at + panel_row, scale_block, [](int, int) { return Floats{}; },
        [&](int row, int column, Floats sums) {
          add_scaled<edge>(sums, a_exponents[row], load<Floats>(b_exponents + column), row, column,
                           tile);
        });
  }
}

template <int edge>
void scaled(Wave& w, const Instruction& i) {
  ScaledOperands operands;
  alignas(64) float tile[edge * edge];
  if (!operands.fetch(w, i) || !load_addend<edge>(w, i, i.src[2], 1, tile)) return;
#if defined(AITER_MOE_FP4_BYTES)
  if (operands.a_format == Element::fp4 && operands.b_format == Element::fp4)
    multiply_fp4<edge>(operands, tile);
  else
#endif
    multiply_scaled<edge>(operands, tile);
  store_result<edge>(w, i, 1, tile);
}

}  // namespace aiter_moe::emulator::matrix
