// SPDX-License-Identifier: MIT
// The loop over the reduction for tall tiles, 128 rows a wave: every read of the LDS and every
// request stands among matrix instructions that need neither. Rows are read a group of row tiles
// ahead, also across the barrier, which comes before the last group of a step.
//
// A wave has 128 rows x 64 weight rows, whose sums take half of 256 registers, so that a SIMD has
// two waves: of two workgroups where a block has 128 rows, of one where it has 256. Waves side by
// side would rather share rows than weights: a step of a 256 x 256 block brings 32 KiB of each to
// the compute unit, but every wave reads its rows from the LDS, which is fast, and its weights from
// the vector cache, which is slow (64 bytes a cycle) and busy with the rows on their way too. So
// 2 x 4 waves and not 4 x 2. All 256 rows in one wave need 256 sums, all the registers there are
// for them; 8 waves in a row would read all rows 8 times.
// Not here: the loop of lower tiles, whose other waves fill the gaps (pipeline.h).
#pragma once

#include "hip/sums.h"

namespace aiter_moe::hip {

// A wave asks, in this order, x(0), w(0), x(1), w(1), ..., rows a step further ahead than weights:
// behind the barrier of step i its stage is free, all its rows being in registers. So the rows of
// `ring` steps are under way and the weights of `depth`.
template <class Operands>
AITER_MOE_DEVICE void accumulate_rolling(Accumulators<Operands>& sums, Operands& operands) {
  using Shape = typename Operands::Shape;
  constexpr int ring = Shape::ring, depth = Shape::depth;
  constexpr int w_requests = Operands::w_requests, x_requests = Operands::x_requests;
  constexpr int step_requests = x_requests + w_requests;
  constexpr int group_tiles = 4;
  constexpr int groups_per_half = Shape::row_tiles / group_tiles, groups = 2 * groups_per_half;
  constexpr int w_places = (groups - 1) * group_tiles;  // among which the requests are spread
  static_assert(Shape::row_tiles % group_tiles == 0 && Shape::stages == ring);
  static_assert(depth == 1 || Shape::weight_tiles == 2,
                "beside the sums of 64 columns registers hold the weights of two steps");
  AITER_MOE_LDS u8* stages = lds_ring<Operands>();
  typename Operands::Registers registers[ring];
  u32x4 rows[2][group_tiles];
  const int first = operands.work.first_step, end = first + operands.work.steps;
  const int whole_end = operands.work.end_block / step_blocks;
  const auto stage_of = [&]<int slot>() { return stages + slot * Operands::stage_bytes; };
  const auto request_w = [&]<int slot, bool Whole, int Ahead, int From, int To>(
                             const Cursor<Operands>& cursor) {
    unroll<To - From>([&]<int i>() {
      operands.template request_w<Whole, Ahead, From + i>(registers[slot], cursor);
    });
  };
  const auto request_x = [&]<int slot, bool Whole, int Ahead, int From, int To>(
                             const Cursor<Operands>& cursor) {
    unroll<To - From>([&]<int i>() {
      operands.template request_x<Whole, Ahead, From + i>(
          registers[slot], stage_of.template operator()<slot>(), cursor);
    });
  };
  const auto read = [&]<int slot, int group, int tile>() {
    rows[group % 2][tile] =
        operands.template fragment<group % groups_per_half * group_tiles + tile,
                                   group / groups_per_half>(stage_of.template operator()<slot>());
  };
  const auto requests_at = [&]<int slot, bool Whole, int place>(const Cursor<Operands>& cursor) {
    if constexpr (place < w_places) {
      request_w.template operator()<(slot + depth) % ring, Whole, slot,
                                    place * w_requests / w_places,
                                    (place + 1) * w_requests / w_places>(cursor);
    } else {
      constexpr int left = place - w_places;
      request_x.template operator()<slot, Whole, slot + 1, left * x_requests / group_tiles,
                                    (left + 1) * x_requests / group_tiles>(cursor);
    }
  };
  // Step `number`, whose rows of group 0 have been read; `Later` steps past it have all been asked
  // for. Asks for one step more of each kind if `Ask`; reads rows of the next step if `Next`.
  const auto go = [&]<int slot, bool Whole, bool Ask, int Later, bool Next>(
                      const Cursor<Operands>& cursor, int number) {
    wait_loads<Later * step_requests + x_requests>();
    const auto scales = operands.template scales<Whole>(registers[slot], number);
    unroll<groups>([&]<int group>() {
      constexpr bool last = group == groups - 1;
      wait_lds();
      if constexpr (last && Next) {
        wait_loads<Later * step_requests + (Ask ? w_requests : 0)>();
        barrier();
      }
      unroll<group_tiles>([&]<int tile>() {
        constexpr int m = group % groups_per_half * group_tiles + tile;
        if constexpr (!last) read.template operator()<slot, group + 1, tile>();
        else if constexpr (Next) read.template operator()<(slot + 1) % ring, 0, tile>();
        if constexpr (Ask)
          requests_at.template operator()<slot, Whole, group * group_tiles + tile>(cursor);
        pin_row<m>(sums);
        operands.template multiply_rows<m, group / groups_per_half, Whole>(
            sums, registers[slot], scales, rows[group % 2][tile]);
      });
    });
  };
  const auto around = [&]<bool Whole>(const Cursor<Operands>& cursor) {
    unroll<ring>([&]<int slot>() {
      go.template operator()<slot, Whole, true, depth - 1, true>(
          cursor, cursor.step() + slot - depth);
    });
  };
  clear(sums);
  pin(sums);
  Cursor<Operands> cursor(first);
  unroll<depth>([&]<int i>() {
    request_x.template operator()<i, false, i, 0, x_requests>(cursor);
    memory_order();
    request_w.template operator()<i, false, i, 0, w_requests>(cursor);
    memory_order();
  });
  request_x.template operator()<depth, false, depth, 0, x_requests>(cursor);
  cursor.template advance<depth>();  // the first step whose weights are not yet requested
  wait_loads<smaller(depth * step_requests, 63)>();
  barrier();
  unroll<group_tiles>([&]<int tile>() { read.template operator()<0, 0, tile>(); });
  for (; cursor.scales <= (whole_end - ring - 1) * s_step_bytes; cursor.template advance<ring>())
    around.template operator()<true>(cursor);
  settle();
  pin(sums);
  for (; cursor.scales <= (end - ring + depth) * s_step_bytes; cursor.template advance<ring>())
    around.template operator()<false>(cursor);
  settle();
  pin(sums);
  const int done = cursor.step() - depth;
  unroll_while<depth>([&]<int slot>() {
    if (done + slot >= end) return false;
    go.template operator()<slot, false, false, depth - 1 - slot, slot + 1 < depth>(
        cursor, done + slot);
    return true;
  });
  settle();
  pin(sums);
}

}  // namespace aiter_moe::hip
