// SPDX-License-Identifier: MIT
// Instructions with a bit of a lane mask beside their sources or result: carries, borrows,
// selection by a mask, and counts of the mask below a lane.
#pragma once

#include "emulator/exec/vector_bits.h"
#include "emulator/exec/vector_operands.h"
#include "emulator/memory/waits.h"

namespace aiter_moe::emulator::vector {

// A result with the bit it leaves in the mask.
template <class T>
struct Carried {
  T value;
  u32 carry;
};

inline Carried<u32> add_carry(u32 a, u32 b, u32 carry) {
  const u64 sum = static_cast<u64>(a) + b + carry;
  return {static_cast<u32>(sum), static_cast<u32>(sum >> 32)};
}
inline Carried<u32> subtract_borrow(u32 a, u32 b, u32 borrow) {
  const u64 difference = static_cast<u64>(a) - b - borrow;
  return {static_cast<u32>(difference), static_cast<u32>(difference >> 32) & 1};
}
inline Carried<u32> subtract_borrow_reversed(u32 a, u32 b, u32 borrow) {
  return subtract_borrow(b, a, borrow);
}

// Computes the lanes of `which` and returns the carries of all lanes.
using CarryBody = u64 (*)(Lanes* out, const Lanes* const* sources, u64 which, u64 carries);

template <auto f>
u64 each_lane_with_carry(Lanes* out, const Lanes* const* sources, u64 which, u64 carries) {
  u64 result = 0;
  for (int part = 0; part < lanes; part += chunk) {
    alignas(64) u32 values[chunk], flags[chunk];
    const u32 before = static_cast<u32>(carries >> part) & 0xffff;
    for (int k = 0; k < chunk; ++k) {
      const auto carried = f(load<u32>(sources[0], part + k), load<u32>(sources[1], part + k),
                             before >> k & 1);
      values[k] = carried.value;
      flags[k] = carried.carry;
    }
    result |= static_cast<u64>(bits_of_chunk(flags)) << part;
    write_chunk(&out->lane[part], values, static_cast<u32>(which >> part));
  }
  return result;
}

constexpr Shape two_words = {2, {Kind::b32, Kind::b32}, Kind::b32};

inline u16 carry_destination(const Instruction& i) {
  return i.second_dst == operand::none ? operand::vcc : i.second_dst;
}

[[gnu::noinline]] inline void run_carry_modified(Wave& w, const Instruction& i, CarryBody body,
                                                 u64 carries) {
  Operands operands;
  alignas(64) Lanes result;
  prepare(w, i, two_words, operands);
  const u64 out = body(&result, operands.rows, all_lanes, carries);
  finish(w, i, two_words, &result, operands.which);
  w.write_scalar64(i, carry_destination(i), out & operands.which);
}

inline void run_carry(Wave& w, const Instruction& i, CarryBody body, u64 carries) {
  if (__builtin_expect(!is_plain(w, i, two_words), 0))
    return run_carry_modified(w, i, body, carries);
  const u64 exec = w.exec();
  Lanes room[2][2];
  const Lanes* sources[2];
  for (int n = 0; n < 2; ++n) sources[n] = plain_source(w, i, n, Kind::b32, room[n], exec);
  Lanes* out = destination(w, i, i.dst, 1, exec);
  if (!out) return;
  w.write_scalar64(i, carry_destination(i), body(out, sources, exec, carries) & exec);
}

template <auto f>
void carry_out(Wave& w, const Instruction& i) {
  run_carry(w, i, each_lane_with_carry<f>, 0);
}
// The third source is the mask of carries coming in.
template <auto f>
void carry_in_out(Wave& w, const Instruction& i) {
  run_carry(w, i, each_lane_with_carry<f>, w.read_scalar64(i, i.src[2]));
}

// 32-bit factors, a 64-bit sum and its carry.
inline u64 add_wraps(u64 product, u64 addend) { return product + addend < addend; }

inline u64 multiply_add_unsigned(u32 a, u32 b, u64 c) { return static_cast<u64>(a) * b + c; }
inline u64 multiply_add_signed(i32 a, i32 b, u64 c) {
  return static_cast<u64>(static_cast<i64>(a) * b) + c;
}
inline bool multiply_add_unsigned_carries(u32 a, u32 b, u64 c) {
  return add_wraps(static_cast<u64>(a) * b, c);
}
// The 65th bit of the sum of two sign-extended numbers.
inline bool multiply_add_signed_carries(i32 a, i32 b, u64 c) {
  const i64 product = static_cast<i64>(a) * b;
  const u64 sum = static_cast<u64>(product) + c;
  const bool carry = sum < c;
  return (product < 0) ^ (static_cast<i64>(c) < 0) ^ carry;
}

// Lanes of a 64-bit addend whose high half was never written, and which no load is to write.
// Where only the low half of a sum is used, clang leaves the addend's high half undefined.
inline u64 undefined_high_half(const Wave& w, u16 code, u64 which) {
  if (!is_vector(code) || code + 1 >= operand::end) return 0;
  const u16 high = static_cast<u16>(code + 1);
  const u64 missing = which & ~w.vector_ready[high - operand::v0];
  return missing == 0 ? 0 : missing & ~lanes_in_flight(w.requests, high);
}

// An undefined high half of the addend makes that of the sum undefined, and is no fault itself.
template <auto f, auto carries>
void multiply_add_64(Wave& w, const Instruction& i) {
  constexpr Shape shape = shape_of(f);
  const u64 exec = w.exec();
  Lanes room[3][2];
  const Lanes* sources[3];
  for (int n = 0; n < 2; ++n)
    sources[n] = plain_source(w, i, n, shape.source[n], room[n], exec);
  const u64 undefined = undefined_high_half(w, i.src[2], exec);
  sources[2] = plain_source(w, i, 2, shape.source[2], room[2], exec & ~undefined);
  if (undefined != 0) w.need(i, i.src[2], undefined);
  const u64 bits = lanes_where<carries>(sources) & exec;
  if (Lanes* out = destination(w, i, i.dst, 2, exec)) {
    each_lane<f>(out, sources, exec);
    w.vector_ready[i.dst + 1 - operand::v0] &= ~undefined;
  }
  w.write_scalar64(i, carry_destination(i), bits);
}

// out = b in the lanes of `mask`, else a.
inline void select_lanes(Lanes& out, const Lanes& a, const Lanes& b, u64 mask, u64 which) {
  for (int part = 0; part < lanes; part += chunk) {
    alignas(64) u32 values[chunk];
    __builtin_memcpy(values, &a.lane[part], sizeof values);
    write_chunk(values, &b.lane[part], static_cast<u32>(mask >> part));
    write_chunk(&out.lane[part], values, static_cast<u32>(which >> part));
  }
}

// The sources may be negated as floats, but no bit is lost otherwise.
inline void select_by_mask(Wave& w, const Instruction& i) {
  constexpr Shape shape = {2, {Kind::f32, Kind::f32}, Kind::b32, false, true};
  const u64 mask = w.read_scalar64(i, i.src[2]);
  if (__builtin_expect(is_plain(w, i, shape), 1)) {
    const u64 exec = w.exec();
    Lanes room[2];
    const Lanes* a = plain_source(w, i, 0, Kind::b32, &room[0], exec);
    const Lanes* b = plain_source(w, i, 1, Kind::b32, &room[1], exec);
    if (Lanes* out = destination(w, i, i.dst, 1, exec)) select_lanes(*out, *a, *b, mask, exec);
    return;
  }
  Operands operands;
  alignas(64) Lanes result;
  prepare(w, i, shape, operands);
  select_lanes(result, *operands.rows[0], *operands.rows[1], mask, all_lanes);
  finish(w, i, shape, &result, operands.which);
}

// Bits of the first source below the lane, plus the second; `first` is the lane of bit 0.
template <int first>
void count_below(Lanes* out, const Lanes* const* sources, u64 which) {
  alignas(64) Lanes result;
  for (int lane = 0; lane < lanes; ++lane) {
    const u64 below = ((1ull << lane) - 1) >> first;
    const u32 bits = sources[0]->lane[lane] & static_cast<u32>(below);
    result.lane[lane] = count_ones_add(bits, sources[1]->lane[lane]);
  }
  merge(*out, result, which);
}

template <int first>
void mask_count(Wave& w, const Instruction& i) {
  if (is_plain(w, i, two_words))
    run_plain<2>(w, i, two_words, count_below<first>);
  else
    run_modified(w, i, two_words, count_below<first>);
}

}  // namespace aiter_moe::emulator::vector
