// SPDX-License-Identifier: MIT
// What the HIP calls keep between them: memory, modules, streams, events, options and the results
// of the last launch. One lock guards it all; a launch holds it to its end. Handles are numbers
// never used twice, so that a stale one is an error and not a crash.
#pragma once

#include "emulator/hip/errors.h"
#include "emulator/hip/module.h"

namespace aiter_moe::emulator {

struct Block {
  u64 address;
  u64 bytes;
  bool allocated;  // by hipMalloc; else registered by the caller
};

struct Event {
  u64 handle;
  unsigned flags;
  bool recorded;
  double seconds;
};

struct Runtime {
  Mutex guard;
  Allocations memory;
  Array<Block> blocks;
  Array<Module*> modules;
  Array<u64> streams;
  Array<Event> events;
  u64 last_handle;
  hipError_t pending;  // of the last launch that faulted, until a call has told it
  Options options;
  bool options_set;
  Launcher launcher;
  LaunchResults results;
};

static Runtime runtime;
static __thread int current_device;
static __thread hipError_t last_error;

class Locked {
 public:
  Locked() { runtime.guard.lock(); }
  ~Locked() { runtime.guard.unlock(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
};

// Every call returns through this: what hipGetLastError tells later.
inline hipError_t told(hipError_t error) {
  if (error != hipSuccess) last_error = error;
  return error;
}

inline Options& options() {
  constexpr u32 every_check = bit(FaultKind::count) - 1;
  constexpr u64 instruction_limit = 1ull << 28;
  if (!runtime.options_set) runtime.options = {0, every_check, 0, instruction_limit};
  runtime.options_set = true;
  return runtime.options;
}

// Handles look like pointers that are never valid: odd, and small.
inline u64 new_handle() { return runtime.last_handle += 16, runtime.last_handle + 5; }

template <typename T>
T as_handle(u64 number) {
  return reinterpret_cast<T>(number);
}

inline Module* find_module(hipModule_t handle) {
  for (Module* module : runtime.modules) {
    if (module->handle == reinterpret_cast<u64>(handle)) return module;
  }
  return nullptr;
}

struct Found {
  Module* module;
  Function* function;
};

inline Found find_function(hipFunction_t handle) {
  for (Module* module : runtime.modules) {
    for (Function* function : module->functions) {
      if (function->handle == reinterpret_cast<u64>(handle)) return {module, function};
    }
  }
  return {nullptr, nullptr};
}

inline bool is_stream(hipStream_t stream) {
  const u64 handle = reinterpret_cast<u64>(stream);
  if (handle <= hipStreamPerThread) return true;
  for (u64 known : runtime.streams) {
    if (known == handle) return true;
  }
  return false;
}

inline Event* find_event(hipEvent_t handle) {
  for (Event& event : runtime.events) {
    if (event.handle == reinterpret_cast<u64>(handle)) return &event;
  }
  return nullptr;
}

// What a faulting launch left behind; tells it once.
inline hipError_t take_pending() {
  const hipError_t pending = runtime.pending;
  runtime.pending = hipSuccess;
  return pending;
}

}  // namespace aiter_moe::emulator
