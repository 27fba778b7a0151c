// SPDX-License-Identifier: MIT
// The a16w4 operands of a workgroup: gathered bf16 rows through LDS, fp4 weights decoded to bf16,
// bf16 matrix instructions. Both operands permute the reduction the
// same way: instruction j of a half step takes elements 8 * j + 0..7 of each MX block.
#pragma once

#include "hip/tile.h"

namespace aiter_moe::hip {

template <class ShapeT> struct A16W4 {
  using Shape = ShapeT;
  static constexpr int used_fragments = step_blocks * Shape::row_tiles;  // 16 rows x an MX block
  static constexpr int x_requests = used_fragments / Shape::waves;
  static constexpr int stage_bytes = used_fragments * fragment_bytes;
  static constexpr int w_requests = Weights<Shape>::requests;
  static constexpr int x_step_bytes = step_k * 2;
  static constexpr bool rolling = false;
  static_assert(Shape::column_waves == Shape::waves && used_fragments % Shape::waves == 0,
                "every wave fetches as many fragments");
  // Fragments of a wave that share a row tile lie 64 bytes apart in the same rows.
  static constexpr int tile_requests = smaller(x_requests, step_blocks);
  static constexpr int x_tiles = x_requests / tile_requests;
  static_assert(x_requests % tile_requests == 0 && step_blocks % tile_requests == 0,
                "a wave's fragments start and end within row tiles");

  struct Registers {
    Weights<Shape> weights;
    GatheredRows<x_requests> rows;
  };
  static constexpr bool rows_through_registers = decltype(Registers::rows)::through_registers;

  Buffer x;
  Strips<Shape> strips;
  Work<typename Shape::Rows> work;
  int x_offset[x_tiles];  // bytes of the lane's row and 16-byte quarter in the first fragments
  int x_block;            // MX block of the step that the first fragment holds

  template <class RowOf>
  AITER_MOE_DEVICE void gather(const StageArgs& a, int rows, RowOf row_of) {
    x = {a.x, rows * a.x_stride * 2};
    x_block = work.wave * x_requests % step_blocks;
    unroll<x_tiles>([&]<int i>() {
      const int tile = (work.wave * x_requests + i * tile_requests) / step_blocks;
      const Slot slot = work.rows.slot(a, tile * 16 + row_of_lane());
      const int inside = x_block * 64 + quarter_of_lane() * 16;
      x_offset[i] = slot.used ? row_of(slot) * a.x_stride * 2 + inside : outside;
    });
  }

  AITER_MOE_DEVICE AITER_MOE_LDS u8* own_part(AITER_MOE_LDS u8* stage) const {
    return stage + work.wave * x_requests * fragment_bytes;
  }

  template <bool Whole, int Ahead>
  AITER_MOE_DEVICE void load_x(
      Registers& r, AITER_MOE_LDS u8* stage, const Cursor<A16W4>& cursor) const {
    const int left = work.end_block - (cursor.step() + Ahead) * step_blocks;
    AITER_MOE_LDS u8* own = own_part(stage);
    if constexpr (x_tiles > 1) own = renewed(own);
    unroll<x_requests>([&]<int i>() {
      constexpr int further = i % tile_requests;
      const bool inside = Whole || x_block + further < left;
      r.rows.template request<i>(x, own, inside ? x_offset[i / tile_requests] : outside,
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

  template <bool Whole, class Accumulators>
  AITER_MOE_DEVICE void multiply(
      Accumulators& sums, const Registers& r, const AITER_MOE_LDS u8* stage, int step) const {
    const u32 bytes = step_mask<Whole>(work, step).bytes();
    const auto* own = stage + quarter_of_lane() * fragment_bytes + row_of_lane() * 16;
    u32 scales[Shape::strips];
    unroll<Shape::strips>(
        [&]<int i>() { scales[i] = not_before(r.weights.scale[i]) & bytes; });
    unroll<2>([&]<int half>() {
      Fp4Decoder decoded[Shape::weight_tiles];
      u32x4 codes[Shape::weight_tiles];
      unroll<Shape::weight_tiles>([&]<int t>() {
        decoded[t] = fp4_decoder<2 * half + t % 2>(scales[t / 2]);
        codes[t] = not_before(r.weights.code[t][half]);
      });
      unroll<4>([&]<int j>() {
        u32x4 rows[Shape::row_tiles];
        unroll<Shape::row_tiles>([&]<int m>() {
          const auto* fragment = own + (step_blocks * m + 4 * half) * fragment_bytes + j * 256;
          rows[m] = *(const AITER_MOE_LDS u32x4*)(fragment);
        });
        unroll<Shape::weight_tiles>([&]<int t>() {
          const u32x4 weights = decoded[t](codes[t][j]);
          unroll<Shape::row_tiles>(
              [&]<int m>() { sums[m][t] = mfma_bf16(weights, rows[m], sums[m][t]); });
        });
      });
    });
  }
};

}  // namespace aiter_moe::hip
