// SPDX-License-Identifier: MIT
// The emulator as one translation unit: HIP's calls (hip_api.h) and its own (api.h) behind C
// symbols. Freestanding; what it needs of the C library is declared in host.h. Called through
// aiter_moe/targets/emulator_library.py.

#pragma GCC visibility push(hidden)
#include "common/pool.h"
#include "emulator/api.h"
#include "emulator/hip_api.h"
#include "emulator/listing.h"
#include "emulator/machine/compiler_support.h"
#include "emulator/machine/handler_map.h"
#include "emulator/machine/program.h"

#pragma GCC visibility pop

#include "emulator/hip/calls_device.h"
#include "emulator/hip/calls_memory.h"
#include "emulator/hip/calls_module.h"
#include "emulator/hip/calls_stream.h"

static bool set_option(const char* option, long value) {
  if (same_text(option, "arch")) {
    for (int i = 0; i < device_count; ++i) {
      if (devices[i].arch != static_cast<u64>(value)) continue;
      current_device = i;
      return true;
    }
    return false;
  }
  if (same_text(option, "seed")) {
    options().seed = static_cast<u64>(value);
  } else if (same_text(option, "checks") && value >= 0) {
    options().checks = static_cast<u32>(value);
  } else if (same_text(option, "threads") && value >= 0) {
    options().threads = static_cast<u32>(value);
  } else if (same_text(option, "instruction_limit") && value > 0) {
    options().instruction_limit = static_cast<u64>(value);
  } else {
    return false;
  }
  return true;
}

int aiter_moe_emulator_set(const char* option, long value) {
  const Locked locked;
  return set_option(option, value) ? 0 : -1;
}

int aiter_moe_emulator_read_only(const void* base) {
  const Locked locked;
  return runtime.memory.set_access(reinterpret_cast<u64>(base), Access::read) ? 0 : -1;
}

// Takes no lock: the launch holds it.
void aiter_moe_emulator_stop() { runtime.results.faults.stop(); }

template <typename T>
static long copy_all(const Array<T>& from, T* out, long capacity) {
  const long count = static_cast<long>(from.size());
  for (long i = 0; i < aiter_moe::smaller(count, capacity); ++i) out[i] = from[static_cast<u64>(i)];
  return count;
}

long aiter_moe_emulator_faults(Fault* out, long capacity) {
  const Locked locked;
  return copy_all(runtime.results.faults.faults(), out, capacity);
}

void aiter_moe_emulator_counters(Counters* out) {
  const Locked locked;
  *out = runtime.results.counters;
}

long aiter_moe_emulator_instructions(InstructionHits* out, long capacity) {
  const Locked locked;
  return copy_all(runtime.results.instructions, out, capacity);
}

double aiter_moe_emulator_seconds() {
  const Locked locked;
  return runtime.results.seconds;
}

long aiter_moe_emulator_disassemble(const unsigned char* data, unsigned long bytes,
                                    unsigned int arch, char* out, long capacity) {
  return disassemble(data, bytes, arch, out, capacity);
}

long aiter_moe_emulator_struct_size(int which) {
  constexpr long sizes[] = {sizeof(Fault), sizeof(Counters), sizeof(InstructionHits)};
  return which >= 0 && which < 3 ? sizes[which] : -1;
}
