// SPDX-License-Identifier: MIT
// What one lane moves: how many bytes, and how less than a dword sits in its register. Loads and
// stores of every address space share these.
#pragma once

#include "emulator/memory/transfer.h"
#include "emulator/memory/waits.h"

namespace aiter_moe::emulator {

// Where less than a dword goes in the register (d16 forms: one half).
enum class Part : u8 { whole, low_half, high_half };

struct Width {
  u8 bytes;         // 1, 2, or a multiple of 4
  bool sign_extend = false;
  Part part = Part::whole;

  constexpr u32 rows() const { return (bytes + 3u) / 4; }
  constexpr bool narrow() const { return bytes < 4; }
};

namespace widths {
constexpr Width u8_{1}, i8_{1, true}, u16_{2}, i16_{2, true};
constexpr Width u8_low{1, false, Part::low_half}, u8_high{1, false, Part::high_half};
constexpr Width i8_low{1, true, Part::low_half}, i8_high{1, true, Part::high_half};
constexpr Width u16_low{2, false, Part::low_half}, u16_high{2, false, Part::high_half};
constexpr Width b32{4}, b64{8}, b96{12}, b128{16};
}  // namespace widths

// The register a narrow load makes of `bits`. With ECC on register memory, which these devices
// always have, a d16 load does not preserve the other half (LLVM: d16PreservesUnusedBits), and
// nobody says what it puts there: poison.
template <Width width>
inline u32 widened(u32 bits) {
  if (width.sign_extend)
    bits = width.bytes == 1 ? static_cast<u32>(static_cast<i8>(bits))
                            : static_cast<u32>(static_cast<i16>(bits));
  if (width.part == Part::low_half) return (poison & 0xffff0000) | (bits & 0xffff);
  if (width.part == Part::high_half) return bits << 16 | (poison & 0xffff);
  return bits;
}

template <Width width>
inline u32 narrow_load(u64 address) {
  u8 byte = 0;
  u16 both = 0;
  if (width.bytes == 1)
    load_unaligned(address, byte);
  else
    load_unaligned(address, both);
  return widened<width>(byte | both);
}

template <Width width>
inline void narrow_store(u64 address, u32 value) {
  const u32 bits = width.part == Part::high_half ? value >> 16 : value;
  if (width.bytes == 1)
    store_unaligned(address, static_cast<u8>(bits));
  else
    store_unaligned(address, static_cast<u16>(bits));
}

// Loads one value a lane to rows of `to`.
template <Width width>
inline void gather_width(const LaneAddresses& at, Lanes* to) {
  if constexpr (width.narrow()) {
    for (int lane = 0; lane < lanes; ++lane) to->lane[lane] = narrow_load<width>(at.at[lane]);
  } else {
    gather(at, width.rows(), to);
  }
}

template <Width width>
inline void scatter_width(const LaneAddresses& at, const Lanes* from) {
  if constexpr (width.narrow()) {
    for (int lane = 0; lane < lanes; ++lane) narrow_store<width>(at.at[lane], from->lane[lane]);
  } else {
    scatter(at, width.rows(), from);
  }
}

// Loads into the lanes of `which` of the registers from `first` on.
template <Width width>
inline void load_registers(Wave& w, const LaneAddresses& at, u16 first, u64 which) {
  Lanes* rows = &w.vector[first - operand::v0];
  if (which == all_lanes) return gather_width<width>(at, rows);
  Lanes loaded[width.rows()];
  gather_width<width>(at, loaded);
  for (u32 n = 0; n < width.rows(); ++n) merge(rows[n], loaded[n], which);
}

template <Width width>
inline void need_rows(Wave& w, const Instruction& i, u16 first, u64 which) {
  for (u32 n = 0; n < width.rows(); ++n) w.need(i, static_cast<u16>(first + n), which);
}

// Spills: functions save registers that their callers may never have written, so only a load that
// is still in flight makes them unfit. What comes back from scratch counts as written.
template <Width width>
inline void need_landed_rows(Wave& w, const Instruction& i, u16 first, u64 which) {
  for (u32 n = 0; n < width.rows(); ++n) {
    const u16 code = static_cast<u16>(first + n);
    const u64 missing = which & ~w.vector_ready[code - operand::v0];
    if (missing != 0 && (lanes_in_flight(w.requests, code) & missing) != 0)
      w.register_fault(i, code, missing);
  }
}

}  // namespace aiter_moe::emulator
