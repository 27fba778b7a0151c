// SPDX-License-Identifier: MIT
// Conditions that stay arithmetic. Compilers take `c ? a : b` apart into paths where several
// depend on each other's conditions, and then do not vectorise the loop around them.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

template <int bytes> struct BitsOf;
template <> struct BitsOf<2> { using type = u16; };
template <> struct BitsOf<4> { using type = u32; };
template <> struct BitsOf<8> { using type = u64; };

inline bool both(bool a, bool b) { return static_cast<int>(a) & static_cast<int>(b); }
inline bool either(bool a, bool b) { return static_cast<int>(a) | static_cast<int>(b); }

template <class T>
inline T choose(bool condition, T yes, T no) {
  using Bits = typename BitsOf<sizeof(T)>::type;
  const Bits mask = static_cast<Bits>(0 - static_cast<Bits>(condition));
  const Bits a = __builtin_bit_cast(Bits, yes), b = __builtin_bit_cast(Bits, no);
  return __builtin_bit_cast(T, static_cast<Bits>((a & mask) | (b & ~mask)));
}

}  // namespace aiter_moe::emulator
