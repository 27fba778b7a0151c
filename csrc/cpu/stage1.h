// SPDX-License-Identifier: MIT
// Stage 1: gate and up projections of gathered token rows, activation fused; bf16 out.
// Phases: cut into segments; pack activations; multiply; with split-k add the parts and finish.
#pragma once

#include "cpu/activation.h"
#include "cpu/bf16.h"
#include "cpu/multiply.h"
#include "cpu/pack.h"

namespace aiter_moe::cpu {

// args.ksplit parts of the reduction are summed through args.workspace.
template <class Micro, class Activation>
struct Stage1 {
  using Memory = Scratch<Micro>;

  struct ByToken {
    static constexpr bool kByToken = true;

    static long row(const StageArgs&, Slot slot) { return slot.token; }
  };
  using Packing = Pack<Micro, ByToken>;

  static constexpr int kPairs = kPanelGroups / 2;               // gate and up groups of a panel
  static constexpr int kColumns = kPairs * kGroupColumns;       // output columns of a panel

  static int groups(const StageArgs& args) { return 2 * (args.n / kGroupColumns); }

  static int panels(const StageArgs& args) { return divided_up(args.n, kColumns); }

  static int ranges(const StageArgs& args) {
    const long all = static_cast<long>(Memory::segments(args).count) * panels(args);
    return divided_up(panels(args), panels_of_item(args, args.columns / kColumns, all));
  }

  static long scratch_bytes(const StageArgs& args) {
    const long codes = Memory::whole_lines(Packing::code_bytes(args));
    return Memory::bytes(args, codes + Packing::segment_bytes(args));
  }

  static int phases(const StageArgs& args) { return args.ksplit > 1 ? 4 : 3; }

  static long items(const StageArgs& args, int phase) {
    switch (phase) {
      case 0: return 1;
      case 1: return packs_own(args) ? 0 : Packing::items(args);
      case 2: return static_cast<long>(Memory::segments(args).count) * ranges(args) * args.ksplit;
      default: return Memory::segments(args).passes;
    }
  }

  static void run(const StageArgs& args, int phase, long begin, long end, int worker) {
    const int first = static_cast<int>(begin), last = static_cast<int>(end);
    switch (phase) {
      case 0: return Packing::cut(args, worker);
      case 1: return Packing::run(args, first, last, worker);
      case 2: return multiply_items(args, begin, end, worker);
      default: return sum_parts(args, first, last);
    }
  }

  // Blocks of part `index`: whole pairs (64 elements), shared out as evenly as possible.
  static BlockRange part_range(const StageArgs& args, int index) {
    const int blocks = args.k / kBlock;
    const Share pairs = share_of((blocks + 1) / 2, args.ksplit, index);
    return {2 * pairs.first, 2 * pairs.end() < blocks ? 2 * pairs.end() : blocks};
  }

  // Items of a segment follow each other, and so do their panels.
  static Product product_of(const StageArgs& args, long item, int ranges) {
    const long place = item / args.ksplit;
    const Segment& segment = Memory::segments(args).entries()[place / ranges];
    const Share range = share_of(panels(args), ranges, static_cast<int>(place % ranges));
    const BlockRange blocks = part_range(args, static_cast<int>(item % args.ksplit));
    const uint32_t* const packed = Memory::packed(args, segment.rows_before);
    return {segment, range, blocks, groups(args), packed, nullptr};
  }

  // Whether an item has all panels of its segment: what it packs stays in its cache then.
  static bool packs_own(const StageArgs& args) {
    return args.ksplit == 1 && ranges(args) == 1 && !Packing::alone(args);
  }

  static void multiply_items(const StageArgs& args, long begin, long end, int worker) {
    const int count = ranges(args);
    const bool own = packs_own(args);
    for (long item = begin; item < end; ++item) {
      Product product = product_of(args, item, count);
      if (item + 1 < end) product.next = first_tiles(args, product_of(args, item + 1, count));
      if (own) product.packed = Packing::own(args, product.segment, worker);
      const int part = static_cast<int>(item % args.ksplit);
      multiply<Micro>(args, product, [&](const PassSums& pass) {
        if (args.ksplit > 1) {
          keep_part(args, part, pass);
        } else {
          finish(args, product.segment.expert, pass);
        }
      });
    }
  }

  static void finish(const StageArgs& args, int expert, const PassSums& pass) {
    for (int m = 0; m < pass.rows; ++m) {
      const RowEnd end(args, expert, pass.row + m);
      for (int pair = 0; pair < pass.groups / 2; ++pair) {
        const int column = (pass.panel * kPairs + pair) * kGroupColumns;
        const float *const gate = pass.of(2 * pair, m), *const up = pass.of(2 * pair + 1, m);
        for (int lane = 0; lane < kGroupColumns; lane += kVectorLanes) {
          end.store(column + lane, load(gate + lane), load(up + lane));
        }
      }
    }
  }

  // Gate sums of a sorted row in the workspace; its up sums stand n further.
  static float* partial(const StageArgs& args, int part, long row) {
    return args.workspace + (static_cast<long>(part) * args.sorted_rows + row) * 2 * args.n;
  }

  static void keep_part(const StageArgs& args, int part, const PassSums& pass) {
    for (int m = 0; m < pass.rows; ++m) {
      float* const to = partial(args, part, pass.row + m) + pass.panel * kColumns;
      for (int pair = 0; pair < pass.groups / 2; ++pair) {
        copy_group(pass.of(2 * pair, m), to + pair * kGroupColumns);
        copy_group(pass.of(2 * pair + 1, m), to + args.n + pair * kGroupColumns);
      }
    }
  }

  static void copy_group(const float* from, float* to) {
    for (int lane = 0; lane < kGroupColumns; lane += kVectorLanes) {
      store(to + lane, load(from + lane));
    }
  }

  // Items are passes.
  static void sum_parts(const StageArgs& args, int begin, int end) {
    for_each_pass<Micro>(args, begin, end, [&](const Segment& segment, Share pass) {
      for (int row = segment.row + pass.first; row < segment.row + pass.end(); ++row) {
        sum_row(args, segment.expert, row);
      }
    });
  }

  static void sum_row(const StageArgs& args, int expert, long row) {
    const RowEnd end(args, expert, row);
    for (int column = 0; column < args.n; column += kVectorLanes) {
      F32 gate{}, up{};
      for (int part = 0; part < args.ksplit; ++part) {
        const float* const from = partial(args, part, row) + column;
        gate += load(from);
        up += load(from + args.n);
      }
      end.store(column, gate, up);
    }
  }

  // The end of a row: routing weight, then bias, then activation, a vector at a time.
  class RowEnd {
   public:
    RowEnd(const StageArgs& args, int expert, long row)
        : args_(args),
          weight_(args.doweight ? args.sorted_weights[row] : 1.0f),
          bias_(args.bias == nullptr ? nullptr
                                     : args.bias + static_cast<long>(expert) * args.bias_stride),
          out_(static_cast<uint16_t*>(args.out) +
               slot_row(args, sorted_slot(args, row)) * args.out_stride) {}

    AITER_MOE_INLINE void store(int column, F32 gate, F32 up) const {
      gate *= weight_;
      up *= weight_;
      if (bias_ != nullptr) {
        gate += load(bias_ + column);
        up += load(bias_ + args_.bias_stride / 2 + column);
      }
      store_bf16(out_ + column, Activation::apply(gate, up, args_));
    }

   private:
    const StageArgs& args_;
    float weight_;
    const float* bias_;
    uint16_t* out_;
  };
};

}  // namespace aiter_moe::cpu
