// SPDX-License-Identifier: MIT
// ds_read_b64_tr_b16, _b8, _b4 and ds_read_b96_tr_b6 of gfx950: sixteen lanes read a matrix of
// sixteen columns, row after row in the order of lanes, and lane n gets column n. EXEC must be all
// ones and addresses aligned to the 8 bytes (b96: 4) a lane reads.
#pragma once

#include "emulator/memory/ds.h"

namespace aiter_moe::emulator {

// What sixteen lanes read, side by side: elements of `bits` bits, row after row.
template <u32 bits, u32 bytes>
struct TurnedMatrix {
  static constexpr u32 columns = 16, rows = 8 * bytes / bits, words = bytes / 4;
  u8 raw[columns * bytes + 4];  // elements are read as dwords, the last ones beyond the end

  u32 element(u32 row, u32 column) const {
    const u32 bit = (row * columns + column) * bits;
    u32 dword;
    __builtin_memcpy(&dword, raw + bit / 8, sizeof dword);
    return dword >> bit % 8 & ((1u << bits) - 1);
  }

  // Column n, packed from its first row on, goes to lane n of each of `words` registers.
  void turn(u32 (&out)[words][columns]) const {
    for (u32 row = 0; row < rows; ++row) {
      const u32 bit = row * bits, word = bit / 32, shift = bit % 32;
      const bool first = shift == 0, split = shift + bits > 32;
      for (u32 column = 0; column < columns; ++column) {
        const u32 value = element(row, column);
        out[word][column] = (first ? 0 : out[word][column]) | value << shift;
        if (split) out[word + 1][column] = value >> (32 - shift);
      }
    }
  }
};

template <u32 bits, u8 bytes>
inline void ds_read_transposed(Wave& w, const Instruction& i) {
  LdsAccess& access = begin_lds(w, i, static_cast<u32>(i.offset), 0, bytes, LdsUse::read);
  if (access.lanes != all_lanes)
    return w.fault(FaultKind::bad_instruction, i, 0, ~access.lanes,
                   "a transposing read needs all lanes active");
  LaneAddresses at;
  place_lds(w, i, access, address_of_spare(spare_poison), at);
  u32 low_bits = 0;
  for (int lane = 0; lane < lanes; ++lane) low_bits |= access.address[lane];
  if ((low_bits & (bytes == 8 ? 7 : 3)) != 0)
    w.fault(FaultKind::misaligned, i, access.address[0], 0, "transposing read");
  w.counters.lds_read_bytes += lds_bytes_of(access, 1);
  issue_lds(w, i, i.dst, bytes / 4, all_lanes);
  using Matrix = TurnedMatrix<bits, bytes>;
  for (u32 first = 0; first < lanes; first += Matrix::columns) {
    Matrix matrix = {};
    for (u32 n = 0; n < Matrix::columns; ++n)
      __builtin_memcpy(matrix.raw + n * bytes, reinterpret_cast<const void*>(at.at[first + n]),
                       bytes);
    u32 turned[Matrix::words][Matrix::columns];
    matrix.turn(turned);
    for (u32 word = 0; word < Matrix::words; ++word)
      __builtin_memcpy(&w.vector[i.dst - operand::v0 + word].lane[first], turned[word],
                       sizeof turned[word]);
  }
}

}  // namespace aiter_moe::emulator
