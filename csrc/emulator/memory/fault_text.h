// SPDX-License-Identifier: MIT
// The details of fault reports, put together without a C library.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

class FaultText {
 public:
  const char* text() const { return text_; }

  FaultText& add(const char* more) {
    while (*more != 0 && used_ + 1 < capacity) text_[used_++] = *more++;
    text_[used_] = 0;
    return *this;
  }

  FaultText& number(u64 value, u32 base = 10) {
    char digits[24];
    int at = 23;
    digits[at] = 0;
    do {
      digits[--at] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    return add(digits + at);
  }

  FaultText& hex(u64 value) { return add("0x").number(value, 16); }

  FaultText& reg(u16 code) {
    if (code >= operand::a0) return add("a").number(code - operand::a0);
    if (code >= operand::v0) return add("v").number(code - operand::v0);
    if (code < operand::flat_scratch) return add("s").number(code);
    switch (code) {
      case operand::vcc: return add("vcc_lo");
      case operand::vcc + 1: return add("vcc_hi");
      case operand::m0: return add("m0");
      case operand::exec: return add("exec_lo");
      case operand::exec + 1: return add("exec_hi");
      default: return add("scalar register ").number(code);
    }
  }

 private:
  static constexpr int capacity = 256;
  char text_[capacity] = {};
  int used_ = 0;
};

}  // namespace aiter_moe::emulator
