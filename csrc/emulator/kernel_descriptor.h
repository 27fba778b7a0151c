// SPDX-License-Identifier: MIT
// Kernel descriptors: what a kernel asks of its launch, in the symbol `<kernel>.kd`.
#pragma once

#include "emulator/elf.h"

namespace aiter_moe::emulator::code_object {

constexpr char descriptor_tail[] = ".kd";

struct Descriptor {
  u32 lds_bytes, scratch_bytes, kernarg_bytes, reserved0;
  i64 entry;  // from the descriptor to the code
  u8 reserved1[20];
  u32 rsrc3, rsrc1, rsrc2;
  u16 properties, preload;
  u32 reserved2;

  u32 preload_length() const { return preload & 0x7f; }
  u32 preload_offset() const { return preload >> 7; }

  // Where a kernel begins whose descriptor is at `address`. With arguments in user SGPRs, firmware
  // that knows of them starts behind the code that loads them.
  u64 entry_address(u64 address) const {
    return address + static_cast<u64>(entry) + (preload_length() != 0 ? 256 : 0);
  }
};
static_assert(sizeof(Descriptor) == 64);

// Calls visit(symbol, strings) for the defined symbols until one returns true; symbols that both
// tables name come twice.
template <typename Visit>
bool find_defined(const elf::File& file, const elf::Header& header, Visit visit) {
  const auto defined = [&](const elf::Symbol& symbol, const elf::Section& strings) {
    return symbol.section != 0 && visit(symbol, strings);
  };
  return elf::find_symbol(file, header, elf::section_dynamic_symbols, defined) ||
         elf::find_symbol(file, header, elf::section_symbols, defined);
}

inline bool find_descriptor(const elf::File& file, const elf::Header& header, const char* kernel,
                            u64& address) {
  return find_defined(file, header, [&](const elf::Symbol& symbol, const elf::Section& strings) {
    if (!file.is_text(strings, symbol.name, kernel, descriptor_tail)) return false;
    address = symbol.value;
    return true;
  });
}

inline bool is_descriptor(const elf::File& file, const elf::Symbol& symbol,
                          const elf::Section& strings) {
  return file.ends_with(strings, symbol.name, descriptor_tail);
}

}  // namespace aiter_moe::emulator::code_object
