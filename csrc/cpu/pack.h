// SPDX-License-Identifier: MIT
// The first two phases of both stages: cut the sorted rows into segments, then gather and pack the
// activations of their passes, quantised first where an fp4 kernel is given rows of floats. Where a
// single work item reads a segment, the item packs it for itself instead.
#pragma once

#include "cpu/microkernel.h"
#include "cpu/runtime/quantise_block.h"
#include "cpu/scratch.h"

namespace aiter_moe::cpu {

// `Gather` maps a slot to its row of x; kByToken: all slots of a token to the same.
template <class Micro, class Gather>
struct Pack {
  using Memory = Scratch<Micro>;

  // So many elements are packed sooner by one thread than all threads meet.
  static constexpr long kElementsAlone = 16384;

  static bool quantises(const StageArgs& args) {
    return Micro::kActivationBits == 4 && args.x_scale == nullptr;
  }

  // A worker's rows of fp4 codes, then their scales.
  static long code_bytes(const StageArgs& args) {
    return quantises(args) ? static_cast<long>(Micro::kRows) * (args.k / 2 + args.k / kBlock) : 0;
  }

  // What a worker packs a segment of its own into.
  static long segment_bytes(const StageArgs& args) {
    const int row_bytes = Memory::row_words(args) * 4;
    return static_cast<long>(Cutter::most_rows(args, row_bytes)) * row_bytes;
  }

  static void cut(const StageArgs& args, int worker) {
    Segments& segments = Memory::segments(args);
    Cutter(args, Micro::kRows, Memory::row_words(args) * 4).cut(segments);
    const bool one = one_row(args);
    if (one) {
      for (int i = 0; i < segments.count; ++i) segments.entries()[i].rows_before = 0;
    }
    if (alone(args)) run(args, 0, one ? 1 : segments.passes, worker);
  }

  // A single token whose experts all read the same packed row.
  static bool one_row(const StageArgs& args) {
    const Segments& segments = Memory::segments(args);
    return Gather::kByToken && args.tokens == 1 && segments.rows > 0 &&
           segments.rows == segments.count;
  }

  static bool alone(const StageArgs& args) {
    const long elements = static_cast<long>(Memory::segments(args).rows) * args.k;
    return one_row(args) || elements <= kElementsAlone;
  }

  // Items of the second phase: passes.
  static long items(const StageArgs& args) {
    return alone(args) ? 0 : Memory::segments(args).passes;
  }

  static void run(const StageArgs& args, int begin, int end, int worker) {
    uint8_t* const codes = Memory::worker_memory(args, worker, code_bytes(args));
    for_each_pass<Micro>(args, begin, end, [&](const Segment& segment, Share pass) {
      pack_pass(args, segment, pass, codes, Memory::packed(args, segment.rows_before));
    });
  }

  // Packs a segment into memory of the worker, which also holds its codes.
  static const uint32_t* own(const StageArgs& args, const Segment& segment, int worker) {
    const long bytes = Memory::whole_lines(code_bytes(args));
    uint8_t* const codes = Memory::worker_memory(args, worker, bytes + segment_bytes(args));
    uint32_t* const to = reinterpret_cast<uint32_t*>(codes + bytes);
    for (int index = 0; index < segment.passes; ++index) {
      pack_pass(args, segment, segment.pass(index), codes, to);
    }
    return to;
  }

  // `to`: where the segment begins.
  static void pack_pass(const StageArgs& args, const Segment& segment, Share pass, uint8_t* codes,
                        uint32_t* to) {
    RowSource rows[Micro::kRows];
    for (int m = 0; m < pass.count; ++m) {
      const Slot slot = sorted_slot(args, segment.row + pass.first + m);
      rows[m] = source(args, Gather::row(args, slot), m, codes);
    }
    Micro::pack(rows, pass.count, args.k / kBlock,
                to + static_cast<long>(pass.first) * Memory::row_words(args));
  }

  // Row `m` of a pass.
  static RowSource source(const StageArgs& args, long row, int m, uint8_t* codes) {
    const long elements = row * args.x_stride;
    if (quantises(args)) {
      uint8_t* const scales = codes + static_cast<long>(Micro::kRows) * (args.k / 2);
      uint8_t* const own_codes = codes + m * (args.k / 2L);
      uint8_t* const own_scales = scales + m * (args.k / kBlock);
      quantise(args, elements, own_codes, own_scales);
      return {own_codes, own_scales};
    }
    const char* const values = static_cast<const char*>(args.x);
    const uint8_t* const scales =
        args.x_scale == nullptr ? nullptr : args.x_scale + row * args.x_scale_stride;
    return {values + elements * Micro::kActivationBits / 8, scales};
  }

  static void quantise(const StageArgs& args, long first, uint8_t* codes, uint8_t* scales) {
    switch (static_cast<ElementType>(args.x_type)) {
      case ElementType::bf16: return quantise<Float::kBf16>(args, first, codes, scales);
      case ElementType::f16: return quantise<Float::kF16>(args, first, codes, scales);
      default: return quantise<Float::kF32>(args, first, codes, scales);
    }
  }

  template <Float kType>
  static void quantise(const StageArgs& args, long first, uint8_t* codes, uint8_t* scales) {
    for (int block = 0; block < args.k / kBlock; ++block, codes += kBlock / 2) {
      const long at = first + static_cast<long>(block) * kBlock;
      scales[block] =
          static_cast<uint8_t>(quantise_block<kType, Rounding::kUp>(args.x, at, codes));
    }
  }
};

}  // namespace aiter_moe::cpu
