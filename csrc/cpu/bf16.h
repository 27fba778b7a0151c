// SPDX-License-Identifier: MIT
// f32 to bfloat16, to nearest with ties to even, a vector at a time.
#pragma once

#include "cpu/vector.h"

namespace aiter_moe::cpu {

// A NaN stays a NaN (its quiet bit is set), denormals are kept.
AITER_MOE_INLINE void store_bf16(uint16_t* to, F32 values) {
  const U32 bits = reinterpret_cast<U32>(values);
  const U32 rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const U32 narrow = values == values ? rounded : (bits >> 16) | 0x40u;
  *reinterpret_cast<U16Memory*>(to) = __builtin_convertvector(narrow, U16);
}

}  // namespace aiter_moe::cpu
