// SPDX-License-Identifier: MIT
// Faults of a launch: each workgroup notes its own distinct ones, and the log joins them so that
// the result does not depend on which thread ran what. Once a workgroup has met a fatal fault,
// those behind it count for nothing: whether they ran at all is chance.
#pragma once

#include "emulator/isa/text.h"
#include "emulator/machine/array.h"
#include "emulator/machine/text.h"
#include "emulator/workgroup.h"

namespace aiter_moe::emulator {

constexpr u32 fatal_faults = bit(FaultKind::unknown_instruction) |
                             bit(FaultKind::bad_instruction) | bit(FaultKind::hang);

inline bool same_fault(const Fault& a, const Fault& b) { return a.kind == b.kind && a.pc == b.pc; }

// What the workgroup under way has done wrong, in order. One thread at a time.
class GroupFaults {
 public:
  // Beyond this a workgroup's further kinds of faults are dropped: it is broken all over.
  static constexpr u64 limit = 256;

  void start() {
    found_.shorten(0);
    fatal_ = false;
  }

  void add(const Wave& wave, FaultKind kind, const Instruction& i, u64 address, u64 bad_lanes,
           const char* detail) {
    fatal_ |= (fatal_faults & bit(kind)) != 0;
    Fault fault{};
    fault.kind = static_cast<u32>(kind);
    fault.pc = i.pc;
    for (Fault& known : found_) {
      if (!same_fault(known, fault)) continue;
      ++known.occurrences;
      return;
    }
    if (found_.size() >= limit) return;
    describe(fault, wave, i, detail);
    fault.address = address;
    fault.lane = bad_lanes == 0 ? 0 : static_cast<u32>(__builtin_ctzll(bad_lanes));
    found_.append(fault);
  }

  bool fatal() const { return fatal_; }
  const Array<Fault>& found() const { return found_; }

 private:
  static void describe(Fault& fault, const Wave& wave, const Instruction& i, const char* detail) {
    const Workgroup& group = *wave.group;
    fault.occurrences = 1;
    for (int axis = 0; axis < 3; ++axis) fault.group[axis] = group.id[axis];
    fault.wave = wave.number;
    copy_text(fault.kernel, group.launch->program->name);
    format_instruction(i, fault.instruction, sizeof fault.instruction);
    copy_text(fault.detail, detail);
  }

  Array<Fault> found_;
  bool fatal_;
};

class FaultLog {
 public:
  void start() {
    faults_.shorten(0);
    first_seen_.shorten(0);
    tallies_.shorten(0);
    __atomic_store_n(&first_fatal_, no_group, __ATOMIC_RELAXED);
    __atomic_store_n(&stopped_, 0, __ATOMIC_RELAXED);
  }

  // Ends the launch under way, from any thread; what it found so far stays.
  void stop() { __atomic_store_n(&stopped_, 1, __ATOMIC_RELAXED); }
  bool stopped() const { return __atomic_load_n(&stopped_, __ATOMIC_RELAXED) != 0; }

  // Whether a workgroup before this one has met a fatal fault.
  bool pointless(u64 group) const {
    return group > __atomic_load_n(&first_fatal_, __ATOMIC_RELAXED);
  }

  void join(u64 group, const GroupFaults& seen) {
    if (seen.found().size() == 0) return;
    guard_.lock();
    if (seen.fatal() && group < first_fatal_) {
      __atomic_store_n(&first_fatal_, group, __ATOMIC_RELAXED);
    }
    for (const Fault& fault : seen.found()) tallies_.append({group, place(group, fault),
                                                            fault.occurrences});
    guard_.unlock();
  }

  // Counts what the workgroups did up to the first fatal fault, in the order of workgroups.
  void finish() {
    for (Fault& fault : faults_) fault.occurrences = 0;
    for (const Tally& tally : tallies_) {
      if (!pointless(tally.group)) faults_[tally.fault].occurrences += tally.occurrences;
    }
    order();
    u64 kept = 0;
    while (kept < faults_.size() && !pointless(first_seen_[kept].group)) ++kept;
    faults_.shorten(kept);
  }

  const Array<Fault>& faults() const { return faults_; }

 private:
  static constexpr u64 no_group = ~0ull;

  struct Tally {
    u64 group;
    u64 fault;  // index
    u64 occurrences;
  };

  struct Place {
    u64 group;
    u64 order;  // within the workgroup
    bool operator<(const Place& other) const {
      return group != other.group ? group < other.group : order < other.order;
    }
  };

  // Index of the fault, which is new or was seen by other workgroups.
  u64 place(u64 group, const Fault& fault) {
    const Place now{group, tallies_.size()};
    for (u64 i = 0; i < faults_.size(); ++i) {
      if (!same_fault(faults_[i], fault)) continue;
      if (group < first_seen_[i].group) {
        faults_[i] = fault;
        first_seen_[i] = now;
      }
      return i;
    }
    faults_.append(fault);
    first_seen_.append(now);
    return faults_.size() - 1;
  }

  void order() {
    for (u64 i = 1; i < faults_.size(); ++i) {
      for (u64 j = i; j > 0 && first_seen_[j] < first_seen_[j - 1]; --j) {
        const Place place = first_seen_[j];
        const Fault fault = faults_[j];
        first_seen_[j] = first_seen_[j - 1];
        faults_[j] = faults_[j - 1];
        first_seen_[j - 1] = place;
        faults_[j - 1] = fault;
      }
    }
  }

  Mutex guard_;
  Array<Fault> faults_;
  Array<Place> first_seen_;  // of each fault
  Array<Tally> tallies_;
  u64 first_fatal_;
  int stopped_;
};

inline void Wave::fault(FaultKind kind, const Instruction& i, u64 address, u64 bad_lanes,
                        const char* detail) {
  const bool fatal = (fatal_faults & bit(kind)) != 0;
  if (!fatal && (group->launch->checks & bit(kind)) == 0) return;
  group->faults->add(*this, kind, i, address, bad_lanes, detail);
  if (fatal) state = State::ended;
}

}  // namespace aiter_moe::emulator
