// SPDX-License-Identifier: MIT
// The arguments of a stage kernel, one struct for every target: the CPU entry point takes a
// pointer to it, a GPU kernel takes it by value as its kernel arguments.
// Mirrored by aiter_moe/targets/arguments.py; a test compares every offset.
#pragma once

namespace aiter_moe {

struct StageArgs {
  const void* x;                    // stage 1: rows by token; stage 2: rows token*topk+slot
  const unsigned char* x_scale;     // e8m0 of fp4 activations, null for bf16
  const unsigned char* w;           // fp4 codes in 16x16 tiles, [experts][w_rows][w_k/2];
                                    // of the CPU panels with their scales (cpu/layout.h)
  const unsigned char* w_scale;     // e8m0, 32x8 tiles over the stacked rows; not of panels
  const float* bias;                // [experts][w_rows], gate then up in stage 1; or null
  const int* sorted_ids;            // slot << 24 | token
  const float* sorted_weights;      // routing weight per sorted slot
  const int* sorted_expert_ids;     // local expert per block
  const int* num_valid_ids;         // [0]: used sorted slots
  void* out;                        // stage 1: [tokens*topk][out_stride], bf16 or fp4 codes;
                                    // stage 2: the same, f32, or [tokens][out_stride], out_type
  float* workspace;                 // split-k partial sums, f32 [ksplit][sorted_rows][2*n]
  void* scratch;                    // target-private memory (see the launcher)
  int tokens;                       // rows of x in stage 1
  int topk;
  int n;                            // logical output columns: inter_dim or model_dim
  int k;                            // logical reduction length in elements, a multiple of 32
  int x_stride;                     // elements from row to row of x
  int x_scale_stride;               // bytes from row to row of x_scale
  int out_stride;                   // elements from row to row of out
  int w_rows;                       // physical rows of one expert
  int w_k;                          // physical reduction length of w in elements
  int w_scale_cols;                 // physical columns of w_scale, a multiple of 8
  int bias_stride;                  // floats from expert to expert of bias
  int sorted_rows;                  // length of sorted_ids, rounded up to block_m
  int ksplit;                       // parts of the reduction, 1 without split-k
  int doweight;                     // multiply by the routing weight in this stage
  int interleaved;                  // w1 rows: 16 gate, 16 up, 16 gate, ...; of panels always
  float limit;                      // Swiglu clamp, or Silu clamp when > 0
  float beta;                       // Situv2
  float linear_beta;                // Situv2
  // Of kernels that some targets have.
  unsigned char* out_scale;         // e8m0 of fp4 `out`: S tiles over sorted rows, or, where the
                                    // routing is read directly, rows token*topk+slot
  const int* topk_ids;              // direct routing: [tokens][topk] global experts
  const float* topk_weights;        // direct routing: [tokens][topk]
  const int* expert_mask;           // direct routing: [experts], non-zero is held here; or null
  const int* local_tokens;          // direct routing: [1] leading tokens that count; or null
  int out_scale_stride;             // bytes from row to row of out_scale
  int experts;                      // global experts, the length of expert_mask
  int out_columns;                  // columns of a final `out`; zero from n on
  int x_type;                       // ElementType of x where a kernel takes several
  int out_type;                     // ElementType of a final `out`
  // Of the CPU target, whose kernels are compiled once for all of these.
  int block_m;                      // sorted rows of a block
  int columns;                      // output columns of a work item
  int ahead;                        // prefetch distance in weight tiles, 0 for none
  int threads;                      // workers that may run items, numbered from 0
};

// Values of aiter_moe/targets/arguments.py ElementType.
enum class ElementType : int { bf16 = 0, f16 = 1, f32 = 2, fp4 = 3 };

}  // namespace aiter_moe
