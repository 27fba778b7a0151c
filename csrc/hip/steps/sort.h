// SPDX-License-Identifier: MIT
// moe_sorting in one launch: a workgroup per expert. Each counts the pairs of all experts, which
// tells where its own slots begin, then places its own pairs in order of token and slot. Nobody
// waits for another workgroup, and no order of execution can change a bit.
// What belongs to no expert (unused slots, pairs nobody holds, memory to clear) is shared out.
#pragma once

#include "common/step_args.h"
#include "hip/steps/wave.h"

namespace aiter_moe::hip {

constexpr int sort_experts = 4096;
constexpr int sort_waves = 16;
constexpr int sort_batch = 4 * wave_lanes;  // pairs a wave looks at together, 4 a lane
constexpr int sort_listed = 2048;

// The last cell counts what is past the end of a wave's pairs.
struct SortCells {
  int pairs[sort_experts + 1];
  int of_wave[sort_waves];  // pairs of this workgroup's expert
  int listed[sort_listed];  // their numbers in order, where there is room
};

// Pairs by number.
struct Run {
  int begin;
  int end;
};

// Where this workgroup's expert stands among all of them.
struct Place {
  int begin;  // its first slot
  int pairs;
  int slots;  // pairs, up to whole blocks
  int local;  // its id among the experts held here
  int used;   // slots of all experts
};

struct Sorter {
  const SortStepArgs& a;
  AITER_MOE_LDS SortCells& cells;
  int expert;     // of this workgroup; from `experts` on a mere helper
  int processed;  // leading tokens that are sorted
  Run mine;       // this wave's pairs

  AITER_MOE_DEVICE Sorter(const SortStepArgs& args, AITER_MOE_LDS SortCells& memory)
      : a(args), cells(memory), expert(group_x()) {
    processed = a.tokens;
    if (a.local_tokens) {
      const int left = constant(a.local_tokens)[0] - a.first_token;
      processed = smaller(left > 0 ? left : 0, a.tokens);
    }
    const int pairs = processed * a.topk, of_wave = a.wave_batches * sort_batch;
    const int begin = smaller(wave() * of_wave, pairs);
    mine = {begin, smaller(pairs - begin, of_wave) + begin};
  }

  AITER_MOE_DEVICE bool held(int which) const {
    return !a.expert_mask || global(a.expert_mask)[which] != 0;
  }
  AITER_MOE_DEVICE int padded(int pairs) const {
    return (pairs + (1 << a.block_shift) - 1) >> a.block_shift << a.block_shift;
  }
  // Of an id that names no expert the nearest.
  AITER_MOE_DEVICE int nearest(int id) const { return smaller(id > 0 ? id : 0, a.experts - 1); }

  // The experts of 4 pairs of each lane, all inside the run.
  AITER_MOE_DEVICE i32x4 load_batch(int first) const {
    typedef int i32x4_row __attribute__((ext_vector_type(4), aligned(4)));
    const auto* from = global(a.topk_ids) + first + 4 * lane();
    return *(const i32x4_row AITER_MOE_GLOBAL*)(from);
  }
  // The same at the end of a run; an expert past the last stands for a pair past the end.
  AITER_MOE_DEVICE i32x4 load_rest(int first) const {
    i32x4 ids;
    unroll<4>([&]<int i>() {
      ids[i] = global(a.topk_ids)[smaller(first + 4 * lane() + i, mine.end - 1)];
    });
    return ids;
  }
  template <bool Whole, class Use> AITER_MOE_DEVICE void use_batch(
      int first, i32x4 ids, Use use) const {
    int experts[4];
    unroll<4>([&]<int i>() {
      experts[i] = nearest(ids[i]);
      if (!Whole && first + 4 * lane() + i >= mine.end) experts[i] = a.experts;
    });
    use(first, experts);
  }
  // Calls use(first pair, experts of 4 pairs) for each batch of this wave, with loads of several
  // batches under way.
  template <class Use> AITER_MOE_DEVICE void each_batch(Use use) const {
    constexpr int ahead = 4;
    int first = mine.begin;
#pragma clang loop unroll(disable)
    for (; first + ahead * sort_batch <= mine.end; first += ahead * sort_batch) {
      i32x4 ids[ahead];
      unroll<ahead>([&]<int i>() { ids[i] = load_batch(first + i * sort_batch); });
      memory_order();
      unroll<ahead>([&]<int i>() { use_batch<true>(first + i * sort_batch, ids[i], use); });
    }
#pragma clang loop unroll(disable)
    for (; first + sort_batch <= mine.end; first += sort_batch) {
      use_batch<true>(first, load_batch(first), use);
    }
    if (first < mine.end) use_batch<false>(first, load_rest(first), use);
  }

