// SPDX-License-Identifier: MIT
// What atomics do to one place in memory. Workgroups run on several threads, so every operation is
// a loop around the host's compare and swap. Not here: which lanes, which memory (atomics.h).
//
// Floating point adds keep denormals and round to nearest; minimum and maximum take the new value
// where it compares less (greater), so a NaN in memory stays.
#pragma once

#include "emulator/exec/float16.h"
#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

enum class AtomicOp : u8 {
  swap, compare_swap, add, subtract, reverse_subtract, min_signed, min_unsigned, max_signed,
  max_unsigned, bit_and, bit_or, bit_xor, increment, decrement, mask_or, wrap,
  add_float, min_float, max_float, compare_swap_float, add_half_pair, add_bfloat_pair
};

// An operation on 4 or 8 bytes.
struct AtomicKind {
  AtomicOp op;
  u8 bytes;
};

// How integer and floating point views of a word belong together.
template <class Word>
struct WordTypes;
template <>
struct WordTypes<u32> {
  using Signed = i32;
  using Float = float;
};
template <>
struct WordTypes<u64> {
  using Signed = i64;
  using Float = double;
};

inline u32 add_half_pairs(u32 a, u32 b) {
  u32 sum = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const Half x{static_cast<u16>(a >> shift)}, y{static_cast<u16>(b >> shift)};
    sum |= static_cast<u32>(to_half(to_float(x) + to_float(y)).bits) << shift;
  }
  return sum;
}

inline u32 add_bfloat_pairs(u32 a, u32 b) {
  const u32 low = to_bfloat(bfloat_to_float(a & 0xffff) + bfloat_to_float(b & 0xffff));
  const u32 high = to_bfloat(bfloat_to_float(a >> 16) + bfloat_to_float(b >> 16));
  return low | high << 16;
}

// The value behind `old`, where `data` is the first operand and `second` the other one, if any
// (of compare and swap: the new value; `data` is what is compared).
template <class Word>
inline Word combined(AtomicOp op, Word old, Word data, Word second) {
  using Signed = typename WordTypes<Word>::Signed;
  using Float = typename WordTypes<Word>::Float;
  const Signed signed_old = static_cast<Signed>(old), signed_data = static_cast<Signed>(data);
  const Float float_old = __builtin_bit_cast(Float, old);
  const Float float_data = __builtin_bit_cast(Float, data);
  switch (op) {
    case AtomicOp::swap: return data;
    case AtomicOp::compare_swap: return old == data ? second : old;
    case AtomicOp::compare_swap_float: return float_old == float_data ? second : old;
    case AtomicOp::add: return old + data;
    case AtomicOp::subtract: return old - data;
    case AtomicOp::reverse_subtract: return data - old;
    case AtomicOp::min_signed: return signed_data < signed_old ? data : old;
    case AtomicOp::max_signed: return signed_data > signed_old ? data : old;
    case AtomicOp::min_unsigned: return data < old ? data : old;
    case AtomicOp::max_unsigned: return data > old ? data : old;
    case AtomicOp::bit_and: return old & data;
    case AtomicOp::bit_or: return old | data;
    case AtomicOp::bit_xor: return old ^ data;
    case AtomicOp::increment: return old >= data ? 0 : old + 1;
    case AtomicOp::decrement: return old == 0 || old > data ? data : old - 1;
    case AtomicOp::mask_or: return (old & ~data) | second;
    case AtomicOp::wrap: return old >= data ? old - data : old + second;
    case AtomicOp::add_float: return __builtin_bit_cast(Word, float_old + float_data);
    case AtomicOp::min_float: return float_data < float_old ? data : old;
    case AtomicOp::max_float: return float_data > float_old ? data : old;
    case AtomicOp::add_half_pair:
      return add_half_pairs(static_cast<u32>(old), static_cast<u32>(data));
    case AtomicOp::add_bfloat_pair:
      return add_bfloat_pairs(static_cast<u32>(old), static_cast<u32>(data));
  }
  return old;
}

// Performs the operation at a naturally aligned address; returns what was there.
template <class Word>
inline Word exchange(AtomicOp op, u64 address, Word data, Word second) {
  Word* const place = reinterpret_cast<Word*>(address);
  Word old = __atomic_load_n(place, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(place, &old, combined(op, old, data, second), true,
                                      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
  }
  return old;
}

}  // namespace aiter_moe::emulator
