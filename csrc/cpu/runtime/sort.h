// SPDX-License-Identifier: MIT
// moe_sorting: (token, slot) pairs in order of expert, each expert padded to whole blocks.
// A counting sort over chunks of tokens: count, place, write; the order is that of one chunk.
#pragma once

#include "common/pool.h"

namespace aiter_moe {

enum SortVerdict : int {
  kSorted = 0,
  kBadExpert = 1,
  kBadWeight = 2,
  kNoRoom = 3,
  kNoMemory = 4,
  kBadMask = 5,
};

// Mirrored by aiter_moe/targets/cpu_arguments.py.
struct SortArgs {
  const int* topk_ids;         // [tokens][topk]
  const float* topk_weights;   // [tokens][topk]
  const int* expert_mask;      // [experts], nonzero for experts held here; or null: all
  int* sorted_ids;             // [capacity]
  float* sorted_weights;       // [capacity]
  int* sorted_expert_ids;      // [blocks]
  int* num_valid;              // [2]
  int* local_topk_ids;         // [tokens][topk]; or null
  int* m_indices;              // [capacity]; or null
  int* reverse_sorted;         // [tokens][topk]; or null
  int tokens;
  int topk;
  int experts;
  int block;
  int processed;               // leading tokens that are sorted
  int capacity;
  int blocks;
  int bad_token;               // first offender where the verdict is kBadExpert or kBadWeight
  int bad_slot;
  int bad_bits;                // expert id, bits of the weight, or experts of a bad mask
  int held;                    // experts the mask must mark, or -1: any number
};

class Sort {
 public:
  static constexpr int kPairsPerChunk = 8192;
  static constexpr int kMaxChunks = 256;

  static int run(SortArgs& args, int threads) {
    constexpr long kSmall = 4096;
    int small[kSmall];
    const long words = memory_words(args, threads);
    int* const memory =
        words <= kSmall ? small : static_cast<int*>(host_malloc(words * sizeof(int)));
    if (memory == nullptr) return kNoMemory;
    Sort sort(args, threads, memory);
    Pool::run(task(), &sort, threads);
    if (memory != small) host_free(memory);
    return sort.verdict();
  }

  // Integers of memory that the sort needs beside its results.
  static long memory_words(const SortArgs& args, int threads) {
    return (static_cast<long>(chunks_of(args, threads)) + 2) * args.experts;
  }

  Sort(SortArgs& args, int threads, int* memory)
      : args_(args),
        chunks_(chunks_of(args, threads)),
        abandoned_(kSorted),
        used_slots_(0),
        places_(memory),
        used_end_(memory + static_cast<long>(chunks_) * args.experts),
        block_end_(used_end_ + args.experts) {}

  // Its context is a Sort.
  static Task task() { return {&Sort::phases, &Sort::items, &Sort::run_items}; }

  bool succeeded() const { return abandoned_ == kSorted; }

  // To be asked when all phases are over; fills in what is bad.
  int verdict() {
    if (abandoned_ == kBadExpert || abandoned_ == kBadWeight) name_first_offence();
    return abandoned_;
  }

 private:
  struct Offence {
    int verdict;
    int token;
    int slot;
    int bits;
  };

  static int chunks_of(const SortArgs& args, int threads) {
    const long pairs = static_cast<long>(args.tokens) * args.topk;
    const long wanted = threads > 1 ? (pairs + kPairsPerChunk - 1) / kPairsPerChunk : 1;
    const long most = smaller(larger(args.tokens, 1), kMaxChunks);
    return static_cast<int>(smaller(larger(wanted, 1L), most));
  }

  // A single chunk needs no barriers.
  static int phases(const void* context) {
    return static_cast<const Sort*>(context)->chunks_ == 1 ? 1 : 3;
  }

  static long items(const void* context, int phase) {
    return phase == 1 ? 1 : static_cast<const Sort*>(context)->chunks_;
  }

  static void run_items(const void* context, int phase, long begin, long end, int) {
    Sort& sort = *static_cast<Sort*>(const_cast<void*>(context));
    if (sort.chunks_ == 1) {
      sort.count(0);
      sort.place();
      return sort.write(0);
    }
    if (phase == 1) return sort.place();
    for (int chunk = static_cast<int>(begin); chunk < end; ++chunk) {
      phase == 0 ? sort.count(chunk) : sort.write(chunk);
    }
  }

  void name_first_offence() {
    for (int chunk = 0; chunk < chunks_; ++chunk) {
      const Offence& offence = offences_[chunk];
      if (offence.verdict == kSorted) continue;
      args_.bad_token = offence.token;
      args_.bad_slot = offence.slot;
      args_.bad_bits = offence.bits;
      abandoned_ = offence.verdict;
      return;
    }
  }

  int first_token(int chunk) const {
    return static_cast<int>(static_cast<long>(args_.tokens) * chunk / chunks_);
  }

  int* places_of(int chunk) const { return places_ + static_cast<long>(chunk) * args_.experts; }

  static bool finite(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7F800000u) != 0x7F800000u;
  }

