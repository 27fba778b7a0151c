// SPDX-License-Identifier: MIT
// Sub-dword addressing: a byte or word of a source, and where in its register a result goes.
#pragma once

#include "emulator/wave.h"

namespace aiter_moe::emulator::vector {

namespace sdwa_select {
constexpr u8 word0 = 4, word1 = 5, dword = 6;
}
namespace sdwa_unused {
constexpr u8 pad = 0, sign_extend = 1, preserve = 2;
}

struct BitField {
  u32 shift;
  u32 bits;
};

constexpr BitField sdwa_field(u8 select) {
  if (select < sdwa_select::word0) return {8u * select, 8};
  if (select < sdwa_select::dword) return {16u * (select - sdwa_select::word0), 16};
  return {0, 32};
}

inline void select_field(Lanes& value, u8 select, bool sign_extend) {
  const BitField field = sdwa_field(select);
  if (field.bits == 32) return;
  const u32 above = 32 - field.bits - field.shift, unused = 32 - field.bits;
  for (int lane = 0; lane < lanes; ++lane) {
    const u32 top = value.lane[lane] << above;
    value.lane[lane] = sign_extend ? static_cast<u32>(static_cast<i32>(top) >> unused)
                                   : top >> unused;
  }
}

// Makes `value` what the register holds after the write; `old` is what it holds now.
inline void place_field(Lanes& value, const Lanes& old, const Sdwa& sdwa) {
  const BitField field = sdwa_field(sdwa.dst_sel);
  if (field.bits == 32) return;
  const u32 mask = ((1u << field.bits) - 1) << field.shift;
  const u32 above = field.bits + field.shift == 32 ? 0 : ~0u << (field.bits + field.shift);
  for (int lane = 0; lane < lanes; ++lane) {
    const u32 placed = value.lane[lane] << field.shift & mask;
    const u32 sign = placed >> (field.bits + field.shift - 1) & 1;
    u32 rest = 0;
    if (sdwa.dst_unused == sdwa_unused::sign_extend) rest = sign ? above : 0;
    if (sdwa.dst_unused == sdwa_unused::preserve) rest = old.lane[lane] & ~mask;
    value.lane[lane] = placed | rest;
  }
}

}  // namespace aiter_moe::emulator::vector
