// SPDX-License-Identifier: MIT
// From the sums of gate and up columns to the values of stage 1: routing weight, bias, activation.
// Not here: which registers hold which sums (stage1.h).
#pragma once

#include "hip/activation.h"
#include "hip/rows.h"

namespace aiter_moe::hip {

// Bias of an expert's gate columns; that of up columns lies further on. It is never interleaved,
// and its halves are those of the physical rows.
AITER_MOE_DEVICE const float* gate_bias(const StageArgs& a, int expert) {
  return a.bias + static_cast<i64>(expert) * a.bias_stride;
}
AITER_MOE_DEVICE int up_bias_offset(const StageArgs& a) { return a.bias_stride / 2; }

// 4 columns of one row.
template <Activation Which>
AITER_MOE_DEVICE f32x4 activated(
    const StageArgs& a, f32x4 gate, f32x4 up, float weight, f32x4 gate_bias, f32x4 up_bias) {
  gate = gate * weight + gate_bias;
  up = up * weight + up_bias;
  f32x4 out;
  unroll<4>([&]<int i>() { out[i] = activate<Which>(gate[i], up[i], a); });
  return out;
}

// Row token * topk + slot of a bf16 output, and 4 columns of it.
AITER_MOE_DEVICE u16 AITER_MOE_GLOBAL* bf16_row(const StageArgs& a, Slot slot) {
  const int row = slot.token * a.topk + slot.slot;
  return global(static_cast<u16*>(a.out)) + row_offset(row, a.out_stride);
}
AITER_MOE_DEVICE void store_bf16x4(u16 AITER_MOE_GLOBAL* to, f32x4 values) {
  *reinterpret_cast<u32x2 AITER_MOE_GLOBAL*>(to) =
      __builtin_bit_cast(u32x2, __builtin_convertvector(values, bf16x4));
}

// All of it for 4 columns of a slot.
template <Activation Which>
AITER_MOE_DEVICE void finish_columns(
    const StageArgs& a, f32x4 gate, f32x4 up, Slot slot, float weight, int expert, int column) {
  f32x4 of_gate = {0, 0, 0, 0}, of_up = {0, 0, 0, 0};
  if (a.bias) {
    of_gate = load_f32x4(gate_bias(a, expert) + column);
    of_up = load_f32x4(gate_bias(a, expert) + up_bias_offset(a) + column);
  }
  store_bf16x4(bf16_row(a, slot) + column, activated<Which>(a, gate, up, weight, of_gate, of_up));
}

}  // namespace aiter_moe::hip
