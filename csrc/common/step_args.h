// SPDX-License-Identifier: MIT
// The arguments of the GPU kernels between stage kernels, which take them by value: sort, quantise,
// scatter of scales, reduce. Mirrored by aiter_moe/targets/step_arguments.py; a test compares every
// offset.
#pragma once

namespace aiter_moe {

struct SortStepArgs {
  const int* topk_ids;         // [tokens][topk]
  const float* topk_weights;   // [tokens][topk]
  const int* expert_mask;      // [experts], non-zero for experts held here; or null: all
  const int* local_tokens;     // [1]: leading tokens that count, from -first_token on; or null: all
  int* sorted_ids;             // [capacity]: slot << 24 | token, pads topk << 24 | tokens
  float* sorted_weights;       // [capacity], 0 in pads
  int* sorted_expert_ids;      // [capacity / block]: local expert, -1 past the used blocks
  int* num_valid;              // [2]: used slots, tokens that count
  int* positions;              // [tokens][topk]: sorted slot, -1 of a pair that has none
  unsigned char* cleared;      // rows to fill with zeros; or null
  long cleared_pitch;          // bytes from row to row
  int cleared_rows;
  int cleared_bytes;           // of a row, a multiple of 2
  int tokens;
  int topk;
  int experts;
  int block_shift;             // log2 of the slots per block
  int capacity;                // a multiple of block
  int first_token;             // tokens of the call before this run's
  int threads;                 // of a workgroup, as launched
  int groups;
  int wave_batches;            // batches of pairs for each wave
};

struct QuantiseStepArgs {
  const void* x;               // [rows][columns], x_stride elements apart
  unsigned char* codes;        // [rows][columns / 2]
  const unsigned char* given;  // scatter: e8m0 [rows][given_stride]
  unsigned char* scales;       // with positions: 32x8 tiles over sorted rows, of scale_stride
                               // columns; else [rows][scale_stride]
  const int* positions;        // [rows][fan]: sorted rows that take this row, -1 for none; or null
  const int* num_valid;        // of the sort: rows from [1] * rows_per_token on are idle; or null
  long x_stride;
  int rows;
  int columns;                 // a multiple of 32
  int given_stride;
  int scale_stride;            // with positions a multiple of 8
  int fan;
  int rows_per_token;
  int threads;                 // of a workgroup, as launched
};

struct ReduceStepArgs {
  const float* rows;           // [tokens][topk][columns]
  const int* positions;        // [tokens][topk]: -1 skips the row, which may hold anything;
                               // or null: none is skipped
  void* out;                   // [tokens] rows, out_stride elements apart
  long out_stride;
  int tokens;
  int topk;
  int columns;                 // a multiple of 4
  int out_columns;             // a multiple of 4; those from `columns` on become 0
  int threads;                 // of a workgroup, as launched
};

}  // namespace aiter_moe
