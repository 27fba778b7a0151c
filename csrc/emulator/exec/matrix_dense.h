// SPDX-License-Identifier: MIT
// MFMA with 32-bit results, unscaled: f32, xf32, f16, bf16, 8-bit floats and i8, with one block of
// 32x32 or 16x16, two or four such blocks, or sixteen of 4x4.
//
// Lanes are dealt to blocks first, then to runs of k: lane = edge * (blocks * run + block) + row.
#pragma once

#include "emulator/exec/architecture.h"
#include "emulator/exec/matrix_formats.h"
#include "emulator/exec/matrix_multiply.h"
#include "emulator/exec/matrix_operands.h"

namespace aiter_moe::emulator::matrix {

struct DenseShape {
  Element a;
  Element b;
  u8 edge;
  u8 depth;
  u8 blocks;

  constexpr int per_lane() const { return depth * edge * blocks / lanes; }
  constexpr int registers() const { return per_lane() * bits_of(a) / 32; }
};

// 8-bit floats are what the architecture makes of the mnemonic's fp8 and bf8.
inline Element element_on(const Wave& w, Element element) {
  if (element != Element::fp8 && element != Element::bf8) return element;
  if (architecture(*w.group) != gfx942) return element;
  return element == Element::fp8 ? Element::fp8_fnuz : Element::bf8_fnuz;
}

constexpr int most_panel_elements = 32 * lanes;  // 32 elements a lane

template <class T>
struct alignas(64) Panel {
  T at[most_panel_elements];
};

// A and B as their registers, B after its lane pattern.
struct Operands {
  const Lanes* a;
  const Lanes* b;
  Lanes room[most_operand_registers];

  bool fetch(Wave& w, const Instruction& i, int a_count, int b_count) {
    a = registers_of(w, i, i.src[0], a_count);
    b = registers_of(w, i, i.src[1], b_count);
    return a != nullptr && b != nullptr;
  }
};

template <int edge, class T>
void dense_blocks(Wave& w, const Instruction& i, const DenseShape& shape,
                  const Operands& operands) {
  const int depth = shape.depth, blocks = shape.blocks;
  const Layout layout = plain_layout(shape.per_lane());
  Panel<T> a, b;
  alignas(64) T tiles[most_tile_elements];
  unpack<edge>(element_on(w, shape.a), operands.a, layout, a.at);
  unpack<edge>(element_on(w, shape.b), operands.b, layout, b.at);
  if (!load_addend<edge>(w, i, i.src[2], blocks, tiles)) return;
  for (int block = 0; block < blocks; ++block)
    multiply<edge>(a.at + a_block(i, block) * depth * edge, b.at + block * depth * edge, depth,
                   tiles + block * edge * edge);
  store_result<edge>(w, i, blocks, tiles);
}

// Sixteen blocks of 4x4: register `row` of C and D holds that row of every block.
template <class T>
void dense_quads(Wave& w, const Instruction& i, const DenseShape& shape,
                 const Operands& operands) {
  constexpr int edge = 4;
  const int depth = shape.depth;
  const Layout layout = plain_layout(depth);
  Panel<T> a, b;
  unpack<lanes>(element_on(w, shape.a), operands.a, layout, a.at);
  unpack<lanes>(element_on(w, shape.b), operands.b, layout, b.at);
  Lanes sums[edge], room;
  if (is_vector(i.src[2]) && registers_of(w, i, i.src[2], edge) == nullptr) return;
  for (int row = 0; row < edge; ++row) {
    const u16 code = is_vector(i.src[2]) ? static_cast<u16>(i.src[2] + row) : i.src[2];
    sums[row] = w.source(i, code, room, all_lanes);
    for (int k = 0; k < depth; ++k)
      for (int lane = 0; lane < lanes; ++lane) {
        const T factor = a.at[k * lanes + a_block(i, lane / edge) * edge + row];
        const T sum = __builtin_bit_cast(T, sums[row].lane[lane]);
        sums[row].lane[lane] =
            __builtin_bit_cast(u32, multiply_add(factor, b.at[k * lanes + lane], sum));
      }
  }
  if (Lanes* d = destination_of(w, i, edge))
    for (int row = 0; row < edge; ++row) d[row] = sums[row];
}

template <class T>
void run_dense(Wave& w, const Instruction& i, const DenseShape& shape) {
  Operands operands;
  const int count = shape.registers();
  if (!broadcast_fits(w, i, shape.blocks) || !operands.fetch(w, i, count, count)) return;
  operands.b = patterned(operands.b, count, i.blgp, operands.room);
  if (shape.edge == 4) return dense_quads<T>(w, i, shape, operands);
  if (shape.edge == 16) return dense_blocks<16, T>(w, i, shape, operands);
  dense_blocks<32, T>(w, i, shape, operands);
}

template <DenseShape shape>
void dense(Wave& w, const Instruction& i) {
  if constexpr (shape.a == Element::i8)
    run_dense<i32>(w, i, shape);
  else
    run_dense<float>(w, i, shape);
}

}  // namespace aiter_moe::emulator::matrix
