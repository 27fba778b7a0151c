// SPDX-License-Identifier: MIT
// The routing of a few tokens, read by every workgroup for itself instead of by a sort launch.
// A lane is a (token, slot) pair. Which pairs go to the same expert, and which to an earlier one,
// follows from the bits of the expert numbers: one word of 64 pairs a bit, so that a few logical
// operations compare a lane with 64 others. Blocks, their order and that of rows in them are those
// of a sort with 16 rows a block. Not here: what is computed for a block (stage1.h, stage2.h).
#pragma once

#include "hip/rows.h"

namespace aiter_moe::hip::direct {

using u64 = unsigned long;

constexpr int block_rows = 16;
constexpr int most_pairs = 256;  // 16 tokens, 16 slots each
constexpr int chunks = most_pairs / wave_lanes;
constexpr int number_bits = 12;  // of an expert's number
constexpr int held_words = (1 << number_bits) / wave_lanes;

// What all waves of a workgroup know. Rows are wanted pairs in sorted order, without pads.
struct Routing {
  u64 held[held_words];             // with an expert mask: experts that are here
  u64 bits[chunks][number_bits];    // of the expert numbers of 64 pairs
  u64 wanted[chunks];               // pairs of a leading token whose expert is here
  u64 leaders[chunks];              // pairs that are the first of a block
  int blocks[most_pairs + 1][2];    // their first rows and experts; then the end of the rows
  u32 word[most_pairs];             // of each row: slot << 16 | pair << 8 | token
  float weight[most_pairs];
  int expert[most_pairs];           // its number among those here
  int row[most_pairs];              // of each pair: its row, or -1
};
using RoutingTable = AITER_MOE_LDS Routing;

AITER_MOE_DEVICE RoutingTable& routing() {
  __attribute__((shared, aligned(16))) static Routing table;
  return *(RoutingTable*)(&table);
}

// Products of a few rows and a stride. Of 24 bits each: the longer multiplication of the hardware
// writes registers in pairs, and would wait for loads on their way to the other one.
AITER_MOE_DEVICE int times(int rows, int stride) {
  return static_cast<int>((static_cast<u32>(rows) & 0xffffffu) *
                          (static_cast<u32>(stride) & 0xffffffu));
}

// number / divisor, both small: no quotient of theirs and a half comes as near to a whole number
// as the reciprocal is wrong.
AITER_MOE_DEVICE int quotient(int number, int divisor) {
  return static_cast<int>((static_cast<float>(number) + 0.5f) *
                          __builtin_amdgcn_rcpf(static_cast<float>(divisor)));
}

AITER_MOE_DEVICE u64 ballot(bool value) { return __builtin_amdgcn_ballot_w64(value); }
AITER_MOE_DEVICE int count(u64 set) { return __builtin_popcountl(set); }
AITER_MOE_DEVICE u64 below(int bit) { return (u64{1} << bit) - 1; }
AITER_MOE_DEVICE bool has(u64 set, int bit) { return set >> bit & 1; }

// Every wave reaches this behind its last store to the LDS and before its first read of others'.
AITER_MOE_DEVICE void exchange() {
  wait_lds();
  barrier();
}

// A lane's pair of one chunk.
struct Pair {
  int number;   // token * topk + slot
  int expert;   // global; of a number out of range the nearest
  float weight; // NaN if it was out of range, so that it shows
  bool wanted;
  u64 same[chunks];   // wanted pairs of the same expert
  u64 before[chunks]; // wanted pairs of an earlier expert
  int rank;           // among the pairs of its expert
};

AITER_MOE_DEVICE Pair read_pair(const StageArgs& a, int chunk) {
  Pair p;
  p.number = chunk * wave_lanes + lane();
  const bool inside = p.number < a.tokens * a.topk;
  const int at = inside ? p.number : 0;
  const int asked = global(a.topk_ids)[at];
  const float weight = global(a.topk_weights)[at];
  const int last = a.experts - 1;
  p.expert = asked < 0 ? 0 : smaller(asked, last);
  p.weight = p.expert == asked ? weight : __builtin_nanf("");
  const int counted = a.local_tokens ? constant(a.local_tokens)[0] : a.tokens;
  p.wanted = inside && quotient(p.number, a.topk) < counted;
  return p;
}

template <int Waves> AITER_MOE_DEVICE void find_held(const StageArgs& a, RoutingTable& table) {
  for (int word = wave(); word * wave_lanes < a.experts; word += Waves) {
    const int expert = word * wave_lanes + lane();
    const u64 held = ballot(expert < a.experts && global(a.expert_mask)[expert] != 0);
    if (lane() == 0) table.held[word] = held;
  }
  exchange();
}

AITER_MOE_DEVICE bool is_held(const RoutingTable& table, int expert) {
  return has(table.held[expert / wave_lanes], expert % wave_lanes);
}
// Held experts before this one.
AITER_MOE_DEVICE int local_number(const RoutingTable& table, int expert) {
  const int own = expert / wave_lanes;
  int before = count(table.held[own] & below(expert % wave_lanes));
  for (int word = 0; word < own; ++word) before += count(table.held[word]);
  return before;
}

// Lane b keeps bit b of the 64 expert numbers.
AITER_MOE_DEVICE void publish(RoutingTable& table, int chunk, int bits, const Pair& p) {
  u64 own = 0;
  for (int b = 0; b < bits; ++b) {
    const u64 all = ballot(p.expert >> b & 1);
    own = lane() == b ? all : own;
  }
  if (lane() < bits) table.bits[chunk][lane()] = own;
  const u64 wanted = ballot(p.wanted);
  if (lane() == 0) table.wanted[chunk] = wanted;
}

// Compares this lane's pair with those of every chunk, from the highest bit on.
AITER_MOE_DEVICE void compare(const RoutingTable& table, int used, int bits, int own, Pair& p) {
  p.rank = 0;
  unroll<chunks>([&]<int c>() {
    p.same[c] = 0;
    p.before[c] = 0;
    if (c >= used) return;
    u64 same = table.wanted[c], before = 0;
    for (int b = bits - 1; b >= 0; --b) {
      const u64 ones = table.bits[c][b];
      const u64 mine = p.expert >> b & 1 ? ~u64{0} : 0;
      before |= same & mine & ~ones;
      same &= ~(ones ^ mine);
    }
    p.same[c] = same;
    p.before[c] = before;
    if (c <= own) p.rank += count(c < own ? same : same & below(lane()));
  });
}

AITER_MOE_DEVICE void write_row(
    const StageArgs& a, RoutingTable& table, int own, const Pair& p) {
  int row = p.rank, block = p.rank / block_rows;
  unroll<chunks>([&]<int c>() {
    row += count(p.before[c]);
    block += count(p.before[c] & table.leaders[c]);
  });
  if (p.number < a.tokens * a.topk) table.row[p.number] = p.wanted ? row : -1;
  if (!p.wanted) return;
  const int token = quotient(p.number, a.topk);
  const int slot = p.number - token * a.topk;
  table.word[row] = static_cast<u32>(slot << 16 | p.number << 8 | token);
  table.weight[row] = p.weight;
  table.expert[row] = a.expert_mask ? local_number(table, p.expert) : p.expert;
  if (p.rank % block_rows == 0) {
    table.blocks[block][0] = row;
    table.blocks[block][1] = table.expert[row];
  }
}

// Fills the table; returns the number of blocks.
template <int Waves> AITER_MOE_DEVICE int read_routing(const StageArgs& a) {
  constexpr int own_chunks = (chunks + Waves - 1) / Waves;
  RoutingTable& table = routing();
  const int used = (a.tokens * a.topk + wave_lanes - 1) / wave_lanes;
  const int bits = 32 - __builtin_clz((a.experts - 1) | 1);
  Pair pairs[own_chunks] = {};  // a wave without a chunk has no wanted pair
  const auto each = [&](auto f) {
    unroll<own_chunks>([&]<int i>() {
      const int chunk = wave() + i * Waves;
      if (chunk < used) f(chunk, pairs[i]);
    });
  };
  each([&](int chunk, Pair& p) { p = read_pair(a, chunk); });
  if (a.expert_mask) {
    find_held<Waves>(a, table);
    each([&](int, Pair& p) { p.wanted = p.wanted && is_held(table, p.expert); });
  }
  each([&](int chunk, Pair& p) { publish(table, chunk, bits, p); });
  if (wave() == 0 && lane() < chunks) {
    table.leaders[lane()] = 0;
    if (lane() >= used) table.wanted[lane()] = 0;
  }
  exchange();
  each([&](int chunk, Pair& p) {
    compare(table, used, bits, chunk, p);
    const u64 leaders = ballot(p.wanted && p.rank % block_rows == 0);
    if (lane() == 0) table.leaders[chunk] = leaders;
  });
  exchange();
  each([&](int chunk, Pair& p) { write_row(a, table, chunk, p); });
  int blocks = 0, rows = 0;
  unroll<chunks>([&]<int c>() {
    blocks += count(table.leaders[c]);
    rows += count(table.wanted[c]);
  });
  blocks = uniform(blocks);
  if (thread() == 0) table.blocks[blocks][0] = rows;
  exchange();
  return blocks;
}

// One block of the table.
struct Block {
  int first;
  int rows;
  int expert;

  // Past the end the first row again.
  AITER_MOE_DEVICE int readable(int row) const { return first + (row < rows ? row : 0); }
};
AITER_MOE_DEVICE Block block_of(int number) {
  const auto* block = routing().blocks[number];
  const int first = uniform(block[0]);
  return {first, uniform(block[2]) - first, uniform(block[1])};
}
// Who a row is; `row` counts from the first of its block.
AITER_MOE_DEVICE u32 word_of(const Block& block, int row) {
  return routing().word[block.readable(row)];
}
AITER_MOE_DEVICE int token_of(u32 word) { return static_cast<int>(word & 0xffu); }
AITER_MOE_DEVICE int pair_of(u32 word) { return static_cast<int>(word >> 8 & 0xffu); }
AITER_MOE_DEVICE Slot slot_of(u32 word) {
  return {token_of(word), static_cast<int>(word >> 16), true};
}

}  // namespace aiter_moe::hip::direct
