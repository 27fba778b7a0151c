// SPDX-License-Identifier: MIT
// The C symbols of a kernel artifact, as the pool of csrc/cpu/runtime calls them. Phases count from
// 0, a barrier lies between phases, and items of a phase may run in any order on any thread.
#pragma once

#include "common/export.h"
#include "common/stage_args.h"

#define AITER_MOE_CPU_ENTRY(Kernel)                                                              \
  AITER_MOE_EXPORT long aiter_moe_scratch_bytes(const aiter_moe::StageArgs* args) {              \
    return Kernel::scratch_bytes(*args);                                                         \
  }                                                                                              \
  AITER_MOE_EXPORT int aiter_moe_phases(const aiter_moe::StageArgs* args) {                      \
    return Kernel::phases(*args);                                                                \
  }                                                                                              \
  AITER_MOE_EXPORT long aiter_moe_items(const aiter_moe::StageArgs* args, int phase) {           \
    return Kernel::items(*args, phase);                                                          \
  }                                                                                              \
  AITER_MOE_EXPORT void aiter_moe_run(const aiter_moe::StageArgs* args, int phase, long begin,   \
                                      long end, int worker) {                                    \
    Kernel::run(*args, phase, begin, end, worker);                                               \
  }                                                                                              \
  AITER_MOE_EXPORT int aiter_moe_args_size(void) { return sizeof(aiter_moe::StageArgs); }
