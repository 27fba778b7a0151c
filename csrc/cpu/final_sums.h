// SPDX-License-Identifier: MIT
// The last step of a final output: f32 sums of some columns of all tokens, rounded once.
#pragma once

#include "common/stage_args.h"
#include "cpu/runtime/convert.h"

namespace aiter_moe::cpu {

// Columns of the output that one worker sums, and their sums, f32 [tokens][count].
struct FinalColumns {
  int first;
  int count;
  float* sums;

  float* of(long token) const { return sums + token * count; }
};

template <class To, class Round>
void round_rows(const StageArgs& args, const FinalColumns& columns, const Round& round) {
  for (long token = 0; token < args.tokens; ++token) {
    To* const out = static_cast<To*>(args.out) + token * args.out_stride;
    const float* const from = columns.of(token);
    const int count = columns.first + columns.count < args.n ? columns.count
                                                             : args.n - columns.first;
    for (int i = 0; i < count; ++i) out[columns.first + i] = round(from[i]);
    if (columns.first + count < args.n) continue;
    for (int i = args.n; i < args.out_columns; ++i) out[i] = To{};
  }
}

// Whoever has the last columns also writes zeros up to args.out_columns.
inline void store_final(const StageArgs& args, const FinalColumns& columns) {
  switch (static_cast<ElementType>(args.out_type)) {
    case ElementType::bf16: return round_rows<uint16_t>(args, columns, f32_to_bf16);
    case ElementType::f16: return round_rows<uint16_t>(args, columns, f32_to_f16);
    default: return round_rows<float>(args, columns, [](float value) { return value; });
  }
}

}  // namespace aiter_moe::cpu
