// SPDX-License-Identifier: MIT
// Stage 2: the down projection of intermediate rows; one f32 row per (token, slot) out.
// Phases: pack activations; multiply. The sum over slots belongs to the caller.
#pragma once

#include "common/stage_args.h"
#include "cpu/microkernel.h"
#include "cpu/pack.h"

namespace aiter_moe::cpu {

// `Columns`: output columns of a work item.
template <class Micro, int BlockM, int Columns>
struct Stage2 {
  using Memory = Scratch<Micro, BlockM>;

  static constexpr int kChunk = Columns / kTileRows;

  static int tiles(const StageArgs& args) { return args.n / kTileRows; }

  static long chunks(const StageArgs& args) { return (tiles(args) + kChunk - 1) / kChunk; }

  static long scratch_bytes(const StageArgs& args) { return Memory::bytes(args); }

  static int phases(const StageArgs&) { return 2; }

  static long items(const StageArgs& args, int phase) {
    if (phase == 0) return used_blocks<BlockM>(args);
    return find_segments<BlockM>(args, nullptr) * chunks(args);
  }

  static void run(const StageArgs& args, int phase, long begin, long end) {
    if (phase == 0) {
      run_pack<Micro, BlockM>(args, begin, end,
                              [&args](Slot slot) { return slot_row(args, slot); });
    } else {
      for (long item = begin; item < end; ++item) multiply(args, item);
    }
  }

  static void multiply(const StageArgs& args, long item) {
    const Segment segment = Memory::segments(args)[item / chunks(args)];
    const int first = static_cast<int>(item % chunks(args)) * kChunk;
    const int last = first + kChunk < tiles(args) ? first + kChunk : tiles(args);
    const BlockRange range{0, args.k / kBlock};
    for_each_pass<Micro, BlockM>(args, segment, [&](long row, int rows, const uint32_t* x) {
      for (int j = first; j < last; ++j) {
        alignas(64) float y[Micro::kRows * kLanes];
        const WeightTile tile = weight_tile(args, segment.expert, j);
        const WeightTile after = weight_tile(args, segment.expert, j + 1 < last ? j + 1 : first);
        Micro::multiply(tile, after.codes, range, x, rows, y);
        for (int m = 0; m < rows; ++m) {
          finish(args, segment.expert, row + m, j, load(y + m * kLanes));
        }
      }
    });
  }

  // Bias, then routing weight: sixteen columns of one row.
  static void finish(const StageArgs& args, int expert, long row, int j, F32 y) {
    if (args.bias != nullptr) {
      y += load(args.bias + static_cast<long>(expert) * args.bias_stride + j * kTileRows);
    }
    if (args.doweight) y *= args.sorted_weights[row];
    const long out_row = slot_row(args, sorted_slot(args, row));
    store(static_cast<float*>(args.out) + out_row * args.out_stride + j * kTileRows, y);
  }
};

}  // namespace aiter_moe::cpu
