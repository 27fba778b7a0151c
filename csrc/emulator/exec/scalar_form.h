// SPDX-License-Identifier: MIT
// Handlers of scalar instructions made from pure functions: `value<f>` fetches the operands that
// f's parameters ask for (their type is the operand's type), calls it and writes the result; the
// names say what happens to SCC.
#pragma once

#include "emulator/wave.h"

namespace aiter_moe::emulator {

// A result with the SCC it sets.
template <class T>
struct Flagged {
  T value;
  bool scc;
};

// A literal of a 64-bit operand is extended by its type, as the hardware does.
template <class T>
T scalar_operand(Wave& w, const Instruction& i, u16 code) {
  if constexpr (sizeof(T) == 4) return static_cast<T>(w.read_scalar(i, code));
  const bool is_signed = static_cast<T>(-1) < 0;
  if (is_signed && code == operand::literal) return static_cast<T>(static_cast<i32>(i.literal));
  return static_cast<T>(w.read_scalar64(i, code));
}

template <class T>
void scalar_result(Wave& w, const Instruction& i, T value) {
  if constexpr (sizeof(T) == 4)
    w.write_scalar(i, i.dst, static_cast<u32>(value));
  else
    w.write_scalar64(i, i.dst, static_cast<u64>(value));
}

template <class R, class A>
R call_scalar(R (*f)(A), Wave& w, const Instruction& i) {
  return f(scalar_operand<A>(w, i, i.src[0]));
}

template <class R, class A, class B>
R call_scalar(R (*f)(A, B), Wave& w, const Instruction& i) {
  const A a = scalar_operand<A>(w, i, i.src[0]);
  return f(a, scalar_operand<B>(w, i, i.src[1]));
}

// Leaves SCC alone.
template <auto f>
void value(Wave& w, const Instruction& i) {
  scalar_result(w, i, call_scalar(f, w, i));
}

// SCC = the result is not zero.
template <auto f>
void value_scc(Wave& w, const Instruction& i) {
  const auto result = call_scalar(f, w, i);
  w.scc = result != 0;
  scalar_result(w, i, result);
}

// f returns Flagged: it knows SCC.
template <auto f>
void flagged(Wave& w, const Instruction& i) {
  const auto result = call_scalar(f, w, i);
  w.scc = result.scc;
  scalar_result(w, i, result.value);
}

// SCC = f; nothing else is written.
template <auto f>
void compare(Wave& w, const Instruction& i) {
  w.scc = call_scalar(f, w, i);
}

// SOPK: f(destination register, 16-bit immediate), extended as the immediate's type says.
template <class R, class A>
R call_scalar_immediate(R (*f)(A, A), Wave& w, const Instruction& i) {
  const bool is_signed = static_cast<A>(-1) < 0;
  const A immediate = is_signed ? static_cast<A>(static_cast<i16>(i.immediate))
                                : static_cast<A>(static_cast<u16>(i.immediate));
  return f(scalar_operand<A>(w, i, i.dst), immediate);
}

template <auto f>
void value_immediate(Wave& w, const Instruction& i) {
  scalar_result(w, i, call_scalar_immediate(f, w, i));
}

template <auto f>
void flagged_immediate(Wave& w, const Instruction& i) {
  const auto result = call_scalar_immediate(f, w, i);
  w.scc = result.scc;
  scalar_result(w, i, result.value);
}

template <auto f>
void compare_immediate(Wave& w, const Instruction& i) {
  w.scc = call_scalar_immediate(f, w, i);
}

}  // namespace aiter_moe::emulator
