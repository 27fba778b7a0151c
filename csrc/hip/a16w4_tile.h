// SPDX-License-Identifier: MIT
// The a16w4 operands of a workgroup: gathered bf16 rows through LDS, fp4 weights decoded to bf16,
// bf16 matrix instructions. Both operands permute the reduction the same way: instruction j of a
// half step takes elements 8 * j + 0..7 of each MX block.
#pragma once

#include "hip/tile.h"

namespace aiter_moe::hip {

template <class ShapeT> struct A16W4 {
  using Shape = ShapeT;
  static constexpr int used_fragments = step_blocks * Shape::row_tiles;  // 16 rows x an MX block
  static constexpr int x_requests = used_fragments / Shape::waves;
  static constexpr int stage_bytes = used_fragments * RowLayout::pitch;
  static constexpr int w_requests = Weights<Shape>::requests;
  static constexpr bool reads_early = false;  // no registers are left over
  static constexpr int x_step_bytes = step_k * 2;
  static constexpr bool rolling = false;
  static_assert(Shape::column_waves == Shape::waves && used_fragments % Shape::waves == 0,
                "every wave fetches as many fragments");
  // Fragments of a wave that hold the same rows lie 64 bytes apart in them.
  static constexpr int same_rows = smaller(x_requests, RowLayout::sharing);
  static constexpr int x_rows = x_requests / same_rows;
  static_assert(x_requests % same_rows == 0 && RowLayout::sharing % same_rows == 0,
                "a wave's fragments start and end within the fragments of the same rows");

  using Gathered = GatheredRows<x_requests, RowLayout::pitch>;
  struct Registers {
    Weights<Shape> weights;
    Gathered rows;
  };
  static constexpr bool rows_through_registers = Gathered::through_registers;

  Buffer x;
  Strips<Shape> strips;
  Work<typename Shape::Rows> work;
  int x_offset[x_rows];  // bytes of the lane's 16 bytes in the first fragments of their rows
  int x_block;           // MX block of the step that the lane fetches there

  template <class RowOf>
  AITER_MOE_DEVICE void gather(const StageArgs& a, int rows, RowOf row_of) {
    x = Gathered::source({a.x, rows * a.x_stride * 2});
    x_block = RowLayout::block(work.wave * x_requests);
    unroll<x_rows>([&]<int i>() {
      const int fragment = work.wave * x_requests + i * same_rows;
      const Slot slot = work.rows.slot(a, RowLayout::row(fragment));
      const int inside = x_block * 64 + RowLayout::piece() * 16;
      const int offset = row_of(slot) * a.x_stride * 2 + inside;
      x_offset[i] =
          slot.used ? Gathered::template lane_offset<i * same_rows>(offset) : outside;
    });
  }

  AITER_MOE_DEVICE AITER_MOE_LDS u8* own_part(AITER_MOE_LDS u8* stage) const {
    return stage + work.wave * x_requests * RowLayout::pitch;
  }

  template <bool Whole, int Ahead>
  AITER_MOE_DEVICE void load_x(
      Registers& r, AITER_MOE_LDS u8* stage, const Cursor<A16W4>& cursor) const {
    const int left = work.end_block - (cursor.step() + Ahead) * step_blocks;
    AITER_MOE_LDS u8* own = own_part(stage);
    unroll<x_requests>([&]<int i>() {
      constexpr int further = i % same_rows;
      const bool inside = Whole || x_block + further < left;
      r.rows.template request<i>(x, own, inside ? x_offset[i / same_rows] : outside,
                                 cursor.rows + Ahead * x_step_bytes + further * 64);
    });
  }

  template <int Later>
  AITER_MOE_DEVICE void land_x(const Registers& r, AITER_MOE_LDS u8* stage) const {
    r.rows.template land<Later>(own_part(stage));
  }

  template <bool Whole, int Ahead>
  AITER_MOE_DEVICE void load_w(Registers& r, const Cursor<A16W4>& cursor) {
    load_weights<Whole, Ahead>(r.weights, strips, work, cursor);
  }

  // Pieces of the rows that are read from the LDS at a time, while those before them are
  // multiplied.
  static constexpr int pieces = RowLayout::pieces_at_a_time(Shape::row_tiles);
  static constexpr int groups = 8 / pieces;
  struct RowPieces {
    u32x4 piece[pieces][Shape::row_tiles];
  };
  template <int Group>
  AITER_MOE_DEVICE static void read(RowPieces& rows, const AITER_MOE_LDS u8* lane_part) {
    unroll<pieces>([&]<int i>() {
      constexpr int piece = Group * pieces + i;
      unroll<Shape::row_tiles>([&]<int m>() {
        constexpr int further = RowLayout::further(m, piece / 4, piece % 4);
        rows.piece[i][m] = *(const AITER_MOE_LDS u32x4*)(lane_part + further);
      });
    });
    memory_order();
  }

  // Nothing reads the pieces before this point, where a wait for them has been.
  AITER_MOE_DEVICE static void keep(RowPieces& rows) {
    unroll<pieces>([&]<int i>() {
      unroll<Shape::row_tiles>(
          [&]<int m>() { rows.piece[i][m] = not_before(rows.piece[i][m]); });
    });
  }

  // Weight fragments in the order they are used: tile by tile of piece by piece.
  static constexpr int fragments = 8 * Shape::weight_tiles;
  static constexpr int tile_of(int fragment) { return fragment % Shape::weight_tiles; }
  static constexpr int piece_of(int fragment) { return fragment / Shape::weight_tiles; }

  // What the weights of a step are decoded by.
  struct Decoding {
    Weights<Shape> weights;
    u32 scale[Shape::strips];
    Fp4Decoder decoder[Shape::weight_tiles];

    // Lets fragment F be decoded from here on, not before, and after `earlier` has been.
    template <int F, class... Earlier> AITER_MOE_DEVICE void open(const Earlier&... earlier) {
      constexpr int tile = tile_of(F), half = piece_of(F) / 4;
      constexpr bool first = piece_of(F) % 4 == 0;
      u32x4& codes = weights.code[tile][half];
      if constexpr (Fp4Decoder::ahead > 0) codes = not_before(codes, earlier...);
      else if constexpr (first) codes = not_before(codes);
      if constexpr (first) decoder[tile] = fp4_decoder<2 * half + tile % 2>(scale[tile / 2]);
    }
    template <int F> AITER_MOE_DEVICE u32x4 decode() const {
      constexpr int tile = tile_of(F), half = piece_of(F) / 4, j = piece_of(F) % 4;
      return decoder[tile](weights.code[tile][half][j]);
    }
  };

  // Where a matrix instruction would have to wait for what is computed just before it, a fragment
  // is decoded while the one before is multiplied.
  template <bool Whole, class Accumulators>
  AITER_MOE_DEVICE void multiply(
      Accumulators& sums, const Registers& r, const AITER_MOE_LDS u8* stage, int step) const {
    constexpr int ahead = Fp4Decoder::ahead;
    const auto* lane_part = stage + RowLayout::first();
    RowPieces rows[smaller(groups, 2)];
    read<0>(rows[0], lane_part);
    const u32 bytes = step_mask<Whole>(work, step).bytes();
    Decoding d{r.weights};
    unroll<Shape::strips>(
        [&]<int i>() { d.scale[i] = not_before(r.weights.scale[i]) & bytes; });
    u32x4 weights[ahead + 1];
    d.template open<0>();
    if constexpr (ahead > 0) {
      weights[0] = d.template decode<0>();
      d.template open<1>();
    }
    unroll<fragments>([&]<int f>() {
      constexpr int group = piece_of(f) / pieces;
      auto& group_rows = rows[group % 2];
      if constexpr (f % (pieces * Shape::weight_tiles) == 0) {
        pin(sums);
        wait_lds();
        if constexpr (group + 1 < groups) read<group + 1>(rows[(group + 1) % 2], lane_part);
        keep(group_rows);
      }
      u32x4& next = weights[(f + ahead) % (ahead + 1)];
      if constexpr (f + ahead < fragments) next = d.template decode<f + ahead>();
      if constexpr (f + ahead + 1 < fragments) d.template open<f + ahead + 1>(next);
      unroll<Shape::row_tiles>([&]<int m>() {
        sums[m][tile_of(f)] =
            mfma_bf16(weights[f % (ahead + 1)], group_rows.piece[piece_of(f) % pieces][m],
                      sums[m][tile_of(f)]);
      });
    });
  }
};

}  // namespace aiter_moe::hip
