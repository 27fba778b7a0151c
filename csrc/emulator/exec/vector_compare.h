// SPDX-License-Identifier: MIT
// Comparisons: one bit a lane, zero in lanes that do not take part; v_cmpx writes EXEC as well.
#pragma once

#include "emulator/exec/vector_float.h"
#include "emulator/exec/vector_operands.h"
#include "emulator/handlers.h"

namespace aiter_moe::emulator::vector {

template <class T>
struct Ordered {
  static auto value(T a) {
    if constexpr (kind_of<T> == Kind::f16) return to_float(a);
    else return a;
  }
};

template <class T>
inline bool less(T a, T b) {
  return Ordered<T>::value(a) < Ordered<T>::value(b);
}
template <class T>
inline bool less_equal(T a, T b) {
  return Ordered<T>::value(a) <= Ordered<T>::value(b);
}
template <class T>
inline bool greater(T a, T b) {
  return Ordered<T>::value(a) > Ordered<T>::value(b);
}
template <class T>
inline bool greater_equal(T a, T b) {
  return Ordered<T>::value(a) >= Ordered<T>::value(b);
}
template <class T>
inline bool equal(T a, T b) {
  return Ordered<T>::value(a) == Ordered<T>::value(b);
}
// For floats: ordered and not equal.
template <class T>
inline bool less_or_greater(T a, T b) {
  return less(a, b) || greater(a, b);
}
template <class T>
inline bool ordered(T a, T b) {
  return !is_nan(a) && !is_nan(b);
}

// Bits of a class mask: signalling and quiet NaN, then negative and positive classes mirrored.
template <class T>
inline bool is_of_class(T a, u32 mask) {
  constexpr bool is_double = sizeof(T) == 8;
  constexpr u64 lowest = is_double ? 1ull << 52 : sizeof(T) == 4 ? 1u << 23 : 1u << 10;
  constexpr u64 infinity = lowest * (is_double ? 2047 : sizeof(T) == 4 ? 255 : 31);
  u64 bits;
  if constexpr (is_double) bits = as<u64>(a);
  else if constexpr (sizeof(T) == 4) bits = as<u32>(a);
  else bits = a.bits;
  const u64 magnitude = bits & (infinity | (lowest - 1));
  u32 size = magnitude == 0 ? 0 : magnitude < lowest ? 1 : magnitude < infinity ? 2 : 3;
  const u32 nan = magnitude & lowest >> 1 ? 1 : 0;
  const u32 position = magnitude > infinity ? nan : is_negative(a) ? 5 - size : 6 + size;
  return mask >> position & 1;
}

struct Selected {
  u64 bits;   // lanes where the test holds
  u64 which;  // lanes that take part
};

[[gnu::noinline]] inline Selected test_modified(Wave& w, const Instruction& i, const Shape& shape,
                                                Test test) {
  Operands operands;
  prepare(w, i, shape, operands);
  return {test(operands.rows), operands.which};
}

inline Selected test_lanes(Wave& w, const Instruction& i, const Shape& shape, Test test) {
  if (__builtin_expect(!is_plain(w, i, shape), 0)) return test_modified(w, i, shape, test);
  const u64 exec = w.exec();
  Lanes room[2][2];
  const Lanes* sources[2];
  for (int n = 0; n < 2; ++n) sources[n] = plain_source(w, i, n, shape.source[n], room[n], exec);
  return {test(sources), exec};
}

// VOPC names no destination: VCC.
inline u16 mask_destination(const Instruction& i) {
  return i.format == Format::vopc && i.dst == operand::none ? operand::vcc : i.dst;
}

enum class Exec : bool { stays, written };

inline void write_mask(Wave& w, const Instruction& i, u64 bits, Exec exec) {
  w.write_scalar64(i, mask_destination(i), bits);
  if (exec == Exec::written) w.set_pair(operand::exec, bits);
}

template <auto f, Exec exec>
void compare(Wave& w, const Instruction& i) {
  constexpr Shape shape = shape_of(f);
  const Selected selected = test_lanes(w, i, shape, lanes_where<f>);
  write_mask(w, i, selected.bits & selected.which, exec);
}
// Where f does not hold.
template <auto f, Exec exec>
void compare_not(Wave& w, const Instruction& i) {
  constexpr Shape shape = shape_of(f);
  const Selected selected = test_lanes(w, i, shape, lanes_where<f>);
  write_mask(w, i, ~selected.bits & selected.which, exec);
}
template <bool value, Exec exec>
void compare_constant(Wave& w, const Instruction& i) {
  write_mask(w, i, value ? w.exec() : 0, exec);
}

// Rows of the table for a type; T and t are its names in C++ and in mnemonics.
#define AITER_MOE_COMPARE_INTEGERS(prefix, T, t, exec)                     \
  {prefix "f_" t, compare_constant<false, exec>},                         \
  {prefix "lt_" t, compare<less<T>, exec>},                               \
  {prefix "eq_" t, compare<equal<T>, exec>},                              \
  {prefix "le_" t, compare<less_equal<T>, exec>},                         \
  {prefix "gt_" t, compare<greater<T>, exec>},                            \
  {prefix "ne_" t, compare_not<equal<T>, exec>},                          \
  {prefix "ge_" t, compare<greater_equal<T>, exec>},                      \
  {prefix "t_" t, compare_constant<true, exec>}
#define AITER_MOE_COMPARE_FLOATS(prefix, T, t, exec)                       \
  {prefix "f_" t, compare_constant<false, exec>},                         \
  {prefix "lt_" t, compare<less<T>, exec>},                               \
  {prefix "eq_" t, compare<equal<T>, exec>},                              \
  {prefix "le_" t, compare<less_equal<T>, exec>},                         \
  {prefix "gt_" t, compare<greater<T>, exec>},                            \
  {prefix "lg_" t, compare<less_or_greater<T>, exec>},                    \
  {prefix "ge_" t, compare<greater_equal<T>, exec>},                      \
  {prefix "o_" t, compare<ordered<T>, exec>},                             \
  {prefix "u_" t, compare_not<ordered<T>, exec>},                         \
  {prefix "nge_" t, compare_not<greater_equal<T>, exec>},                 \
  {prefix "nlg_" t, compare_not<less_or_greater<T>, exec>},               \
  {prefix "ngt_" t, compare_not<greater<T>, exec>},                       \
  {prefix "nle_" t, compare_not<less_equal<T>, exec>},                    \
  {prefix "neq_" t, compare_not<equal<T>, exec>},                         \
  {prefix "nlt_" t, compare_not<less<T>, exec>},                          \
  {prefix "tru_" t, compare_constant<true, exec>},                        \
  {prefix "class_" t, compare<is_of_class<T>, exec>}
#define AITER_MOE_COMPARE(prefix, exec)                                    \
  AITER_MOE_COMPARE_INTEGERS(prefix, i16, "i16", exec),                   \
  AITER_MOE_COMPARE_INTEGERS(prefix, u16, "u16", exec),                   \
  AITER_MOE_COMPARE_INTEGERS(prefix, i32, "i32", exec),                   \
  AITER_MOE_COMPARE_INTEGERS(prefix, u32, "u32", exec),                   \
  AITER_MOE_COMPARE_INTEGERS(prefix, i64, "i64", exec),                   \
  AITER_MOE_COMPARE_INTEGERS(prefix, u64, "u64", exec),                   \
  AITER_MOE_COMPARE_FLOATS(prefix, Half, "f16", exec),                    \
  AITER_MOE_COMPARE_FLOATS(prefix, f32, "f32", exec),                     \
  AITER_MOE_COMPARE_FLOATS(prefix, f64, "f64", exec)

constexpr HandlerEntry compare_entries[] = {
    AITER_MOE_COMPARE("v_cmp_", Exec::stays),
    AITER_MOE_COMPARE("v_cmpx_", Exec::written),
};

#undef AITER_MOE_COMPARE
#undef AITER_MOE_COMPARE_FLOATS
#undef AITER_MOE_COMPARE_INTEGERS

}  // namespace aiter_moe::emulator::vector
