// SPDX-License-Identifier: MIT
// Additions of 4 neighbouring columns to a row that other workgroups add to as well, in two pairs
// where the elements have 16 bits. In which order they arrive is open, and with it the last bits.
// The scope is the device: nothing but kernels of the same stream reads the rows.
#pragma once

#include "hip/runtime.h"

namespace aiter_moe::hip {

AITER_MOE_DEVICE void add4(__bf16 AITER_MOE_GLOBAL* to, f32x4 values) {
  typedef short i16x2 __attribute__((ext_vector_type(2)));
  const auto bits = __builtin_bit_cast(i16x4, __builtin_convertvector(values, bf16x4));
  auto* pair = reinterpret_cast<i16x2 AITER_MOE_GLOBAL*>(to);
  __builtin_amdgcn_global_atomic_fadd_v2bf16(pair, i16x2{bits[0], bits[1]});
  __builtin_amdgcn_global_atomic_fadd_v2bf16(pair + 1, i16x2{bits[2], bits[3]});
}

AITER_MOE_DEVICE void add4(_Float16 AITER_MOE_GLOBAL* to, f32x4 values) {
  typedef _Float16 f16x2 __attribute__((ext_vector_type(2)));
  typedef _Float16 f16x4 __attribute__((ext_vector_type(4)));
  const auto halves = __builtin_convertvector(values, f16x4);
  auto* pair = reinterpret_cast<f16x2 AITER_MOE_GLOBAL*>(to);
  __builtin_amdgcn_global_atomic_fadd_v2f16(pair, f16x2{halves[0], halves[1]});
  __builtin_amdgcn_global_atomic_fadd_v2f16(pair + 1, f16x2{halves[2], halves[3]});
}

AITER_MOE_DEVICE void add4(float AITER_MOE_GLOBAL* to, f32x4 values) {
  unroll<4>([&]<int i>() {
    __hip_atomic_fetch_add(to + i, values[i], __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  });
}

}  // namespace aiter_moe::hip
