// SPDX-License-Identifier: MIT
// Stage 1: gate and up projections of gathered token rows, activation fused; bf16 out.
// Phases: pack activations; multiply; with split-k add the parts and finish.
#pragma once

#include "common/stage_args.h"
#include "cpu/activation.h"
#include "cpu/bf16.h"
#include "cpu/microkernel.h"
#include "cpu/pack.h"

namespace aiter_moe::cpu {

// `Columns`: output columns of a work item. `SplitK`: args.ksplit parts of the reduction, summed
// through args.workspace; without it args.ksplit is not read.
template <class Micro, class Activation, int BlockM, int Columns, bool SplitK>
struct Stage1 {
  using Memory = Scratch<Micro, BlockM>;

  static constexpr int kPairs = kPanelColumns / 2;          // output columns of a panel
  static constexpr int kChunk = Columns / kPairs;           // panels of a work item

  static int parts(const StageArgs& args) { return SplitK && args.ksplit > 1 ? args.ksplit : 1; }

  static int panels(const StageArgs& args) { return (args.n + kPairs - 1) / kPairs; }

  static int vectors(const StageArgs& args) { return args.n / kGroupColumns; }

  static long chunks(const StageArgs& args) { return (panels(args) + kChunk - 1) / kChunk; }

  static long scratch_bytes(const StageArgs& args) { return Memory::bytes(args); }

  static int phases(const StageArgs& args) { return parts(args) > 1 ? 3 : 2; }

  static long items(const StageArgs& args, int phase) {
    if (phase != 1) return used_blocks<BlockM>(args);
    return find_segments<BlockM>(args, nullptr) * chunks(args) * parts(args);
  }

  static void run(const StageArgs& args, int phase, long begin, long end) {
    if (phase == 0) {
      run_pack<Micro, BlockM>(args, begin, end, [](Slot slot) { return long{slot.token}; });
    } else if (phase == 1) {
      for (long item = begin; item < end; ++item) multiply(args, item);
    } else {
      for (long block = begin; block < end; ++block) sum_parts(args, static_cast<int>(block));
    }
  }

  // Blocks of part `index`: whole pairs (64 elements), shared out as evenly as possible.
  static BlockRange part_range(const StageArgs& args, int index) {
    const int blocks = args.k / kBlock, pairs = (blocks + 1) / 2, count = parts(args);
    const int begin = 2 * (index * pairs / count), end = 2 * ((index + 1) * pairs / count);
    return {begin, end < blocks ? end : blocks};
  }

  static void multiply(const StageArgs& args, long item) {
    const long per_segment = chunks(args) * parts(args);
    const Segment segment = Memory::segments(args)[item / per_segment];
    const int part = static_cast<int>(item % parts(args));
    const int first = static_cast<int>(item % per_segment / parts(args)) * kChunk;
    const int last = first + kChunk < panels(args) ? first + kChunk : panels(args);
    const BlockRange range = part_range(args, part);
    for (int j = first; j < last; ++j) {
      const Panel panel = panel_of(args, segment.expert, j);
      for_each_pass<Micro, BlockM>(args, segment, [&](long row, int rows, const uint32_t* x) {
        multiply_pass(args, panel, j, range, {row, rows, x}, part, segment.expert);
      });
    }
  }

  // Rows of a pass: the first sorted row, their number, and their packed activations.
  struct Rows {
    long first;
    int count;
    const uint32_t* x;
  };

  static void multiply_pass(const StageArgs& args, Panel panel, int j, BlockRange range,
                            const Rows& pass, int part, int expert) {
    alignas(64) float z[kPanelGroups * Micro::kRows * kLanes];
    const int most = vectors(args) - j * (kPanelGroups / 2);
    const int groups = 2 * most < kPanelGroups ? 2 * most : kPanelGroups;
    Micro::multiply(panel, nullptr, range, pass.x + Micro::words(pass.count, range.begin),
                    pass.count, groups, z);
    for (int pair = 0; pair < groups / 2; ++pair) {
      const int column = j * (kPanelGroups / 2) + pair;
      for (int m = 0; m < pass.count; ++m) {
        const float* const from = z + (2 * pair * pass.count + m) * kLanes;
        const F32 gate = load(from), up = load(from + pass.count * kLanes);
        if (parts(args) > 1) {
          float* const to = partial(args, part, pass.first + m) + column * kGroupColumns;
          store(to, gate);
          store(to + args.n, up);
        } else {
          finish(args, expert, pass.first + m, column, gate, up);
        }
      }
    }
  }

  // Gate sums of a sorted row in the workspace; its up sums stand n further.
  static float* partial(const StageArgs& args, int part, long row) {
    return args.workspace + (static_cast<long>(part) * args.sorted_rows + row) * 2 * args.n;
  }

  static void sum_parts(const StageArgs& args, int block) {
    const int valid = valid_rows<BlockM>(args, block);
    for (int m = 0; m < valid; ++m) {
      const long row = static_cast<long>(block) * BlockM + m;
      for (int j = 0; j < vectors(args); ++j) {
        F32 gate{}, up{};
        for (int part = 0; part < parts(args); ++part) {
          const float* const from = partial(args, part, row) + j * kGroupColumns;
          gate += load(from);
          up += load(from + args.n);
        }
        finish(args, args.sorted_expert_ids[block], row, j, gate, up);
      }
    }
  }

  // Routing weight, then bias, then activation: sixteen columns of one row.
  static void finish(const StageArgs& args, int expert, long row, int j, F32 gate, F32 up) {
    if (args.doweight) {
      gate *= args.sorted_weights[row];
      up *= args.sorted_weights[row];
    }
    if (args.bias != nullptr) {
      const float* const bias =
          args.bias + static_cast<long>(expert) * args.bias_stride + j * kGroupColumns;
      gate += load(bias);
      up += load(bias + args.bias_stride / 2);
    }
    const long out_row = slot_row(args, sorted_slot(args, row));
    uint16_t* const to = static_cast<uint16_t*>(args.out) + out_row * args.out_stride;
    store_bf16(to + j * kGroupColumns, Activation::apply(gate, up, args));
  }
};

}  // namespace aiter_moe::cpu
