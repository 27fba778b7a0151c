// SPDX-License-Identifier: MIT
// Vector instructions as functions of one lane: the types such a function may take and return,
// how they lie in registers, and the loop over the lanes, which compilers vectorise.
// Not here: where sources come from and modifiers (vector_operands.h).
#pragma once

#include "emulator/exec/float16.h"
#include "emulator/wave.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace aiter_moe::emulator::vector {

using f32 = float;
using f64 = double;

// What an operand is: it decides inline constants, modifiers and how many registers it takes.
enum class Kind : u8 { none, b16, f16, b32, f32, b64, f64 };

constexpr bool is_16_bit(Kind kind) { return kind == Kind::b16 || kind == Kind::f16; }
constexpr bool is_float(Kind kind) {
  return kind == Kind::f16 || kind == Kind::f32 || kind == Kind::f64;
}
constexpr int rows_of(Kind kind) { return kind == Kind::b64 || kind == Kind::f64 ? 2 : 1; }

template <class T> constexpr Kind kind_of = Kind::none;
template <> constexpr Kind kind_of<u16> = Kind::b16;
template <> constexpr Kind kind_of<i16> = Kind::b16;
template <> constexpr Kind kind_of<Half> = Kind::f16;
template <> constexpr Kind kind_of<u32> = Kind::b32;
template <> constexpr Kind kind_of<i32> = Kind::b32;
template <> constexpr Kind kind_of<f32> = Kind::f32;
template <> constexpr Kind kind_of<u64> = Kind::b64;
template <> constexpr Kind kind_of<i64> = Kind::b64;
template <> constexpr Kind kind_of<f64> = Kind::f64;

template <class To, class From>
constexpr To as(From value) {
  return __builtin_bit_cast(To, value);
}

// A lane of an operand that begins at `rows`.
template <class T>
inline T load(const Lanes* rows, int lane) {
  const u32 low = rows[0].lane[lane];
  if constexpr (sizeof(T) == 8) {
    return as<T>(static_cast<u64>(rows[1].lane[lane]) << 32 | low);
  } else if constexpr (sizeof(T) == 4) {
    return as<T>(low);
  } else {
    return as<T>(static_cast<u16>(low));
  }
}

// The lanes are worked on in chunks: results of a chunk are complete before its registers are
// written, so sources and destination may be the same registers.
constexpr int chunk = 16;

template <class T>
inline void store(u32 (*rows)[chunk], int k, T value) {
  if constexpr (sizeof(T) == 8) {
    const u64 bits = as<u64>(value);
    rows[0][k] = static_cast<u32>(bits);
    rows[1][k] = static_cast<u32>(bits >> 32);
  } else if constexpr (sizeof(T) == 4) {
    rows[0][k] = as<u32>(value);
  } else {
    rows[0][k] = as<u16>(value);
  }
}

// Writes the lanes of a chunk whose bit of `which` is set.
inline void write_chunk(u32* out, const u32* values, u32 which) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_epi32(out, static_cast<__mmask16>(which), _mm512_loadu_si512(values));
#else
  for (int k = 0; k < chunk; ++k) {
    const u32 mask = 0u - (which >> k & 1);
    out[k] ^= (out[k] ^ values[k]) & mask;
  }
#endif
}

// Bit k: flag k is not zero.
inline u32 bits_of_chunk(const u32* flags) {
#if defined(__AVX512F__)
  const __m512i values = _mm512_loadu_si512(flags);
  return _mm512_test_epi32_mask(values, values);
#else
  u32 bits = 0;
  for (int k = 0; k < chunk; ++k) bits |= static_cast<u32>(flags[k] != 0) << k;
  return bits;
#endif
}

// Computes the lanes of `which` of an instruction: out and sources are first registers.
using Body = void (*)(Lanes* out, const Lanes* const* sources, u64 which);
// Computes a bit for every lane.
using Test = u64 (*)(const Lanes* const* sources);

// Calls f with lane `lane` of its sources.
template <class R, class A>
inline R call(R (*f)(A), const Lanes* const* s, int lane) {
  return f(load<A>(s[0], lane));
}
template <class R, class A, class B>
inline R call(R (*f)(A, B), const Lanes* const* s, int lane) {
  return f(load<A>(s[0], lane), load<B>(s[1], lane));
}
template <class R, class A, class B, class C>
inline R call(R (*f)(A, B, C), const Lanes* const* s, int lane) {
  return f(load<A>(s[0], lane), load<B>(s[1], lane), load<C>(s[2], lane));
}

template <class R, class... S>
R result_of(R (*)(S...));

// The body of an instruction that computes f in every lane.
template <auto f>
void each_lane(Lanes* out, const Lanes* const* sources, u64 which) {
  using R = decltype(result_of(f));
  constexpr int rows = sizeof(R) == 8 ? 2 : 1;
  for (int part = 0; part < lanes; part += chunk) {
    alignas(64) u32 values[rows][chunk];
    for (int k = 0; k < chunk; ++k) store<R>(values, k, call(f, sources, part + k));
    for (int row = 0; row < rows; ++row)
      write_chunk(&out[row].lane[part], values[row], static_cast<u32>(which >> part));
  }
}

// The lanes where f holds.
template <auto f>
u64 lanes_where(const Lanes* const* sources) {
  u64 bits = 0;
  for (int part = 0; part < lanes; part += chunk) {
    alignas(64) u32 flags[chunk];
    for (int k = 0; k < chunk; ++k) flags[k] = call(f, sources, part + k);
    bits |= static_cast<u64>(bits_of_chunk(flags)) << part;
  }
  return bits;
}

// What kinds of operands an instruction has, for the code that all instructions share.
struct Shape {
  int count;       // of sources
  Kind source[3];
  Kind result;
  bool keeps_high_half = false;  // 16-bit result: the other half of the register stays
  bool ignores_mode = false;     // neither rounds nor flushes denormals, whatever the types
};

template <class R, class A>
constexpr Shape shape_of(R (*)(A)) {
  return {1, {kind_of<A>}, kind_of<R>};
}
template <class R, class A, class B>
constexpr Shape shape_of(R (*)(A, B)) {
  return {2, {kind_of<A>, kind_of<B>}, kind_of<R>};
}
template <class R, class A, class B, class C>
constexpr Shape shape_of(R (*)(A, B, C)) {
  return {3, {kind_of<A>, kind_of<B>, kind_of<C>}, kind_of<R>};
}

}  // namespace aiter_moe::emulator::vector
