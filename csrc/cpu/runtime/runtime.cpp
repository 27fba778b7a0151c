// SPDX-License-Identifier: MIT
// The CPU support library: thread pool, whole layers, and by themselves MoE sort, MXFP4 quantiser,
// scale sort and topk reduction, behind C symbols. Freestanding; what it needs of the C library is
// declared in host.h. Called through aiter_moe/targets/cpu_runtime.py.

#pragma GCC visibility push(hidden)
#include "common/export.h"
#include "common/stage_args.h"
#include "common/pool.h"
#include "cpu/runtime/layer.h"
#include "cpu/runtime/quantise.h"
#include "cpu/runtime/reduce.h"
#include "cpu/runtime/scale_sort.h"
#include "cpu/runtime/sort.h"
#pragma GCC visibility pop

using namespace aiter_moe;

// Size of the argument struct stage kernels take, checked when the library is loaded.
AITER_MOE_EXPORT int aiter_moe_args_size() { return sizeof(StageArgs); }

AITER_MOE_EXPORT int aiter_moe_sort_args_size() { return sizeof(SortArgs); }

AITER_MOE_EXPORT int aiter_moe_layer_plan_size() { return sizeof(LayerPlan); }

AITER_MOE_EXPORT int aiter_moe_layer_call_size() { return sizeof(LayerCall); }

// Pauses a waiting thread spends awake before it sleeps; 0 where threads outnumber CPUs.
AITER_MOE_EXPORT void aiter_moe_set_spins(int spins) { Pool::set_spins(spins); }

// Threads of an OpenMP library, on which launches of exactly `threads` threads run; 0: none.
AITER_MOE_EXPORT void aiter_moe_lend_team(const Team* team, int threads) {
  Pool::lend(*team, threads);
}

// Runs the phases of a kernel over the pool; see Pool::run.
AITER_MOE_EXPORT int aiter_moe_pool_run(const Task* kernel, const void* args, int threads) {
  return Pool::run(*kernel, args, threads);
}

// A whole layer; see Layer::run.
AITER_MOE_EXPORT int aiter_moe_layer_run(const LayerPlan* plan, LayerCall* call, int threads) {
  return Layer::run(*plan, *call, threads);
}

AITER_MOE_EXPORT int aiter_moe_sort(SortArgs* args, int threads) {
  return Sort::run(*args, threads);
}

AITER_MOE_EXPORT void aiter_moe_quantise(const void* x, unsigned char* codes,
                                         unsigned char* scales, long rows, long columns,
                                         long stride, int type, int rounding, int threads) {
  const QuantiseArgs args{x,       codes,  scales, rows, columns,
                          stride, static_cast<Float>(type), static_cast<Rounding>(rounding)};
  quantise(args, threads);
}

AITER_MOE_EXPORT void aiter_moe_sort_scales(const unsigned char* scales, const int* sorted_ids,
                                            unsigned char* out, long sorted, long valid,
                                            long tokens, long slots, long columns, int threads) {
  const ScaleSortArgs args{scales, sorted_ids, out,     sorted,
                           valid,  tokens,     slots,   columns, (columns + 7) / 8 * 8};
  sort_scales(args, threads);
}

AITER_MOE_EXPORT void aiter_moe_reduce(const float* rows, const int* positions, void* out,
                                       long tokens, long topk, long columns, long stride,
                                       int type, int threads) {
  const ReduceArgs args{rows,    positions, out,    tokens, topk, columns,
                        columns, stride,    static_cast<Float>(type)};
  reduce(args, threads);
}
