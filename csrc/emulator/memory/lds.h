// SPDX-License-Identifier: MIT
// The LDS of a workgroup: its bytes and their shadow. One object a thread, reused by all workgroups
// that thread runs. All zero is a valid, empty object.
#pragma once

#include "common/host.h"
#include "emulator/memory/lds_shadow.h"
#include "emulator/memory/requests.h"

namespace aiter_moe::emulator {

struct Lds {
  static constexpr u32 max_waves = 16;

  u8* bytes;
  u32 size;      // what the workgroup may touch
  u32 capacity;
  u32 waves;
  LdsShadow shadow;
  const Requests* requests[max_waves];  // of each wave, once it has started

  // Begins a workgroup; false where memory has run out or there are too many waves.
  bool start(u32 bytes_wanted, u32 wave_count) {
    constexpr u32 slack = 64;  // wide copies may look past the end
    if (wave_count > max_waves || !shadow.start((bytes_wanted + slack) / 4)) return false;
    if (bytes_wanted > capacity || bytes == nullptr) {
      host_free(bytes);
      bytes = static_cast<u8*>(host_malloc(bytes_wanted + slack));
      capacity = bytes == nullptr ? 0 : bytes_wanted;
      if (bytes == nullptr) return false;
    }
    size = bytes_wanted;
    waves = wave_count;
    for (u32 wave = 0; wave < waves; ++wave) requests[wave] = nullptr;
    return true;
  }

  // All waves have reached a barrier: what is in flight now also happens behind it. What that
  // touches was judged when it was issued.
  void barrier() {
    shadow.next_epoch();
    LdsFindings known{};
    for (u32 wave = 0; wave < waves; ++wave) {
      if (requests[wave] == nullptr) continue;
      const Requests& pending = *requests[wave];
      for (u32 n = 0; n < pending.lds.count; ++n)
        shadow.visit(pending.lds[n].access, wave, known);
      for (u32 n = 0; n < pending.flat.count; ++n)
        shadow.visit(pending.flat[n].access, wave, known);
    }
  }

  void free() {
    shadow.free();
    host_free(bytes);
    *this = Lds{};
  }
};

}  // namespace aiter_moe::emulator
