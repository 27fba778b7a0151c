// SPDX-License-Identifier: MIT
// ds_read_b64_tr_b16, _b8, _b4 and ds_read_b96_tr_b6 of gfx950: sixteen lanes read a matrix of
// sixteen columns, row after row as their addresses lie, and lane n gets column n. EXEC must be all
// ones and addresses aligned to the 8 bytes (b96: 4) a lane reads.
#pragma once

#include "emulator/memory/ds.h"

namespace aiter_moe::emulator {

template <u32 bytes>
struct LanePiece {
  u8 byte[bytes];
};

template <u32 element_bits, u32 bytes>
inline u32 element_of(const LanePiece<bytes>& piece, u32 index) {
  const u32 bit = index * element_bits;
  u32 word = piece.byte[bit / 8];
  if (bit / 8 + 1 < bytes) word |= static_cast<u32>(piece.byte[bit / 8 + 1]) << 8;
  return word >> bit % 8 & ((1u << element_bits) - 1);
}

template <u32 element_bits, u32 bytes>
inline void put_element(u32 (&words)[bytes / 4], u32 index, u32 value) {
  const u32 bit = index * element_bits;
  words[bit / 32] |= value << bit % 32;
  if (bit % 32 + element_bits > 32) words[bit / 32 + 1] |= value >> (32 - bit % 32);
}

// A lane's piece holds `elements` of a row; so 16 / elements lanes hold one row.
template <u32 element_bits, u32 bytes>
inline void transpose_group(const LanePiece<bytes>* pieces, Lanes* rows, u32 first_lane) {
  constexpr u32 columns = 16, elements = 8 * bytes / element_bits;
  for (u32 column = 0; column < columns; ++column) {
    u32 words[bytes / 4] = {};
    for (u32 row = 0; row < elements; ++row) {
      const u32 lane = columns / elements * row + column / elements;
      put_element<element_bits, bytes>(
          words, row, element_of<element_bits>(pieces[first_lane + lane], column % elements));
    }
    for (u32 n = 0; n < bytes / 4; ++n) rows[n].lane[first_lane + column] = words[n];
  }
}

template <u32 element_bits, u8 bytes>
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
  LanePiece<bytes> pieces[lanes];
  for (int lane = 0; lane < lanes; ++lane) load_unaligned(at.at[lane], pieces[lane]);
  for (u32 first_lane = 0; first_lane < lanes; first_lane += 16)
    transpose_group<element_bits, bytes>(pieces, &w.vector[i.dst - operand::v0], first_lane);
}

}  // namespace aiter_moe::emulator
