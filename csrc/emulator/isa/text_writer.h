// SPDX-License-Identifier: MIT
// Text into an array of fixed size, cut where it does not fit and always zero-terminated.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

class TextWriter {
 public:
  TextWriter(char* out, int capacity) : out_(out), capacity_(capacity) {
    if (capacity_ > 0) out_[0] = 0;
  }

  TextWriter& character(char c) {
    if (used_ + 1 >= capacity_) return *this;
    out_[used_++] = c;
    out_[used_] = 0;
    return *this;
  }
  TextWriter& text(const char* t) {
    for (; *t != 0; ++t) character(*t);
    return *this;
  }
  TextWriter& decimal(i64 value) {
    if (value < 0) character('-');
    digits(value < 0 ? 0 - static_cast<u64>(value) : static_cast<u64>(value), 10);
    return *this;
  }
  TextWriter& hexadecimal(u64 value) {
    text("0x");
    digits(value, 16);
    return *this;
  }
  // `name` and then the bits of a mask from bit 0 on, as " name:[1,0,1]".
  TextWriter& bit_list(const char* name, u32 mask, int count) {
    character(' ').text(name).text(":[");
    for (int n = 0; n < count; ++n) {
      if (n != 0) character(',');
      character(mask >> n & 1 ? '1' : '0');
    }
    return character(']');
  }

 private:
  void digits(u64 value, u32 base) {
    char reversed[20];
    int count = 0;
    do reversed[count++] = "0123456789abcdef"[value % base];
    while ((value /= base) != 0);
    while (count != 0) character(reversed[--count]);
  }

  char* out_;
  int capacity_;
  int used_ = 0;
};

}  // namespace aiter_moe::emulator