  // Counts the pairs of every expert, and returns this wave's of this expert.
  AITER_MOE_DEVICE int count() const {
#pragma clang loop unroll(disable)
    for (int i = thread(); i <= a.experts; i += a.threads) cells.pairs[i] = 0;
    meet();
    int own = 0;
    each_batch([&](int, const int (&experts)[4]) {
      unroll<4>([&]<int i>() {
        __hip_atomic_fetch_add(&cells.pairs[experts[i]], 1, __ATOMIC_RELAXED,
                               __HIP_MEMORY_SCOPE_WORKGROUP);
        own += count_bits(ballot(experts[i] == expert));
      });
    });
    if (lane() == 0) cells.of_wave[wave()] = own;
    meet();
    return own;
  }

  // Every wave sums for itself, which costs less than to tell the others.
  AITER_MOE_DEVICE Place place() const {
    int before = 0, all = 0, local = 0;
    for (int i = lane(); i < a.experts; i += wave_lanes) {
      const bool here = held(i);
      const int slots = here ? padded(cells.pairs[i]) : 0;
      all += slots;
      before += i < expert ? slots : 0;
      local += here && i < expert ? 1 : 0;
    }
    const bool owner = expert < a.experts && held(expert);
    const int pairs = owner ? uniform(cells.pairs[expert]) : 0;
    return {wave_sum(before), pairs, padded(pairs), wave_sum(local), wave_sum(all)};
  }

  // The number of the expert's pair `i`, for `write_slots` to look up: in the LDS, or, of more
  // pairs than it lists, in the pair's slot.
  AITER_MOE_DEVICE void note_pair(const Place& place, int i, int pair) const {
    if (place.pairs <= sort_listed) {
      cells.listed[i] = pair;
    } else {
      global(a.sorted_ids)[place.begin + i] = pair;
    }
  }
  AITER_MOE_DEVICE int noted_pair(const Place& place, int i) const {
    return place.pairs <= sort_listed ? cells.listed[i] : global(a.sorted_ids)[place.begin + i];
  }

  // Notes this wave's pairs.
  AITER_MOE_DEVICE void place_pairs(const Place& place, int own) const {
    if (own == 0) return;
    const int earlier = lane() < wave() ? cells.of_wave[lane()] : 0;
    int before = wave_sum(earlier);
    each_batch([&](int first, const int (&experts)[4]) {
      u64 found[4], any = 0;
      unroll<4>([&]<int i>() { any |= found[i] = ballot(experts[i] == expert); });
      if (any == 0) return;
      int at = before;
      unroll<4>([&]<int i>() { at = lanes_below(found[i], at); });
      unroll<4>([&]<int i>() {
        if (experts[i] == expert) note_pair(place, at++, first + 4 * lane() + i);
        before += count_bits(found[i]);
      });
    });
  }

  AITER_MOE_DEVICE void write_pad(int slot) const {
    global(a.sorted_ids)[slot] = a.topk << 24 | a.tokens;
    global(a.sorted_weights)[slot] = 0.0f;
  }

