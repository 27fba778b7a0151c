// SPDX-License-Identifier: MIT
// Sixteen numbers at a time for matrix instructions: compilers' generic vectors, so that no
// vectoriser is needed and any host will do. AVX-512 is asked for by name only where generic
// vectors cannot say it.
#pragma once

#include "emulator/wave.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define AITER_MOE_MATRIX_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define AITER_MOE_MATRIX_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AITER_MOE_MATRIX_UNROLL _Pragma("GCC unroll 16")
#endif

namespace aiter_moe::emulator::matrix {

constexpr int width = 16;

using Floats = float __attribute__((vector_size(64)));
using Ints = i32 __attribute__((vector_size(64)));
using Words = u32 __attribute__((vector_size(64)));
using Doubles = double __attribute__((vector_size(128)));

template <class Vector, class T>
AITER_MOE_MATRIX_INLINE Vector load(const T* from) {
  Vector out;
  __builtin_memcpy(&out, from, sizeof out);
  return out;
}

template <class Vector, class T>
AITER_MOE_MATRIX_INLINE void store(T* to, Vector values) {
  __builtin_memcpy(to, &values, sizeof values);
}

AITER_MOE_MATRIX_INLINE Floats as_floats(Words bits) { return reinterpret_cast<Floats>(bits); }
AITER_MOE_MATRIX_INLINE Words as_words(Floats values) { return reinterpret_cast<Words>(values); }

// Whether the products of two element formats are floats: all but those of f32 itself.
enum class Products { exact, rounded };

AITER_MOE_MATRIX_INLINE Floats splat(float value) { return value - Floats{}; }
AITER_MOE_MATRIX_INLINE Ints splat(i32 value) { return value - Ints{}; }

// a * b + c, rounded once. Rounding an exact product changes nothing, so that hosts without FMA
// have the same bits; for f32 operands the detour over double may differ in the last.
template <Products products>
AITER_MOE_MATRIX_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(_mm512_fmadd_ps(reinterpret_cast<__m512>(a),
                                                  reinterpret_cast<__m512>(b),
                                                  reinterpret_cast<__m512>(c)));
#else
  if constexpr (products == Products::exact) return a * b + c;
  return __builtin_convertvector(__builtin_convertvector(a, Doubles) *
                                         __builtin_convertvector(b, Doubles) +
                                     __builtin_convertvector(c, Doubles),
                                 Floats);
#endif
}

// Wraps.
template <Products>
AITER_MOE_MATRIX_INLINE Ints multiply_add(Ints a, Ints b, Ints c) {
  return reinterpret_cast<Ints>(reinterpret_cast<Words>(a) * reinterpret_cast<Words>(b) +
                                reinterpret_cast<Words>(c));
}

// Vectors of an element type.
template <class T>
struct Vectors;
template <>
struct Vectors<float> {
  using type = Floats;
};
template <>
struct Vectors<i32> {
  using type = Ints;
};
template <class T>
using VectorOf = typename Vectors<T>::type;

}  // namespace aiter_moe::emulator::matrix
