// SPDX-License-Identifier: MIT
// SMFMAC: of every four consecutive k of A two are stored, and an index register says which; D is
// C too. Lane maps as measured on an MI350 by AMD's fpsan; those of i8, which it leaves out, are
// taken to be those of 8-bit floats.
#pragma once

#include "emulator/exec/matrix_dense.h"

namespace aiter_moe::emulator::matrix {

// depth counts the k of B.
struct SparseShape {
  Element a;
  Element b;
  u8 edge;
  u8 depth;

  constexpr int per_lane() const { return depth / 2 * edge / lanes; }  // stored elements of A
  constexpr int registers() const { return per_lane() * bits_of(a) / 32; }
  // The shapes of gfx950 are two passes of the older ones.
  constexpr bool two_passes() const { return registers() == 4; }
};

// Row of B's panel that holds the first of the four k which element e of a lane of A chooses from.
// B's lanes hold twice as many elements as A's; its panel has a row for each group and element.
// In one pass, A's pairs meet B's fours of the same lane. Of two passes, each takes the A of half
// of the lane groups and half of each lane's B; the halves of a lane of A go to two groups of B.
constexpr int first_choice(const SparseShape& shape, int group, int e) {
  const int n = shape.per_lane();
  if (!shape.two_passes()) return group * 2 * n + 4 * (e / 2);
  const int groups_a_pass = lanes / shape.edge / 2, half = n / 2;
  const int b_group = group % groups_a_pass * 2 + e / half;
  return b_group * 2 * n + group / groups_a_pass * n + 4 * (e % half / 2);
}

// Position of a lane's two-bit choices in its index: where they do not fill it, abid says which
// part, unless cbsz is set.
constexpr int index_shift(const Instruction& i, const SparseShape& shape) {
  const int bits = 2 * shape.per_lane();
  return i.cbsz == 0 ? bits * (i.abid % (32 / bits)) : 0;
}

template <int edge, class T>
void multiply_sparse(const Instruction& i, const SparseShape& shape, const T* a, const T* b,
                     const Lanes& index, T* tile) {
  using Vector = VectorOf<T>;
  const int n = shape.per_lane(), shift = index_shift(i, shape);
  for (int group = 0; group < lanes / edge; ++group)
    for (int e = 0; e < n; ++e)
      for (int row = 0; row < edge; ++row) {
        const u32 choice = index.lane[group * edge + row] >> (shift + 2 * e) & 3;
        const Vector factor = splat(a[(group * n + e) * edge + row]);
        const T* columns = b + (first_choice(shape, group, e) + choice) * edge;
        T* sums = tile + row * edge;
        for (int v = 0; v < edge; v += width)
          store(sums + v, multiply_add<Products::exact>(factor, load<Vector>(columns + v),
                                                        load<Vector>(sums + v)));
      }
}

template <int edge, class T>
[[gnu::noinline]] void run_sparse(Wave& w, const Instruction& i, const SparseShape& shape) {
  Operands operands;
  if (!operands.fetch(w, i, shape.registers(), 2 * shape.registers())) return;
  const Lanes* index = registers_of(w, i, i.src[2], 1);
  if (index == nullptr) return;
  Panel<T> a, b;
  alignas(64) T tile[edge * edge];
  unpack<edge>(element_on(w, shape.a), operands.a, plain_layout(shape.per_lane()), a.at);
  unpack<edge>(element_on(w, shape.b), operands.b, plain_layout(2 * shape.per_lane()), b.at);
  if (!load_addend<edge>(w, i, i.dst, 1, tile)) return;
  multiply_sparse<edge>(i, shape, a.at, b.at, *index, tile);
  store_result<edge>(w, i, 1, tile);
}

template <SparseShape shape>
void sparse(Wave& w, const Instruction& i) {
  run_sparse<shape.edge, PanelOf<shape.a>>(w, i, shape);
}

}  // namespace aiter_moe::emulator::matrix
