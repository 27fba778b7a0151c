// SPDX-License-Identifier: MIT
// The a4w4 operands of a workgroup: gathered fp4 rows through LDS in fragment order, their scales
// in the sorted S layout, and the scaled fp4 matrix instruction. Weights are the first operand,
// so that a lane ends up with 4 neighbouring output columns of one sorted row.
#pragma once

#include "hip/tile.h"

#ifndef __gfx950__
#error "a4w4 is built on the scaled fp4 matrix instruction of gfx950"
#endif

namespace aiter_moe::hip {

template <class ShapeT> struct A4W4 {
  using Shape = ShapeT;
  static constexpr int used_fragments = 2 * Shape::row_tiles;  // 16 rows x 128 elements, 1 KiB
  static constexpr int x_requests = (used_fragments + Shape::waves - 1) / Shape::waves;
  static constexpr int stage_bytes = x_requests * Shape::waves * fragment_bytes;
  static constexpr int scale_dwords = (Shape::row_tiles + 1) / 2;
  static constexpr int w_requests = Weights<Shape>::requests + scale_dwords;
  static constexpr int x_step_bytes = step_k / 2;

  struct Registers {
    Weights<Shape> weights;
    GatheredRows<x_requests> rows;
    u32 x_scale[scale_dwords];
  };
  static constexpr bool rows_through_registers = decltype(Registers::rows)::through_registers;

  Buffer x;
  Buffer x_scales;
  Strips<Shape> strips;
  Work<typename Shape::Rows> work;
  int x_offset[x_requests];  // bytes of the lane's row and block in each of the wave's fragments
  int x_block[x_requests];   // MX block of the step that the lane reads there
  int x_scale_offset[scale_dwords];  // bytes of the lane's scales in each strip
  int x_shift;               // bits that bring the scale bytes of a lone 16-row tile in place

  // Each wave fetches x_requests fragments of a stage; with few rows some lie past the tile and
  // are filled with zeros, so that every wave counts the same requests.
  template <class RowOf>
  AITER_MOE_DEVICE void gather(const StageArgs& a, int rows, RowOf row_of) {
    x = {a.x, rows * (a.x_stride / 2)};
    const int columns = a.x_scale_stride;
    x_scales = {a.x_scale, (a.sorted_rows + strip_rows - 1) / strip_rows * strip_rows * columns};
    unroll<scale_dwords>([&]<int i>() {
      x_scale_offset[i] = s_strip_offset(work.rows.first / strip_rows + i, columns) + lane() * 4;
    });
    x_shift = Shape::row_tiles == 1 ? (work.rows.first / 16 % 2) * 8 : 0;
    unroll<x_requests>([&]<int i>() {
      const int fragment = work.wave * x_requests + i;
      const int half = fragment % 2;
      const int tile = smaller(fragment, used_fragments - 1) / 2;
      const Slot slot = work.rows.slot(a, tile * 16 + row_of_lane());
      const bool wanted = slot.used && fragment < used_fragments;
      x_block[i] = half * 4 + quarter_of_lane();
      x_offset[i] = wanted ? row_of(slot) * (a.x_stride / 2) + x_block[i] * 16 : outside;
    });
  }

  AITER_MOE_DEVICE AITER_MOE_LDS u8* own_part(AITER_MOE_LDS u8* stage) const {
    return stage + work.wave * x_requests * fragment_bytes;
  }

  template <bool Whole, int Ahead>
  AITER_MOE_DEVICE void load_x(
      Registers& r, AITER_MOE_LDS u8* stage, const Cursor<A4W4>& cursor) {
    const int left = work.end_block - (cursor.step() + Ahead) * step_blocks;
    unroll<x_requests>([&]<int i>() {
      r.rows.template request<i>(x, own_part(stage),
                                 Whole || x_block[i] < left ? x_offset[i] : outside,
                                 cursor.rows + Ahead * x_step_bytes);
    });
  }

  template <int Later>
  AITER_MOE_DEVICE void land_x(const Registers& r, AITER_MOE_LDS u8* stage) const {
    r.rows.template land<Later>(own_part(stage));
  }

  template <bool Whole, int Ahead>
  AITER_MOE_DEVICE void load_w(Registers& r, const Cursor<A4W4>& cursor) {
    const bool inside = step_mask<Whole>(work, cursor.step() + Ahead).first;
    unroll<scale_dwords>([&]<int i>() {
      x_scale_offset[i] = not_before(x_scale_offset[i]);
      r.x_scale[i] = load32(
          x_scales, inside ? x_scale_offset[i] + Ahead * s_step_bytes : outside, cursor.scales);
    });
    load_weights<Whole, Ahead>(r.weights, strips, work, cursor);
  }

  template <bool Whole, class Accumulators>
  AITER_MOE_DEVICE void multiply(
      Accumulators& sums, const Registers& r, const AITER_MOE_LDS u8* stage, int step) const {
    const u32 bytes = step_mask<Whole>(work, step).bytes();
    u32 w_scale[Shape::strips], x_scale[scale_dwords];
    unroll<Shape::strips>([&]<int i>() { w_scale[i] = not_before(r.weights.scale[i]) & bytes; });
    unroll<scale_dwords>(
        [&]<int i>() { x_scale[i] = (not_before(r.x_scale[i]) & bytes) >> x_shift; });
    u32x4 rows[2][Shape::row_tiles];
    unroll<2>([&]<int half>() {
      unroll<Shape::row_tiles>([&]<int m>() {
        const auto* fragment = stage + (2 * m + half) * fragment_bytes + lane() * 16;
        rows[half][m] = *(const AITER_MOE_LDS u32x4*)(fragment);
      });
    });
    unroll<2>([&]<int half>() {
      pin(sums);
      wait_lds<half == 0 ? Shape::row_tiles : 0>();
      pin(sums);
      unroll<Shape::row_tiles>([&]<int m>() {
        unroll<Shape::weight_tiles>([&]<int t>() {
          sums[m][t] = mfma_fp4<2 * half + t % 2, 2 * half + m % 2>(
              r.weights.code[t][half], rows[half][m], sums[m][t], w_scale[t / 2],
              x_scale[m / 2]);
        });
      });
    });
  }
};

}  // namespace aiter_moe::hip
