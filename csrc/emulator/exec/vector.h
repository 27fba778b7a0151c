// SPDX-License-Identifier: MIT
// Which function executes which vector instruction outside the matrix core: the tables by kind of
// operand as one.
#pragma once

#include "emulator/exec/vector_compare.h"
#include "emulator/exec/vector_table_convert.h"
#include "emulator/exec/vector_table_float.h"
#include "emulator/exec/vector_table_integer.h"
#include "emulator/exec/vector_table_packed.h"

namespace aiter_moe::emulator {

namespace vector {

template <int count>
struct Entries {
  HandlerEntry entry[count];
};

template <int... counts>
constexpr Entries<(counts + ...)> joined(const HandlerEntry (&... tables)[counts]) {
  Entries<(counts + ...)> all = {};
  int next = 0;
  const auto append = [&](const HandlerEntry* table, int count) {
    for (int n = 0; n < count; ++n) all.entry[next++] = table[n];
  };
  (append(tables, counts), ...);
  return all;
}

constexpr auto entries =
    joined(move_entries, bit_entries, integer_entries, float_entries, transcendental_entries,
           convert_entries, small_float_entries, packed_entries, compare_entries);

}  // namespace vector

constexpr HandlerTable vector_handlers = table_of(vector::entries.entry);

}  // namespace aiter_moe::emulator
