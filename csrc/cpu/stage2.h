// SPDX-License-Identifier: MIT
// Stage 2: the down projection of intermediate rows. Either one f32 row per (token, slot) leaves
// it, or the final output: then a work item has some columns of all tokens, adds up what segments
// give in their order, in f32, and rounds once.
// Phases: cut into segments; pack activations; multiply.
#pragma once

#include "cpu/final_sums.h"
#include "cpu/multiply.h"
#include "cpu/pack.h"

namespace aiter_moe::cpu {

template <class Micro, bool Final>
struct Stage2 {
  using Memory = Scratch<Micro>;

  struct BySlot {
    static constexpr bool kByToken = false;

    static long row(const StageArgs& args, Slot slot) { return slot_row(args, slot); }
  };
  using Packing = Pack<Micro, BySlot>;

  // What the sums of an item may take of the second cache.
  static constexpr long kSumBytes = 512 * 1024;

  static int groups(const StageArgs& args) { return args.n / kGroupColumns; }

  static int panels(const StageArgs& args) { return divided_up(args.n, kPanelColumns); }

  static long sum_bytes(const StageArgs& args, int panels) {
    return static_cast<long>(args.tokens) * panels * kPanelColumns * sizeof(float);
  }

  static int range_panels(const StageArgs& args) {
    const int asked = args.columns / kPanelColumns;
    if (!Final) {
      const long all = static_cast<long>(Memory::segments(args).count) * panels(args);
      return panels_of_item(args, asked, all);
    }
    const long fit = kSumBytes / sum_bytes(args, 1);
    const int most = fit < asked ? bounded(static_cast<int>(fit), 1, asked) : asked;
    return panels_of_item(args, most, panels(args));
  }

  // Ranges of panels: of every segment, or of all.
  static int ranges(const StageArgs& args) { return divided_up(panels(args), range_panels(args)); }

  static long worker_sums(const StageArgs& args) {
    return Final ? sum_bytes(args, range_panels(args)) : 0;
  }

  static long scratch_bytes(const StageArgs& args) {
    const long packing = Packing::code_bytes(args), sums = worker_sums(args);
    return Memory::bytes(args, packing > sums ? packing : sums);
  }

  static int phases(const StageArgs&) { return 3; }

  static long items(const StageArgs& args, int phase) {
    switch (phase) {
      case 0: return 1;
      case 1: return Packing::items(args);
      default: return (Final ? 1L : Memory::segments(args).count) * ranges(args);
    }
  }

  static void run(const StageArgs& args, int phase, long begin, long end, int worker) {
    const int first = static_cast<int>(begin), last = static_cast<int>(end);
    switch (phase) {
      case 0: return Packing::cut(args, worker);
      case 1: return Packing::run(args, first, last, worker);
      default: return Final ? final_items(args, first, last, worker) : row_items(args, begin, end);
    }
  }

  static Product product_of(const StageArgs& args, int segment, Share panels) {
    const Segment& rows = Memory::segments(args).entries()[segment];
    const uint32_t* const packed = Memory::packed(args, rows.rows_before);
    return {rows, panels, {0, args.k / kBlock}, groups(args), packed, nullptr};
  }

  // Items of a segment follow each other, and so do their panels.
  static void row_items(const StageArgs& args, long begin, long end) {
    const int count = ranges(args);
    const auto product_at = [&](long item) {
      const Share range = share_of(panels(args), count, static_cast<int>(item % count));
      return product_of(args, static_cast<int>(item / count), range);
    };
    for (long item = begin; item < end; ++item) {
      Product product = product_at(item);
      if (item + 1 < end) product.next = first_tiles(args, product_at(item + 1));
      multiply<Micro>(args, product, [&](const PassSums& pass) {
        for_each_row(args, product.segment.expert, pass, [&](Slot slot, int column, F32 y) {
          float* const out = static_cast<float*>(args.out) + slot_row(args, slot) * args.out_stride;
          store(out + column, y);
        });
      });
    }
  }

  static void final_items(const StageArgs& args, int begin, int end, int worker) {
    const int count = ranges(args);
    uint8_t* const memory = Memory::worker_memory(args, worker, worker_sums(args));
    float* const sums = reinterpret_cast<float*>(memory);
    for (int item = begin; item < end; ++item) {
      const Share range = share_of(panels(args), count, item);
      const FinalColumns columns{range.first * kPanelColumns, range.count * kPanelColumns, sums};
      for (long i = 0; i < args.tokens * static_cast<long>(columns.count); ++i) sums[i] = 0.0f;
      sum_segments(args, range, columns);
      store_final(args, columns);
    }
  }

  static void sum_segments(const StageArgs& args, Share range, const FinalColumns& columns) {
    const int segments = Memory::segments(args).count;
    for (int index = 0; index < segments; ++index) {
      Product product = product_of(args, index, range);
      if (index + 1 < segments) {
        product.next = first_tiles(args, product_of(args, index + 1, range));
      }
      multiply<Micro>(args, product, [&](const PassSums& pass) {
        for_each_row(args, product.segment.expert, pass, [&](Slot slot, int column, F32 y) {
          float* const sum = columns.of(slot.token) + column - columns.first;
          store(sum, load(sum) + y);
        });
      });
    }
  }

  // Bias, then routing weight; calls take(slot, column, values), a vector at a time.
  template <class Take>
  static void for_each_row(const StageArgs& args, int expert, const PassSums& pass,
                           const Take& take) {
    const float* const bias =
        args.bias == nullptr ? nullptr : args.bias + static_cast<long>(expert) * args.bias_stride;
    for (int m = 0; m < pass.rows; ++m) {
      const Slot slot = sorted_slot(args, pass.row + m);
      const float weight = args.doweight ? args.sorted_weights[pass.row + m] : 1.0f;
      for (int group = 0; group < pass.groups; ++group) {
        const int first = (pass.panel * kPanelGroups + group) * kGroupColumns;
        for (int lane = 0; lane < kGroupColumns; lane += kVectorLanes) {
          F32 y = load(pass.of(group, m) + lane);
          if (bias != nullptr) y += load(bias + first + lane);
          take(slot, first + lane, y * weight);
        }
      }
    }
  }
};

}  // namespace aiter_moe::cpu
