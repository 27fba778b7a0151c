// SPDX-License-Identifier: MIT
// Atomics of global, flat and buffer instructions and of the LDS, with and without a result.
// Addresses must be aligned to the operand; lanes act one after the other, in their order.
#pragma once

#include "emulator/memory/atomic_operations.h"
#include "emulator/memory/buffers.h"
#include "emulator/memory/ds.h"
#include "emulator/memory/global_memory.h"

namespace aiter_moe::emulator {

// Registers of an atomic: its operand, the second operand (none: 0), the result (none: 0).
struct AtomicRegisters {
  u16 data;
  u16 second;
  u16 result;
};

inline u64 read_operand(const Wave& w, u16 first, u32 bytes, int lane) {
  if (first == 0) return 0;
  const Lanes* rows = &w.vector[first - operand::v0];
  const u64 low = rows[0].lane[lane];
  return bytes == 4 ? low : low | static_cast<u64>(rows[1].lane[lane]) << 32;
}

inline void need_operand(Wave& w, const Instruction& i, u16 first, u32 bytes, u64 which) {
  if (first == 0) return;
  for (u32 n = 0; n < bytes / 4; ++n) w.need(i, static_cast<u16>(first + n), which);
}

inline u64 exchange_any(AtomicKind kind, u64 address, u64 data, u64 second) {
  if (kind.bytes == 4)
    return exchange<u32>(kind.op, address, static_cast<u32>(data), static_cast<u32>(second));
  return exchange<u64>(kind.op, address, data, second);
}

// The lanes of `which` whose address is aligned; reports the others.
inline u64 aligned_lanes(Wave& w, const Instruction& i, const LaneAddresses& at, u64 which,
                         u32 bytes) {
  u64 bad = 0;
  for (u64 left = which; left != 0; left &= left - 1) {
    const int lane = __builtin_ctzll(left);
    bad |= static_cast<u64>((at.at[lane] & (bytes - 1)) != 0) << lane;
  }
  if (bad != 0)
    w.fault(FaultKind::misaligned, i, at.at[__builtin_ctzll(bad)], bad,
            FaultText().add("atomic of ").number(bytes).add(" bytes").text());
  return which & ~bad;
}

// Performs the atomic in the lanes of `which`; lanes of `active` beyond them get `other` as result.
inline void exchange_lanes(Wave& w, AtomicKind kind, const LaneAddresses& at, u64 which,
                           u64 active, u64 other, const AtomicRegisters& registers) {
  for (u64 left = active; left != 0; left &= left - 1) {
    const int lane = __builtin_ctzll(left);
    u64 old = other;
    if (which >> lane & 1)
      old = exchange_any(kind, at.at[lane], read_operand(w, registers.data, kind.bytes, lane),
                         read_operand(w, registers.second, kind.bytes, lane));
    if (registers.result == 0) continue;
    Lanes* rows = &w.vector[registers.result - operand::v0];
    rows[0].lane[lane] = static_cast<u32>(old);
    if (kind.bytes == 8) rows[1].lane[lane] = static_cast<u32>(old >> 32);
  }
}

// Global, flat and buffer forms hold both values of a compare and swap in one register tuple: the
// new value, then what is compared.
inline AtomicRegisters vector_atomic_registers(const Instruction& i, AtomicKind kind) {
  const u16 result = i.returns ? i.dst : 0;
  if (kind.op != AtomicOp::compare_swap) return {i.data[0], 0, result};
  return {static_cast<u16>(i.data[0] + kind.bytes / 4), i.data[0], result};
}

inline void need_operands(Wave& w, const Instruction& i, AtomicKind kind,
                          const AtomicRegisters& registers) {
  need_operand(w, i, registers.data, kind.bytes, w.exec());
  need_operand(w, i, registers.second, kind.bytes, w.exec());
}

constexpr u64 poison_pair = static_cast<u64>(poison) << 32 | poison;

inline void run_vector_atomic(Wave& w, const Instruction& i, AtomicKind kind) {
  const u64 exec = w.exec();
  const AtomicRegisters registers = vector_atomic_registers(i, kind);
  need_operands(w, i, kind, registers);
  Placement place;
  locate(w, i, exec, kind.bytes, Access::read_write, LdsUse::atomic, place);
  const u64 good = aligned_lanes(w, i, place.at, place.good, kind.bytes);
  const u32 bytes = __builtin_popcountll(good) * kind.bytes;
  w.counters.vmem_atomic_bytes += bytes;
  const u32 rows = registers.result == 0 ? 0 : kind.bytes / 4;
  issue_located(w, i, registers.result, rows, exec, rows == 0 ? 0 : bytes, place);
  exchange_lanes(w, kind, place.at, good, exec, poison_pair, registers);
}

// Atomics are range-checked as a whole; out of range they do nothing and return zero.
inline void run_buffer_atomic(Wave& w, const Instruction& i, AtomicKind kind) {
  const u64 exec = w.exec();
  const AtomicRegisters registers = vector_atomic_registers(i, kind);
  need_operands(w, i, kind, registers);
  BufferLanes sorted;
  locate_buffer(w, i, exec, kind.bytes, Access::read_write, sorted);
  const u64 good = aligned_lanes(w, i, sorted.at, sorted.inside, kind.bytes);
  const u32 bytes = __builtin_popcountll(good) * kind.bytes;
  w.counters.vmem_atomic_bytes += bytes;
  const u32 rows = registers.result == 0 ? 0 : kind.bytes / 4;
  issue_vector(w, i, registers.result, rows, exec, rows == 0 ? 0 : bytes);
  exchange_lanes(w, kind, sorted.at, good, exec, 0, registers);
}

// LDS compare and swap has what is compared in its first operand.
inline void run_lds_atomic(Wave& w, const Instruction& i, AtomicKind kind, u16 result) {
  const u64 exec = w.exec();
  const bool two = i.data[1] != operand::none;
  const AtomicRegisters registers{i.data[0], two ? i.data[1] : u16{0}, result};
  need_operands(w, i, kind, registers);
  LdsAccess& access =
      begin_lds(w, i, static_cast<u32>(i.offset), 0, kind.bytes, LdsUse::atomic);
  LaneAddresses at;
  place_lds(w, i, access, address_of_spare(spare_zeros), at);
  const u64 good = aligned_lanes(w, i, at, access.lanes, kind.bytes);
  w.counters.lds_read_bytes += lds_bytes_of(access, 1);
  w.counters.lds_write_bytes += lds_bytes_of(access, 1);
  issue_lds(w, i, result, result == 0 ? 0 : kind.bytes / 4, exec);
  exchange_lanes(w, kind, at, good, exec, poison_pair, registers);
}

template <AtomicOp op, u8 bytes>
inline void vector_atomic(Wave& w, const Instruction& i) {
  run_vector_atomic(w, i, {op, bytes});
}

template <AtomicOp op, u8 bytes>
inline void buffer_atomic(Wave& w, const Instruction& i) {
  run_buffer_atomic(w, i, {op, bytes});
}

template <AtomicOp op, u8 bytes>
inline void ds_atomic(Wave& w, const Instruction& i) {
  run_lds_atomic(w, i, {op, bytes}, 0);
}

template <AtomicOp op, u8 bytes>
inline void ds_atomic_rtn(Wave& w, const Instruction& i) {
  run_lds_atomic(w, i, {op, bytes}, i.dst);
}

// Two exchanges, which are atomic each; operands and offsets as of write2.
template <Width width, u32 spacing>
inline void ds_exchange2(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  for (const u16 data : i.data) need_rows<width>(w, i, data, exec);
  const TwoOffsets offsets = two_offsets(i, width.bytes * spacing);
  LdsAccess& access =
      begin_lds(w, i, offsets.first, offsets.second, width.bytes, LdsUse::atomic);
  LaneAddresses at;
  place_lds(w, i, access, address_of_spare(spare_zeros), at);
  w.counters.lds_read_bytes += lds_bytes_of(access, 2);
  w.counters.lds_write_bytes += lds_bytes_of(access, 2);
  issue_lds(w, i, i.dst, 2 * width.rows(), exec);
  const AtomicKind kind{AtomicOp::swap, width.bytes};
  Lanes old_rows[2 * width.rows()];
  for (u32 piece = 0; piece < 2; ++piece) {
    for (u64 left = access.lanes; left != 0; left &= left - 1) {
      const int lane = __builtin_ctzll(left);
      const u64 old = exchange_any(kind, at.at[lane],
                                   read_operand(w, i.data[piece], width.bytes, lane), 0);
      for (u32 n = 0; n < width.rows(); ++n)
        old_rows[piece * width.rows() + n].lane[lane] = static_cast<u32>(old >> 32 * n);
    }
    move_to_second(access, at);
  }
  for (u32 n = 0; n < 2 * width.rows(); ++n)
    merge(w.vector[i.dst - operand::v0 + n], old_rows[n], access.lanes);
}

}  // namespace aiter_moe::emulator