  // Pair numbers become id words, with weights and positions; the rest of the last block is pads.
  AITER_MOE_DEVICE void write_slots(const Place& place) const {
    for (int i = thread(); i < place.slots; i += a.threads) {
      const int slot = place.begin + i;
      if (i >= place.pairs) {
        write_pad(slot);
        continue;
      }
      const int pair = noted_pair(place, i);
      const u32 token = static_cast<u32>(pair) / static_cast<u32>(a.topk);
      const u32 number = static_cast<u32>(pair) - token * a.topk;
      const bool right = global(a.topk_ids)[pair] == expert;
      const float weight = global(a.topk_weights)[pair];
      global(a.sorted_ids)[slot] = static_cast<int>(number << 24 | token);
      global(a.sorted_weights)[slot] = right ? weight : __builtin_nanf("");
      global(a.positions)[pair] = slot;
    }
    const int first_block = place.begin >> a.block_shift;
    for (int i = thread(); i < place.slots >> a.block_shift; i += a.threads) {
      global(a.sorted_expert_ids)[first_block + i] = place.local;
    }
  }

  // What is shared out goes to the threads of all workgroups in turn.
  AITER_MOE_DEVICE int first_share() const { return group_x() * a.threads + thread(); }
  AITER_MOE_DEVICE int share_step() const { return a.groups * a.threads; }

  // Slots past the used ones.
  AITER_MOE_DEVICE void write_unused(int used) const {
    for (int i = used + first_share(); i < a.capacity; i += share_step()) write_pad(i);
    const int blocks = a.capacity >> a.block_shift;
    for (int i = (used >> a.block_shift) + first_share(); i < blocks; i += share_step()) {
      global(a.sorted_expert_ids)[i] = -1;
    }
    if (first_share() != 0) return;
    global(a.num_valid)[0] = used;
    global(a.num_valid)[1] = processed;
  }

  // Pairs that get no slot.
  AITER_MOE_DEVICE void write_skipped() const {
    if (!a.expert_mask && !a.local_tokens) return;
    const int sorted = processed * a.topk, all = a.tokens * a.topk;
    for (int i = first_share(); i < all; i += share_step()) {
      if (i >= sorted || !held(nearest(global(a.topk_ids)[i]))) global(a.positions)[i] = -1;
    }
  }

  // Memory to clear, in pieces of 16 bytes and what is left of rows.
  AITER_MOE_DEVICE void clear() const {
    if (!a.cleared) return;
    typedef u32 u32x4_bytes __attribute__((ext_vector_type(4), aligned(2)));
    constexpr int piece = 16;
    const u32 pieces = (a.cleared_bytes + piece - 1) / piece;
    const i64 all = static_cast<i64>(pieces) * a.cleared_rows;
    for (i64 i = first_share(); i < all; i += share_step()) {
      const i64 row = a.cleared_rows == 1 ? 0 : i / pieces;
      const int inside = static_cast<int>(i - row * pieces) * piece;
      auto* to = global(a.cleared) + row * a.cleared_pitch + inside;
      if (inside + piece <= a.cleared_bytes) {
        *(u32x4_bytes AITER_MOE_GLOBAL*)(to) = u32x4_bytes{0, 0, 0, 0};
        continue;
      }
      for (int j = 0; inside + j < a.cleared_bytes; j += 2) *(u16 AITER_MOE_GLOBAL*)(to + j) = 0;
    }
  }

  // All waves of the workgroup, with what they wrote.
  AITER_MOE_DEVICE static void meet() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  }
};

AITER_MOE_DEVICE void sort_step(const SortStepArgs& a) {
  static __attribute__((shared)) SortCells cells;
  const Sorter sorter(a, (AITER_MOE_LDS SortCells&)(cells));
  const int own = sorter.count();
  const Place place = sorter.place();
  if (place.pairs > 0) {
    sorter.place_pairs(place, own);
    Sorter::meet();
    sorter.write_slots(place);
  }
  sorter.write_unused(place.used);
  sorter.write_skipped();
  sorter.clear();
}

}  // namespace aiter_moe::hip