  // Pairs per expert, and the first pair that cannot be sorted.
  void count(int chunk) {
    int* counts = places_of(chunk);
    for (int expert = 0; expert < args_.experts; ++expert) counts[expert] = 0;
    offences_[chunk].verdict = kSorted;
    const int end = smaller(first_token(chunk + 1), args_.processed);
    const unsigned experts = static_cast<unsigned>(args_.experts);
    for (int token = first_token(chunk); token < end; ++token) {
      for (int slot = 0; slot < args_.topk; ++slot) {
        const long pair = static_cast<long>(token) * args_.topk + slot;
        const int expert = args_.topk_ids[pair];
        if (static_cast<unsigned>(expert) >= experts) {
          offences_[chunk] = {kBadExpert, token, slot, expert};
          return;
        }
        if (args_.expert_mask != nullptr && args_.expert_mask[expert] == 0) continue;
        if (!finite(args_.topk_weights[pair])) {
          int bits;
          __builtin_memcpy(&bits, &args_.topk_weights[pair], sizeof bits);
          offences_[chunk] = {kBadWeight, token, slot, bits};
          return;
        }
        ++counts[expert];
      }
    }
  }

  // Counts become the place of each chunk's first pair of an expert.
  void place() {
    for (int chunk = 0; chunk < chunks_; ++chunk) {
      if (offences_[chunk].verdict == kSorted) continue;
      abandoned_ = offences_[chunk].verdict;
      return;
    }
    int position = 0;
    int local = 0;
    int blocks = 0;
    for (int expert = 0; expert < args_.experts; ++expert) {
      const int begin = position;
      for (int chunk = 0; chunk < chunks_; ++chunk) {
        int& cell = places_of(chunk)[expert];
        const int pairs = cell;
        cell = position;
        position += pairs;
      }
      used_end_[expert] = position;
      const int used_blocks = (position - begin + args_.block - 1) / args_.block;
      const long padded = begin + static_cast<long>(used_blocks) * args_.block;
      if (padded > args_.capacity || blocks + used_blocks > args_.blocks) {
        abandoned_ = kNoRoom;
        return;
      }
      position = static_cast<int>(padded);
      block_end_[expert] = position;
      for (const int end = blocks + used_blocks; blocks < end; ++blocks) {
        args_.sorted_expert_ids[blocks] = local;
      }
      local += args_.expert_mask == nullptr || args_.expert_mask[expert] != 0;
    }
    if (args_.held >= 0 && local != args_.held) {
      args_.bad_bits = local;
      abandoned_ = kBadMask;
      return;
    }
    for (; blocks < args_.blocks; ++blocks) args_.sorted_expert_ids[blocks] = -1;
    used_slots_ = position;
    args_.num_valid[0] = position;
    args_.num_valid[1] = args_.processed;
  }

  void write(int chunk) {
    if (abandoned_ != kSorted) return;
    write_pairs(chunk);
    for (int expert = chunk; expert < args_.experts; expert += chunks_) {
      write_pads(used_end_[expert], block_end_[expert]);
    }
    const long tail = args_.capacity - used_slots_;
    write_pads(used_slots_ + static_cast<int>(tail * chunk / chunks_),
               used_slots_ + static_cast<int>(tail * (chunk + 1) / chunks_));
    if (args_.local_topk_ids != nullptr) write_local_ids(chunk);
  }

  void write_pairs(int chunk) {
    int* places = places_of(chunk);
    const int end = smaller(first_token(chunk + 1), args_.processed);
    for (int token = first_token(chunk); token < end; ++token) {
      for (int slot = 0; slot < args_.topk; ++slot) {
        const long pair = static_cast<long>(token) * args_.topk + slot;
        const int expert = args_.topk_ids[pair];
        const bool here = args_.expert_mask == nullptr || args_.expert_mask[expert] != 0;
        const int place = here ? places[expert]++ : -1;
        if (args_.reverse_sorted != nullptr) args_.reverse_sorted[pair] = place;
        if (!here) continue;
        args_.sorted_ids[place] = slot << 24 | token;
        args_.sorted_weights[place] = args_.topk_weights[pair];
        if (args_.m_indices != nullptr) args_.m_indices[place] = token;
      }
    }
    if (args_.reverse_sorted == nullptr) return;
    const int first = larger(first_token(chunk), args_.processed);
    for (int token = first; token < first_token(chunk + 1); ++token) {
      for (int slot = 0; slot < args_.topk; ++slot) {
        args_.reverse_sorted[static_cast<long>(token) * args_.topk + slot] = -1;
      }
    }
  }

  void write_pads(int begin, int end) {
    const int word = args_.topk << 24 | args_.tokens;
    for (int slot = begin; slot < end; ++slot) args_.sorted_ids[slot] = word;
    for (int slot = begin; slot < end; ++slot) args_.sorted_weights[slot] = 0.0f;
    if (args_.m_indices == nullptr) return;
    for (int slot = begin; slot < end; ++slot) args_.m_indices[slot] = args_.tokens;
  }

  void write_local_ids(int chunk) {
    // The counts of this chunk are spent: its cells now hold the local id of each expert.
    int* local_of = places_of(chunk);
    int local = 0;
    for (int expert = 0; expert < args_.experts; ++expert) {
      const bool here = args_.expert_mask == nullptr || args_.expert_mask[expert] != 0;
      local_of[expert] = here ? local++ : -1;
    }
    for (int token = first_token(chunk); token < first_token(chunk + 1); ++token) {
      for (int slot = 0; slot < args_.topk; ++slot) {
        const long pair = static_cast<long>(token) * args_.topk + slot;
        args_.local_topk_ids[pair] =
            token < args_.processed ? local_of[args_.topk_ids[pair]] : -1;
      }
    }
  }

  SortArgs& args_;
  const int chunks_;
  int abandoned_;
  int used_slots_;
  int* const places_;      // [chunks][experts]: counts, then places
  int* const used_end_;    // [experts]: end of the pairs
  int* const block_end_;   // [experts]: end of the padded blocks
  Offence offences_[kMaxChunks];
};

}  // namespace aiter_moe
