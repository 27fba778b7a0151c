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
  static constexpr int used_fragments = 2 * Shape::block_tiles;  // 16 rows x 128 elements, 1 KiB
  static constexpr int x_requests = (used_fragments + Shape::waves - 1) / Shape::waves;
  static constexpr int stage_bytes = x_requests * Shape::waves * fragment_bytes;
  static constexpr int scale_dwords = (Shape::row_tiles + 1) / 2;
  static constexpr int w_requests = Weights<Shape>::requests + scale_dwords;
  // What the end of a kernel needs is asked for before the loop: with few rows that is so short
  // that it would end in a wait; more row tiles leave no registers.
  static constexpr bool reads_early = Shape::row_tiles <= 2;
  static constexpr int x_step_bytes = step_k / 2;
  static constexpr bool rolling = Shape::row_tiles >= 8;

  using Gathered = GatheredRows<x_requests>;
  struct Registers {
    Weights<Shape> weights;
    Gathered rows;
    u32 x_scale[scale_dwords];
  };
  static constexpr bool rows_through_registers = Gathered::through_registers;

  Buffer x;
  Buffer x_scales;
  Strips<Shape> strips;
  Work<typename Shape::Rows> work;
  int x_offset[x_requests];  // bytes of the lane's row and block in each of the wave's fragments
  int x_block[x_requests];   // MX block of the step that the lane reads there
  int x_scale_offset[scale_dwords];  // bytes of the lane's scales in each strip
  int fragments_at;          // of the lane in the wave's first row tile
  int x_shift;               // bits that bring the scale bytes of a lone 16-row tile in place

  // Each wave fetches x_requests fragments of a stage; with few rows some lie past the tile and
  // are filled with zeros, so that every wave counts the same requests.
  template <class RowOf>
  AITER_MOE_DEVICE void gather(const StageArgs& a, int rows, RowOf row_of) {
    x = Gathered::source({a.x, rows * (a.x_stride / 2)});
    const int columns = a.x_scale_stride;
    x_scales = {a.x_scale, (a.sorted_rows + strip_rows - 1) / strip_rows * strip_rows * columns};
    unroll<scale_dwords>([&]<int i>() {
      const int strip = work.rows.first / strip_rows + work.row / strip_rows + i;
      x_scale_offset[i] = s_strip_offset(strip, columns) + lane() * 4;
    });
    x_shift = Shape::row_tiles == 1 ? (work.rows.first / 16 % 2) * 8 : 0;
    unroll<x_requests>([&]<int i>() {
      const int fragment = work.wave * x_requests + i;
      const int half = fragment % 2;
      const int tile = smaller(fragment, used_fragments - 1) / 2;
      const Slot slot = work.rows.slot(a, tile * 16 + row_of_lane());
      const bool wanted = slot.used && fragment < used_fragments;
      x_block[i] = half * 4 + quarter_of_lane();
      const int offset = row_of(slot) * (a.x_stride / 2) + x_block[i] * 16;
      x_offset[i] = wanted ? Gathered::template lane_offset<i>(offset) : outside;
    });
    fragments_at = work.row / 16 * 2 * fragment_bytes + lane() * 16;
  }

  AITER_MOE_DEVICE AITER_MOE_LDS u8* own_part(AITER_MOE_LDS u8* stage) const {
    return stage + work.wave * x_requests * fragment_bytes;
  }

  template <bool Whole, int Ahead, int I>
  AITER_MOE_DEVICE void request_x(
      Registers& r, AITER_MOE_LDS u8* stage, const Cursor<A4W4>& cursor) {
    const int left = work.end_block - (cursor.step() + Ahead) * step_blocks;
    r.rows.template request<I>(x, own_part(stage),
                               Whole || x_block[I] < left ? x_offset[I] : outside,
                               cursor.rows + Ahead * x_step_bytes);
  }
  template <bool Whole, int Ahead>
  AITER_MOE_DEVICE void load_x(
      Registers& r, AITER_MOE_LDS u8* stage, const Cursor<A4W4>& cursor) {
    unroll<x_requests>([&]<int i>() { request_x<Whole, Ahead, i>(r, stage, cursor); });
  }

  template <int Later>
  AITER_MOE_DEVICE void land_x(const Registers& r, AITER_MOE_LDS u8* stage) const {
    r.rows.template land<Later>(own_part(stage));
  }

  template <bool Whole, int Ahead, int I>
  AITER_MOE_DEVICE void request_w(Registers& r, const Cursor<A4W4>& cursor) {
    if constexpr (I < scale_dwords) {
      const bool inside = step_mask<Whole>(work, cursor.step() + Ahead).first;
      int& offset = x_scale_offset[I] = not_before(x_scale_offset[I]);
      r.x_scale[I] =
          load32(x_scales, inside ? offset + Ahead * s_step_bytes : outside, cursor.scales);
    } else {
      load_weight<Whole, Ahead, I - scale_dwords>(r.weights, strips, work, cursor);
    }
  }
  template <bool Whole, int Ahead>
  AITER_MOE_DEVICE void load_w(Registers& r, const Cursor<A4W4>& cursor) {
    unroll<w_requests>([&]<int i>() { request_w<Whole, Ahead, i>(r, cursor); });
  }

  // The scales of a step: those of MX blocks past the end are cleared.
  struct Scales {
    u32 w[Shape::strips];
    u32 x[scale_dwords];
  };
  template <bool Whole> AITER_MOE_DEVICE Scales scales(const Registers& r, int step) const {
    const u32 bytes = step_mask<Whole>(work, step).bytes();
    Scales s;
    unroll<Shape::strips>([&]<int i>() { s.w[i] = not_before(r.weights.scale[i]) & bytes; });
    unroll<scale_dwords>([&]<int i>() { s.x[i] = (not_before(r.x_scale[i]) & bytes) >> x_shift; });
    return s;
  }

  template <int M, int Half>
  AITER_MOE_DEVICE u32x4 fragment(const AITER_MOE_LDS u8* stage) const {
    const auto* at = stage + (2 * M + Half) * fragment_bytes + fragments_at;
    return *(const AITER_MOE_LDS u32x4*)(at);
  }

  template <int M, int Half, bool Whole, class Accumulators>
  AITER_MOE_DEVICE void multiply_rows(
      Accumulators& sums, const Registers& r, const Scales& scales, u32x4 rows) const {
    unroll<Shape::weight_tiles>([&]<int t>() {
      constexpr int w_byte = 2 * Half + t % 2, x_byte = 2 * Half + M % 2;
      const u32x4 weights = r.weights.code[t][Half];
      const u32 w_scale = scales.w[t / 2], x_scale = scales.x[M / 2];
      if constexpr (rolling)
        mfma_fp4_in_place<w_byte, x_byte, !Whole>(sums[M][t], weights, rows, w_scale, x_scale);
      else sums[M][t] = mfma_fp4<w_byte, x_byte>(weights, rows, sums[M][t], w_scale, x_scale);
    });
  }

  template <bool Whole, class Accumulators>
  AITER_MOE_DEVICE void multiply(
      Accumulators& sums, const Registers& r, const AITER_MOE_LDS u8* stage, int step) const {
    const Scales s = scales<Whole>(r, step);
    u32x4 rows[2][Shape::row_tiles];
    unroll<2>([&]<int half>() {
      unroll<Shape::row_tiles>([&]<int m>() { rows[half][m] = fragment<m, half>(stage); });
    });
    unroll<2>([&]<int half>() {
      pin(sums);
      wait_lds<half == 0 ? Shape::row_tiles : 0>();
      pin(sums);
      unroll<Shape::row_tiles>(
          [&]<int m>() { multiply_rows<m, half, Whole>(sums, r, s, rows[half][m]); });
    });
  }
};

}  // namespace aiter_moe::hip
