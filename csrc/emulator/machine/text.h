// SPDX-License-Identifier: MIT
// Zero-terminated text in arrays of fixed size: copies that never overrun, and comparison.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

// Copies `from` (null counts as empty), shortened to fit.
template <int capacity>
void copy_text(char (&to)[capacity], const char* from) {
  int length = 0;
  while (from != nullptr && from[length] != 0 && length < capacity - 1) {
    to[length] = from[length];
    ++length;
  }
  to[length] = 0;
}

inline bool same_text(const char* a, const char* b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a == *b;
}

inline u64 text_length(const char* text) {
  u64 length = 0;
  while (text[length] != 0) ++length;
  return length;
}

}  // namespace aiter_moe::emulator
