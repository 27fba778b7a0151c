// SPDX-License-Identifier: MIT
// s_getreg and s_setreg. MODE can be read and written; of the rest only what a kernel can learn
// nothing wrong from can be read, other registers are refused.
#pragma once

#include "emulator/exec/scalar_form.h"

namespace aiter_moe::emulator::scalar {

namespace hardware {
constexpr u32 mode = 1, status = 2, trap_status = 3, id = 4, memory_bases = 15, xcc = 20;
}

// The immediate of s_getreg and s_setreg: which bits of which register.
struct HardwareField {
  u32 number;
  u32 offset;
  u32 mask;  // before shifting by offset
};

constexpr HardwareField hardware_field(const Instruction& i) {
  const u32 bits = static_cast<u16>(i.immediate);
  const u32 size = (bits >> 11) + 1;
  return {bits & 63, bits >> 6 & 31, size == 32 ? ~0u : (1u << size) - 1};
}

inline u32 status_register(const Wave& w) {
  return u32{w.scc} | u32{w.exec() == 0} << 9 | u32{w.vcc() == 0} << 10 | 1u << 16;
}

inline u32 read_hardware(Wave& w, const Instruction& i, u32 number) {
  switch (number) {
    case hardware::mode: return w.mode;
    case hardware::status: return status_register(w);
    case hardware::trap_status: return 0;
    case hardware::id: return (w.number >> 2 & 15) | (w.number & 3) << 4;  // slot, SIMD
    case hardware::memory_bases:
      return static_cast<u32>(aperture::private_base >> 48 | aperture::shared_base >> 48 << 16);
    case hardware::xcc: return 0;
  }
  w.fault(FaultKind::bad_instruction, i, 0, 0, "hardware register that is not emulated");
  return 0;
}

inline void get_register(Wave& w, const Instruction& i) {
  const HardwareField field = hardware_field(i);
  const u32 value = read_hardware(w, i, field.number);
  w.write_scalar(i, i.dst, value >> field.offset & field.mask);
}

inline void write_mode(Wave& w, const Instruction& i, u32 value) {
  const HardwareField field = hardware_field(i);
  if (field.number != hardware::mode)
    return w.fault(FaultKind::bad_instruction, i, 0, 0, "hardware register that is not writable");
  const u32 mask = field.mask << field.offset;
  w.mode = (w.mode & ~mask) | (value << field.offset & mask);
}
inline void set_register(Wave& w, const Instruction& i) {
  write_mode(w, i, w.read_scalar(i, i.dst));
}
inline void set_register_immediate(Wave& w, const Instruction& i) { write_mode(w, i, i.literal); }

}  // namespace aiter_moe::emulator::scalar
