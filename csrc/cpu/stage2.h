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

  static constexpr int kChunk = Columns / kPanelColumns;    // panels of a work item

  static int panels(const StageArgs& args) {
    return (args.n + kPanelColumns - 1) / kPanelColumns;
  }

  static long chunks(const StageArgs& args) { return (panels(args) + kChunk - 1) / kChunk; }

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
    const int last = first + kChunk < panels(args) ? first + kChunk : panels(args);
    for (int j = first; j < last; ++j) {
      const Panel panel = panel_of(args, segment.expert, j);
      for_each_pass<Micro, BlockM>(args, segment, [&](long row, int rows, const uint32_t* x) {
        multiply_pass(args, panel, j, {row, rows, x}, segment.expert);
      });
    }
  }

  // Rows of a pass: the first sorted row, their number, and their packed activations.
  struct Rows {
    long first;
    int count;
    const uint32_t* x;
  };

  static void multiply_pass(const StageArgs& args, Panel panel, int j, const Rows& pass,
                            int expert) {
    alignas(64) float y[kPanelGroups * Micro::kRows * kLanes];
    const int most = args.n / kGroupColumns - j * kPanelGroups;
    const int groups = most < kPanelGroups ? most : kPanelGroups;
    Micro::multiply(panel, nullptr, {0, args.k / kBlock}, pass.x, pass.count, groups, y);
    for (int group = 0; group < groups; ++group) {
      for (int m = 0; m < pass.count; ++m) {
        finish(args, expert, pass.first + m, j * kPanelGroups + group,
               load(y + (group * pass.count + m) * kLanes));
      }
    }
  }

  // Bias, then routing weight: sixteen columns of one row.
  static void finish(const StageArgs& args, int expert, long row, int j, F32 y) {
    if (args.bias != nullptr) {
      y += load(args.bias + static_cast<long>(expert) * args.bias_stride + j * kGroupColumns);
    }
    if (args.doweight) y *= args.sorted_weights[row];
    const long out_row = slot_row(args, sorted_slot(args, row));
    store(static_cast<float*>(args.out) + out_row * args.out_stride + j * kGroupColumns, y);
  }
};

}  // namespace aiter_moe::cpu
