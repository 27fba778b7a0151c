// SPDX-License-Identifier: MIT
// Who touched which byte of the LDS: finds reads of bytes never written, accesses to bytes a DMA
// load is still to write, and races.
//
// Barriers divide a workgroup's life into epochs. An access lasts from the epoch it is issued in to
// the epoch its wave waits for it in; what is in flight at a barrier is recorded again behind it.
// Two accesses of different waves to one byte, at least one of them a write, race when they share
// an epoch, also where both write the same value: order between waves comes from barriers alone,
// as seen here (a lock or flag kept in the LDS is not understood). Atomics do not race with each
// other. Accesses of one wave are in order, except against its own DMA loads.
//
// One tag a dword for writes and one for reads; a new epoch or workgroup makes tags stale without
// touching them. Only where waves share a dword within an epoch do bytes get entries of their own.
#pragma once

#include "common/host.h"
#include "emulator/memory/lds_access.h"

namespace aiter_moe::emulator {

namespace tag {
// Bytes, low to high: 3..0 which hold data (write tags), 7..4 written (read tags: 3..0 read) in the
// tag's epoch, 12..8 by which wave.
constexpr u32 all_bytes = 15, written_shift = 4, wave_shift = 8, several = 16;
constexpr u32 wave_mask = 31u << wave_shift;
constexpr u32 atomic = 1u << 13, mixed = 1u << 14;  // mixed: see the byte entries
constexpr u32 epoch_shift = 15, last_epoch = 0xffff;
constexpr u32 in_flight = 1u << 31;  // a DMA load is to write this dword
}  // namespace tag

// What was found wrong with an access, by lane.
struct LdsFindings {
  u64 undefined;
  u64 in_flight;
  u64 race;
  u32 other;  // the wave on the other side of a race (tag::several: not just one)
};

struct QuickTags;

class LdsShadow {
 public:
  // `dwords` bounds all later use. Starts a workgroup: nothing is written.
  bool start(u32 dwords) {
    if (dwords > capacity_ && !grow(dwords)) return false;
    if (epoch_ >= tag::last_epoch - 1) forget();
    first_ = ++epoch_;
    return true;
  }

  void next_epoch() {
    if (epoch_ == tag::last_epoch) compact();
    ++epoch_;
  }

  void free() {
    host_free(write_tags_);
    *this = LdsShadow{};
  }

  // Checks and records an access that lies inside the LDS. `findings` gains what is wrong.
  void visit(const LdsAccess& access, u32 wave, LdsFindings& findings) {
    if (access.lanes == 0) return;
    visit_piece(access, 0, wave, findings);
    if (access.second != 0) visit_piece(access, access.second, wave, findings);
  }

  // A DMA load of `wave` to `count` dwords is issued, and later lands.
  void dma_issued(u32 dword, u32 count, u32 wave, u64 lane_bit, LdsFindings& findings);
  // The same for a run of a multiple of 16 dwords; false, and nothing done, where any is in use.
  bool dma_issued_to_idle(u32 dword, u32 count, u32 wave);
  void dma_landed(u32 dword, u32 count, u32 wave);

 private:
  static constexpr u8 nobody = 0xff, by_atomic = 0x20, wave_bits = 0x1f;

  // A dword's tags taken apart; `writer` and `reader` are of the current epoch.
  struct Cell {
    u8 writer[4];
    u8 reader[4];
    u32 defined;
    bool in_flight;
    u8 dma_wave;
  };

  u32 base() const { return epoch_ << tag::epoch_shift; }
  u32 write_tag(u32 wave) const { return base() | wave << tag::wave_shift; }

  bool grow(u32 dwords) {
    free();
    // Tags of 4 bytes and entries of 1 byte a byte, for writes and for reads.
    const unsigned long bytes = 16ul * dwords;
    u8* memory = static_cast<u8*>(host_malloc(bytes));
    if (memory == nullptr) return false;
    host_memset(memory, 0, bytes);
    write_tags_ = reinterpret_cast<u32*>(memory);
    read_tags_ = write_tags_ + dwords;
    writers_ = memory + 8ul * dwords;
    readers_ = writers_ + 4ul * dwords;
    capacity_ = dwords;
    return true;
  }

  void forget() {
    host_memset(write_tags_, 0, 4ul * capacity_);
    host_memset(read_tags_, 0, 4ul * capacity_);
    epoch_ = 0;
  }

  // Starts counting epochs anew in the middle of a workgroup: what is written stays written.
  void compact() {
    const u32 first = first_ << tag::epoch_shift;
    for (u32 n = 0; n < capacity_; ++n) {
      const u32 old = write_tags_[n];
      const u32 kept = old & (tag::in_flight | tag::wave_mask | tag::all_bytes);
      write_tags_[n] = (old & ~tag::in_flight) < first ? 0 : 1u << tag::epoch_shift | kept;
      read_tags_[n] = 0;
    }
    first_ = epoch_ = 1;
  }

  QuickTags quick_tags(u32 wave) const;
  bool visit_run(u32 dword, u32 count, QuickTags q, LdsUse use);
  template <int n>
  bool visit_lanes(const LdsAccess& access, u32 displacement, QuickTags q);
  template <LdsUse use>
  bool visit_narrow(const LdsAccess& access, QuickTags q);
  bool visit_quickly(const LdsAccess& access, u32 displacement, u32 wave);
  void visit_piece(const LdsAccess& access, u32 displacement, u32 wave, LdsFindings& findings);
  u32 visit_bytes(u32 address, u32 bytes, u32 wave, LdsUse use, u32& other);
  u32 visit_dword(u32 dword, u32 mask, u32 wave, LdsUse use, u32& other);
  static u32 visit_byte(Cell& cell, int byte, u32 wave, LdsUse use, u32& other);
  static void note(LdsFindings& findings, u32 wrong, u64 lane_bit);
  static u32 summary(const u8 (&who)[4], bool& same, u8& one);
  Cell take_apart(u32 dword) const;
  void put_writers(u32 dword, const Cell& cell);
  void put_readers(u32 dword, const Cell& cell);

  u32* write_tags_;
  u32* read_tags_;
  u8* writers_;  // a byte: wave, with by_atomic where only atomics wrote
  u8* readers_;
  u32 capacity_;
  u32 first_;    // epoch the workgroup began in
  u32 epoch_;
};

}  // namespace aiter_moe::emulator

#include "emulator/memory/lds_shadow_inline.h"
