// SPDX-License-Identifier: MIT
// Vectors of the widest kind the compiler's flags allow, on any architecture, as GCC's generic
// vectors. Epilogues and activations are written on these; micro-kernels are not.
#pragma once

#include <stdint.h>

#define AITER_MOE_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define AITER_MOE_UNROLL _Pragma("clang loop unroll(full)")
#define AITER_MOE_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define AITER_MOE_UNROLL _Pragma("GCC unroll 32")
#define AITER_MOE_ROLLED _Pragma("GCC unroll 1")
#pragma GCC diagnostic ignored "-Wpsabi"  // every function here is inlined: no ABI to change
#endif

namespace aiter_moe::cpu {

// Columns whose sums micro-kernels leave side by side.
constexpr int kLanes = 16;

// Wider ones than the target has would be taken apart, comparisons even into single lanes.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kVectorLanes = kVectorBytes / 4;

using F32 = float __attribute__((vector_size(kVectorBytes)));
using I32 = int32_t __attribute__((vector_size(kVectorBytes)));
using U32 = uint32_t __attribute__((vector_size(kVectorBytes)));
using U16 = uint16_t __attribute__((vector_size(kVectorBytes / 2)));
using F32Memory = float __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
using U16Memory = uint16_t __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));

// Holds a sum in a register: with its steps unrolled GCC would move sums between registers and
// memory, or add them up in another order.
template <class Vector>
AITER_MOE_INLINE void keep_in_register(Vector& sum) {
#if defined(__AVX512VL__)
  __asm__("" : "+v"(sum));
#elif defined(__AVX__)
  __asm__("" : "+x"(sum));
#endif
}

AITER_MOE_INLINE F32 splat(float value) { return F32{} + value; }

AITER_MOE_INLINE F32 load(const float* from) { return *reinterpret_cast<const F32Memory*>(from); }

AITER_MOE_INLINE void store(float* to, F32 values) {
  *reinterpret_cast<F32Memory*>(to) = values;
}

// Comparisons with NaN are false, so a NaN in `x` survives every bound.
AITER_MOE_INLINE F32 at_most(F32 x, float bound) { return x > bound ? splat(bound) : x; }

AITER_MOE_INLINE F32 at_least(F32 x, float bound) { return x < bound ? splat(bound) : x; }

AITER_MOE_INLINE F32 magnitude(F32 x) {
  return reinterpret_cast<F32>(reinterpret_cast<U32>(x) & 0x7FFFFFFFu);
}

AITER_MOE_INLINE F32 with_sign_of(F32 positive, F32 sign) {
  return reinterpret_cast<F32>(reinterpret_cast<U32>(positive) |
                               (reinterpret_cast<U32>(sign) & 0x80000000u));
}

}  // namespace aiter_moe::cpu
