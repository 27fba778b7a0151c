// SPDX-License-Identifier: MIT
// Scratch memory of a stage kernel: the table of segments, packed rows, and a buffer per worker.
// Its size follows from the arguments without the sort, so it can be had before the sort runs.
#pragma once

#include "cpu/operands.h"
#include "cpu/segments.h"

namespace aiter_moe::cpu {

template <class Micro>
struct Scratch {
  static long whole_lines(long bytes) { return (bytes + 63) / 64 * 64; }

  static int row_words(const StageArgs& args) { return Micro::kRowWords * (args.k / kBlock); }

  static long pairs(const StageArgs& args) { return static_cast<long>(args.tokens) * args.topk; }

  static long table_bytes(const StageArgs& args) {
    return sizeof(Segments) + whole_lines(pairs(args) * sizeof(Segment));
  }

  static long packed_bytes(const StageArgs& args) {
    return whole_lines(pairs(args) * row_words(args) * 4);
  }

  static long bytes(const StageArgs& args, long worker_bytes) {
    return table_bytes(args) + packed_bytes(args) + args.threads * whole_lines(worker_bytes);
  }

  static Segments& segments(const StageArgs& args) { return *static_cast<Segments*>(args.scratch); }

  // Where a pass lies packed that starts `row` rows after the first of all.
  static uint32_t* packed(const StageArgs& args, long row) {
    char* const base = static_cast<char*>(args.scratch) + table_bytes(args);
    return reinterpret_cast<uint32_t*>(base) + row * row_words(args);
  }

  static uint8_t* worker_memory(const StageArgs& args, int worker, long worker_bytes) {
    uint8_t* const base = static_cast<uint8_t*>(args.scratch);
    return base + table_bytes(args) + packed_bytes(args) + worker * whole_lines(worker_bytes);
  }
};

// Calls visit(segment, share of its rows) for passes [begin, end) of all.
template <class Micro, class Visit>
void for_each_pass(const StageArgs& args, int begin, int end, const Visit& visit) {
  if (begin >= end) return;
  const Segments& segments = Scratch<Micro>::segments(args);
  const Segment* segment = segments.entries() + segment_of_pass(segments, begin);
  for (int pass = begin; pass < end; ++segment) {
    for (int index = pass - segment->passes_before; index < segment->passes && pass < end;) {
      visit(*segment, segment->pass(index));
      ++index, ++pass;
    }
  }
}

}  // namespace aiter_moe::cpu
