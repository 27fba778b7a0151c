// SPDX-License-Identifier: MIT
// Registers of matrix instructions. They read and write all lanes whatever EXEC is; A and B are
// registers, C may be a constant. Results are built aside and stored last, since D may overlap
// every source.
#pragma once

#include "emulator/exec/matrix_vectors.h"

namespace aiter_moe::emulator::matrix {

// `count` consecutive registers all of whose lanes are read, or null if they are none.
inline const Lanes* registers_of(Wave& w, const Instruction& i, u16 code, int count) {
  if (!is_vector(code) || code + count > operand::end) {
    w.fault(FaultKind::bad_instruction, i, 0, 0, "matrix operand that is no vector register");
    return nullptr;
  }
  for (int n = 0; n < count; ++n) w.need(i, static_cast<u16>(code + n), all_lanes);
  return &w.vector[code - operand::v0];
}

// The registers a matrix instruction writes, or null if they are none.
inline Lanes* destination_of(Wave& w, const Instruction& i, int count) {
  if (!is_vector(i.dst) || i.dst + count > operand::end) {
    w.fault(FaultKind::bad_instruction, i, 0, 0, "matrix result that is no vector register");
    return nullptr;
  }
  for (int n = 0; n < count; ++n) w.overwrite(i, static_cast<u16>(i.dst + n), all_lanes);
  return &w.vector[i.dst - operand::v0];
}

// Lane that B's data of `lane` comes from, under the lane group pattern of the blgp field.
constexpr int b_lane(int lane, int blgp) {
  switch (blgp) {
    case 0: return lane;
    case 1: return lane % 32;
    case 2: return lane % 32 + 32;
    case 3: return (lane + 16) % 64;
    default: return lane % 16 + 16 * (blgp - 4);
  }
}

constexpr int most_operand_registers = 8;

// B after its lane group pattern: the registers themselves, or `room` filled from them.
inline const Lanes* patterned(const Lanes* b, int count, int blgp, Lanes* room) {
  if (blgp == 0) return b;
  for (int n = 0; n < count; ++n)
    for (int lane = 0; lane < lanes; ++lane) room[n].lane[lane] = b[n].lane[b_lane(lane, blgp)];
  return room;
}

// Where C and D keep row `row` of a block of 16 or 32 rows: a run of `edge` lanes. Four rows are
// consecutive registers, then the next group of lanes follows, then the next four registers.
struct ResultRow {
  int reg;
  int lane;
};
template <int edge>
constexpr ResultRow result_row(int row) {
  constexpr int groups = lanes / edge;
  return {row / (4 * groups) * 4 + row % 4, row / 4 % groups * edge};
}

template <int edge>
constexpr int result_registers = edge * edge / lanes;

template <int edge>
constexpr const u32* row_of(const Lanes* registers, int row) {
  const ResultRow at = result_row<edge>(row);
  return &registers[at.reg].lane[at.lane];
}
template <int edge>
constexpr u32* row_of(Lanes* registers, int row) {
  const ResultRow at = result_row<edge>(row);
  return &registers[at.reg].lane[at.lane];
}

template <int edge, class T>
void load_tile(const Lanes* registers, T* tile) {
  AITER_MOE_MATRIX_UNROLL
  for (int row = 0; row < edge; ++row)
    __builtin_memcpy(tile + row * edge, row_of<edge>(registers, row), edge * sizeof(u32));
}

template <int edge, class T>
void store_tile(Lanes* registers, const T* tile) {
  AITER_MOE_MATRIX_UNROLL
  for (int row = 0; row < edge; ++row)
    __builtin_memcpy(row_of<edge>(registers, row), tile + row * edge, edge * sizeof(u32));
}

constexpr int most_tile_elements = 2 * 32 * 32;

// `count` elements of C that are one constant.
template <class T>
void fill_addend(Wave& w, const Instruction& i, u16 code, int count, T* out) {
  const T value = __builtin_bit_cast(T, w.read_scalar(i, code));
  for (int n = 0; n < count; ++n) out[n] = value;
}

// C as `count` registers: its own, or `constant` filled with one; null after a fault.
inline const Lanes* addend_registers(Wave& w, const Instruction& i, u16 code, int count,
                                     Lanes* constant) {
  if (is_vector(code)) return registers_of(w, i, code, count);
  fill_addend(w, i, code, count * lanes, constant->lane);
  return constant;
}

// C as the rows of its `count` registers, or a constant; false after a fault.
template <class T>
bool load_rows(Wave& w, const Instruction& i, u16 code, int count, T* out) {
  if (!is_vector(code)) {
    fill_addend(w, i, code, count * lanes, out);
    return true;
  }
  const Lanes* c = registers_of(w, i, code, count);
  if (c != nullptr) __builtin_memcpy(out, c, count * sizeof(Lanes));
  return c != nullptr;
}

// C as the tiles of `blocks` blocks, or a constant; false after a fault.
template <int edge, class T>
bool load_addend(Wave& w, const Instruction& i, u16 code, int blocks, T* tiles) {
  if (!is_vector(code)) {
    fill_addend(w, i, code, blocks * edge * edge, tiles);
    return true;
  }
  constexpr int count = result_registers<edge>;
  const Lanes* c = registers_of(w, i, code, blocks * count);
  if (c == nullptr) return false;
  for (int block = 0; block < blocks; ++block)
    load_tile<edge>(c + block * count, tiles + block * edge * edge);
  return true;
}

template <int edge, class T>
void store_result(Wave& w, const Instruction& i, int blocks, const T* tiles) {
  constexpr int count = result_registers<edge>;
  Lanes* d = destination_of(w, i, blocks * count);
  if (d == nullptr) return;
  for (int block = 0; block < blocks; ++block)
    store_tile<edge>(d + block * count, tiles + block * edge * edge);
}

// Which block's A a block multiplies with: cbsz makes groups of 2^cbsz blocks share the A of one
// of them, number abid.
constexpr int a_block(const Instruction& i, int block) {
  return (block >> i.cbsz << i.cbsz) + i.abid;
}

inline bool broadcast_fits(Wave& w, const Instruction& i, int blocks) {
  if (1 << i.cbsz <= blocks && i.abid < 1 << i.cbsz) return true;
  w.fault(FaultKind::bad_instruction, i, 0, 0, "cbsz or abid name more blocks than there are");
  return false;
}

}  // namespace aiter_moe::emulator::matrix
