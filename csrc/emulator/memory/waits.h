// SPDX-License-Identifier: MIT
// Issuing requests and letting them land, s_waitcnt, and the reports about registers that are in
// flight or were never written.
//
// What a wait guarantees, and no more: vector memory lands in order; so do LDS instructions among
// themselves; scalar loads come in any order, so only lgkmcnt(0) lands them; flat loads come in any
// order with everything else, so both counters must reach zero. With `other` requests of unknown
// order under way, a wait for n still leaves at most n of the ordered ones, which is all it proves.
#pragma once

#include "emulator/memory/fault_text.h"
#include "emulator/workgroup.h"

namespace aiter_moe::emulator {

// Lanes of register `code` that `to` is to write.
inline u64 lanes_of(const Destination& to, u16 code) {
  return code >= to.first && code < to.first + to.rows ? to.lanes : 0;
}

template <class Request, u32 size>
inline u64 lanes_in_flight(const Queue<Request, size>& queue, u16 code) {
  u64 found = 0;
  for (u32 n = 0; n < queue.count; ++n) found |= lanes_of(queue[n].to, code);
  return found;
}

// Lanes of a vector register that some load is still to write; scalar registers count as lane 0.
inline u64 lanes_in_flight(const Requests& requests, u16 code) {
  if (code < operand::scalars) return requests.scalar_in_flight[code >> 6] >> (code & 63) & 1;
  if (requests.targets[code - operand::v0] == 0) return 0;
  return lanes_in_flight(requests.vector, code) | lanes_in_flight(requests.lds, code) |
         lanes_in_flight(requests.flat, code);
}

inline void register_report(Wave& w, const Instruction& i, FaultKind kind, u16 code, u64 bad_lanes,
                            const char* what) {
  FaultText detail;
  detail.reg(code);
  if (code >= operand::v0) detail.add(" lanes ").hex(bad_lanes);
  w.fault(kind, i, 0, bad_lanes, detail.add(what).text());
}

inline void Wave::register_fault(const Instruction& i, u16 code, u64 bad_lanes) {
  const u64 which = code < operand::scalars ? 1 : bad_lanes;
  const u64 late = lanes_in_flight(requests, code) & which;
  if (late != 0)
    register_report(*this, i, FaultKind::in_flight_register, code, late,
                    " read before the wait for its load");
  else
    register_report(*this, i, FaultKind::undefined_register, code, which, " read, never written");
}

inline void Wave::check_overwrite(const Instruction& i, u16 code, u64 which) {
  if (requests.loads_in_flight == 0) return;
  const u64 late = lanes_in_flight(requests, code) & (code < operand::scalars ? 1 : which);
  if (late != 0)
    register_report(*this, i, FaultKind::in_flight_register, code, late,
                    " written while a load to it is in flight");
}

// The rows of `to` become readable, except lanes that a younger request of the queue also writes.
template <class Request, u32 size>
inline void land_registers(Wave& w, const Destination& to, const Queue<Request, size>& queue) {
  Requests& requests = w.requests;
  if (to.rows == 0) return;
  --requests.loads_in_flight;
  const u32 row = to.first - operand::v0;
  for (u32 n = 0; n < to.rows; ++n) --requests.targets[row + n];
  if (__builtin_expect(requests.again == 0, 1)) {
    for (u32 n = 0; n < to.rows; ++n) w.vector_ready[row + n] |= to.lanes;
    return;
  }
  if (to.again) --requests.again;
  for (u32 n = 0; n < to.rows; ++n)
    w.vector_ready[row + n] |=
        to.lanes & ~lanes_in_flight(queue, static_cast<u16>(to.first + n));
}

inline void land_dma(Wave& w, const VectorRequest& request) {
  LdsShadow& shadow = w.group->lds.shadow;
  const u32 dword = request.lds_address / 4, each = request.lds_bytes / 4;
  if (request.lds_lanes == all_lanes) return shadow.dma_landed(dword, lanes * each, w.number);
  for (u64 left = request.lds_lanes; left != 0; left &= left - 1)
    shadow.dma_landed(dword + __builtin_ctzll(left) * each, each, w.number);
}

inline void land_vector(Wave& w, u32 keep) {
  auto& queue = w.requests.vector;
  while (queue.count > keep) {
    const VectorRequest& oldest = queue[0];
    queue.pop();  // the slot stays as it is until the next push
    w.requests.bytes_in_flight -= oldest.bytes;
    land_registers(w, oldest.to, queue);
    if (oldest.lds_bytes != 0) land_dma(w, oldest);
  }
}

inline void land_lds(Wave& w, u32 keep) {
  auto& queue = w.requests.lds;
  while (queue.count > keep) {
    const LdsRequest& oldest = queue[0];
    queue.pop();
    land_registers(w, oldest.to, queue);
  }
}

inline void land_scalar(Wave& w) {
  Requests& requests = w.requests;
  for (int half = 0; half < 2; ++half) {
    w.scalar_ready[half] |= requests.scalar_in_flight[half];
    requests.scalar_in_flight[half] = 0;
  }
  requests.loads_in_flight -= requests.scalar_loads;
  requests.scalar_loads = requests.scalar_count = 0;
}

// Flat requests land from the oldest on, once both their counters were zero.
inline void land_flat(Wave& w, bool vector_done, bool other_done) {
  auto& queue = w.requests.flat;
  for (u32 n = 0; n < queue.count; ++n) {
    queue[n].waits_for_vector &= !vector_done;
    queue[n].waits_for_other &= !other_done;
  }
  while (queue.count != 0 && !queue[0].waits_for_vector && !queue[0].waits_for_other) {
    const FlatRequest& oldest = queue[0];
    queue.pop();
    w.requests.bytes_in_flight -= oldest.bytes;
    land_registers(w, oldest.to, queue);
  }
}

inline void wait(Wave& w, u32 vmcnt, u32 lgkmcnt) {
  land_vector(w, vmcnt);
  land_lds(w, lgkmcnt);
  if (lgkmcnt == 0 && w.requests.scalar_count != 0) land_scalar(w);
  if (w.requests.flat.count != 0) land_flat(w, vmcnt == 0, lgkmcnt == 0);
}

inline void start_requests(Wave& w) {
  w.requests = Requests{};
  w.group->lds.requests[w.number] = &w.requests;
}

inline void finish_requests(Wave& w) { wait(w, 0, 0); }

inline void count_peaks(Wave& w) {
  const Requests& requests = w.requests;
  const u32 flat = requests.flat.count;
  Counters& counters = w.counters;
  const u32 others = requests.lds.count + requests.scalar_count + flat;
  counters.peak_vector_requests =
      larger<u64>(counters.peak_vector_requests, requests.vector.count + flat);
  counters.peak_vector_bytes = larger<u64>(counters.peak_vector_bytes, requests.bytes_in_flight);
  counters.peak_other_requests =
      larger<u64>(counters.peak_other_requests, smaller(others, Requests::other_limit));
}

// The registers of a load about to be issued to `queue` become unreadable. A register may be the
// target of several loads at once where they land in order, that is in one queue, if not flat.
template <bool in_order = true, class Request, u32 size>
inline Destination issue_load(Wave& w, const Instruction& i, const Queue<Request, size>& queue,
                              u16 first, u32 rows, u64 which) {
  Destination to{which, first, static_cast<u8>(rows), false};
  u64 missing = 0;
  for (u32 n = 0; n < rows; ++n) {
    u64& ready = w.vector_ready[first - operand::v0 + n];
    missing |= which & ~ready;
    ready &= ~which;
  }
  if (__builtin_expect(missing != 0 && w.requests.loads_in_flight != 0, 0)) {
    for (u32 n = 0; n < rows; ++n) {
      const u16 code = static_cast<u16>(first + n);
      if (w.requests.targets[code - operand::v0] == 0) continue;
      const u64 ordered = in_order ? lanes_in_flight(queue, code) & which : 0;
      if (ordered != 0) to.again = true;
      if ((lanes_in_flight(w.requests, code) & which & ~ordered) != 0)
        w.check_overwrite(i, code, which & ~ordered);
    }
    w.requests.again += to.again;
  }
  for (u32 n = 0; n < rows; ++n) ++w.requests.targets[first - operand::v0 + n];
  ++w.requests.loads_in_flight;
  return to;
}

// Adds a vector memory request: a load of `rows` registers from `first` on, or (no rows) a store.
inline VectorRequest& issue_vector(Wave& w, const Instruction& i, u16 first, u32 rows, u64 which,
                                   u32 bytes) {
  Requests& requests = w.requests;
  land_vector(w, Requests::vector_limit - 1);
  Destination to{};
  if (rows != 0) to = issue_load(w, i, requests.vector, first, rows, which);
  VectorRequest& request = requests.vector.push();
  request = {to, bytes, 0, 0, 0};
  requests.bytes_in_flight += bytes;
  count_peaks(w);
  return request;
}

// The same for a flat request; the caller fills in its access to the LDS.
inline FlatRequest& issue_flat(Wave& w, const Instruction& i, u16 first, u32 rows, u64 which,
                               u32 bytes) {
  Requests& requests = w.requests;
  if (requests.flat.count == Requests::other_limit) {
    requests.flat[0].waits_for_vector = requests.flat[0].waits_for_other = false;
    land_flat(w, false, false);
  }
  Destination to{};
  if (rows != 0) to = issue_load<false>(w, i, requests.flat, first, rows, which);
  FlatRequest& request = requests.flat.push();
  request.to = to;
  request.bytes = bytes;
  request.waits_for_vector = request.waits_for_other = true;
  requests.bytes_in_flight += bytes;
  count_peaks(w);
  return request;
}

// Adds the LDS request whose access the caller has put into the slot behind the last one.
inline void issue_lds(Wave& w, const Instruction& i, u16 first, u32 rows, u64 which) {
  Requests& requests = w.requests;
  Destination to{};
  if (rows != 0) to = issue_load(w, i, requests.lds, first, rows, which);
  requests.lds.push().to = to;
  count_peaks(w);
}

// Scalar registers [first, first + rows) are in flight; no rows: a request without result.
inline void issue_scalar(Wave& w, const Instruction& i, u16 first, u32 rows) {
  Requests& requests = w.requests;
  for (u32 n = first; n < first + rows; ++n) {
    u64& ready = w.scalar_ready[n >> 6];
    const u64 bit = 1ull << (n & 63);
    if (!(ready & bit)) w.check_overwrite(i, static_cast<u16>(n), 0);
    ready &= ~bit;
    requests.scalar_in_flight[n >> 6] |= bit;
  }
  ++requests.scalar_count;
  requests.scalar_loads += rows != 0;
  requests.loads_in_flight += rows != 0;
  count_peaks(w);
}

// Fields of the immediate on gfx9: vmcnt in bits 3..0 and 15..14, expcnt 6..4 (nothing here uses
// it), lgkmcnt 11..8.
inline void s_waitcnt(Wave& w, const Instruction& i) {
  const u32 fields = static_cast<u32>(i.immediate);
  wait(w, (fields & 15) | (fields >> 14 & 3) << 4, fields >> 8 & 15);
}

}  // namespace aiter_moe::emulator
