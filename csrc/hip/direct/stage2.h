// SPDX-License-Identifier: MIT
// Stage 2 of a few tokens, and the sum over the slots of a token: a workgroup owns `columns`
// columns of the output, its waves walk over all blocks. Sums of all pairs meet in the LDS, then
// bias, routing weight and the sum in slot order, rounded once.
// Not here: the walk (stream.h).
#pragma once

#include "hip/direct/stream.h"

namespace aiter_moe::hip::direct {

template <class Kind, class Shape>
AITER_MOE_DEVICE void accumulate_stage2(const StageArgs& a, int first_column, int blocks) {
  const Walk walk = Walk::of<Shape>(a, 0, blocks);
  const auto tile_of = [&](int t) { return first_column / 16 + t; };
  const auto run = [&]<class Rows>() {
    stream<Kind, Rows, Shape>(
        a, walk, a.tokens * a.topk, tile_of, [](u32 word) { return pair_of(word); });
  };
  if constexpr (Kind::quantises) {
    if (static_cast<ElementType>(a.x_type) == ElementType::fp4) {
      return run.template operator()<CodeRows</*ScaleDwords=*/true>>();
    }
  }
  run.template operator()<WideRows<ElementType::bf16>>();
}

constexpr int slots_at_once = 4;  // whose biases are loaded side by side

// The sum over the slots of a token that are computed here, in their order. No product is fused
// with the sum: the bits are those of rows that another kernel adds.
template <class Shape>
AITER_MOE_DEVICE float token_sum(
    const StageArgs& a, int parts, int token, int first_column, int column) {
#pragma clang fp contract(off)
  const RoutingTable& table = routing();
  const auto sums = Sums<Shape>::shared();
  float total = 0.0f;
  for (int first = 0; first < a.topk; first += slots_at_once) {
    int row[slots_at_once];
    float bias[slots_at_once];
    unroll<slots_at_once>([&]<int i>() {
      row[i] = first + i < a.topk ? table.row[token * a.topk + first + i] : -1;
      if (!a.bias || row[i] < 0) return;
      const i64 of_expert = static_cast<i64>(table.expert[row[i]]) * a.bias_stride;
      bias[i] = global(a.bias)[of_expert + first_column + column];
    });
    unroll<slots_at_once>([&]<int i>() {
#pragma clang fp contract(off)
      if (row[i] < 0) return;
      float sum = sums.single(parts, column, row[i]);
      if (a.bias) sum = sum + bias[i];
      const float weight = a.doweight ? table.weight[row[i]] : 1.0f;
      const float weighted = sum * weight;
      total = total + weighted;
    });
  }
  return total;
}

AITER_MOE_DEVICE void store_final(const StageArgs& a, int token, int column, float value) {
  const i64 at = static_cast<i64>(token) * a.out_stride + column;
  switch (static_cast<ElementType>(a.out_type)) {
    case ElementType::f32: global(static_cast<float*>(a.out))[at] = value; return;
    case ElementType::f16:
      global(static_cast<_Float16*>(a.out))[at] = static_cast<_Float16>(value);
      return;
    default: global(static_cast<__bf16*>(a.out))[at] = static_cast<__bf16>(value);
  }
}

template <class Kind, class Shape> AITER_MOE_DEVICE void stage2(const StageArgs& a) {
  constexpr int columns = Shape::tiles * 16, threads = Shape::waves * wave_lanes;
  const int first_column = group_x() * columns;
  const bool computed = first_column < a.n;
  if (computed) {
    const int blocks = read_routing<Shape::waves>(a);
    accumulate_stage2<Kind, Shape>(a, first_column, blocks);
    exchange();
  }
  const int parts = Parts::of<Shape>(reduction_steps(a)).count();
  for (int at = thread(); at < a.tokens * columns; at += threads) {
    const int token = at / columns, column = at % columns;
    if (first_column + column >= a.out_columns) continue;
    float value = 0.0f;
    if (computed) value = token_sum<Shape>(a, parts, token, first_column, column);
    store_final(a, token, first_column + column, value);
  }
}

}  // namespace aiter_moe::hip::direct
