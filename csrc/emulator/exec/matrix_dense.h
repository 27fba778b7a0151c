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

// A and B of a dense instruction, ready to unpack; false after a fault.
inline bool fetch_dense(Wave& w, const Instruction& i, const DenseShape& shape,
                        Operands& operands) {
  const int count = shape.registers();
  if (!broadcast_fits(w, i, shape.blocks) || !operands.fetch(w, i, count, count)) return false;
  operands.b = patterned(operands.b, count, i.blgp, operands.room);
  return true;
}

// One block of 16x16: its sixteen rows stay in vectors between C and D, all of C being read before
// D is written.
template <Products products, class T>
void single_block(Wave& w, const Instruction& i, const T* a, const T* b, int depth) {
  constexpr int edge = 16, count = result_registers<edge>;
  Lanes constant[count];
  const Lanes* c = addend_registers(w, i, i.src[2], count, constant);
  if (c == nullptr) return;
  Lanes* d = destination_of(w, i, count);
  if (d == nullptr) return;
  multiply_panels<edge, products>(
      a, b, depth,
      [c](int row, int) { return load<VectorOf<T>>(row_of<edge>(c, row)); },
      [d](int row, int, VectorOf<T> sums) { store(row_of<edge>(d, row), sums); });
}

// Blocks of 16x16 or 32x32. Shapes of one edge, kind of product and element type share the code.
template <int edge, Products products, class T>
[[gnu::noinline]] void dense_blocks(Wave& w, const Instruction& i, const DenseShape& shape) {
  const int depth = shape.depth, blocks = shape.blocks;
  const Layout layout = plain_layout(shape.per_lane());
  Operands operands;
  Panel<T> a, b;
  alignas(64) T tiles[most_tile_elements];
  if (!fetch_dense(w, i, shape, operands)) return;
  unpack<edge>(element_on(w, shape.a), operands.a, layout, a.at);
  unpack<edge>(element_on(w, shape.b), operands.b, layout, b.at);
  if (edge == 16 && blocks == 1) return single_block<products>(w, i, a.at, b.at, depth);
  if (!load_addend<edge>(w, i, i.src[2], blocks, tiles)) return;
  for (int block = 0; block < blocks; ++block)
    multiply<edge, products>(a.at + a_block(i, block) * depth * edge,
                             b.at + block * depth * edge, depth, tiles + block * edge * edge);
  store_result<edge>(w, i, blocks, tiles);
}

// sums[lane] += b[lane] * the element of A of `row` of the lane's block, of 4x4 blocks.
template <Products products, class T>
void multiply_quads(const Instruction& i, const T* a, const T* b, int row, T* sums) {
  using Vector = VectorOf<T>;
  alignas(64) T factors[lanes];
  for (int lane = 0; lane < lanes; ++lane) factors[lane] = a[a_block(i, lane / 4) * 4 + row];
  for (int lane = 0; lane < lanes; lane += width)
    store(sums + lane, multiply_add<products>(load<Vector>(factors + lane), load<Vector>(b + lane),
                                              load<Vector>(sums + lane)));
}

// Sixteen blocks of 4x4: register `row` of C and D holds that row of every block, and a row of a
// panel is all lanes.
template <Products products, class T>
[[gnu::noinline]] void dense_quads(Wave& w, const Instruction& i, const DenseShape& shape) {
  constexpr int edge = 4;
  Operands operands;
  Panel<T> a, b;
  alignas(64) T sums[edge][lanes];
  if (!fetch_dense(w, i, shape, operands)) return;
  unpack<lanes>(element_on(w, shape.a), operands.a, plain_layout(shape.depth), a.at);
  unpack<lanes>(element_on(w, shape.b), operands.b, plain_layout(shape.depth), b.at);
  if (!load_rows(w, i, i.src[2], edge, sums[0])) return;
  for (int row = 0; row < edge; ++row)
    for (int k = 0; k < shape.depth; ++k)
      multiply_quads<products>(i, a.at + k * lanes, b.at + k * lanes, row, sums[row]);
  if (Lanes* d = destination_of(w, i, edge)) __builtin_memcpy(d, sums, sizeof sums);
}

template <bool is_integer>
struct PanelType {
  using type = float;
};
template <>
struct PanelType<true> {
  using type = i32;
};
template <Element element>
using PanelOf = typename PanelType<element == Element::i8>::type;

template <DenseShape shape>
void dense(Wave& w, const Instruction& i) {
  using T = PanelOf<shape.a>;
  constexpr Products products =
      shape.a == Element::f32 ? Products::rounded : Products::exact;
  if constexpr (shape.edge == 4)
    dense_quads<products, T>(w, i, shape);
  else
    dense_blocks<shape.edge, products, T>(w, i, shape);
}

}  // namespace aiter_moe::emulator::matrix
