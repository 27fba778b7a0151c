// SPDX-License-Identifier: MIT
// What a wave has in flight: vector memory requests, counted by vmcnt, and LDS and scalar ones,
// counted by lgkmcnt, each in issue order. Data only: issuing and landing are in waits.h.
//
// Loads write their registers when they are issued, and clear the ready bits until they land. So a
// register a load is still to write always has its ready bits clear.
#pragma once

#include "emulator/isa/instruction.h"
#include "emulator/memory/lds_access.h"

namespace aiter_moe::emulator {

// The oldest request first. `size` is a power of two.
template <class Request, u32 size>
struct Queue {
  Request slots[size];
  u32 head;
  u32 count;

  Request& operator[](u32 n) { return slots[(head + n) % size]; }
  const Request& operator[](u32 n) const { return slots[(head + n) % size]; }
  Request& push() { return slots[(head + count++) % size]; }
  void pop() {
    head = (head + 1) % size;
    --count;
  }
};

// Vector registers that become readable when a request lands; no rows: a store.
struct Destination {
  u64 lanes;
  u16 first;   // operand code
  u8 rows;
  bool again;  // an older request is to write some of them too
};

struct VectorRequest {
  Destination to;
  u32 bytes;       // of a load, all lanes together
  u32 lds_address; // of a load to the LDS: where lane 0 goes
  u32 lds_bytes;   // a lane; 0: not to the LDS
  u64 lds_lanes;
};

struct LdsRequest {
  Destination to;
  LdsAccess access;
};

// A flat load may be served by either memory, out of order with both: it has landed when both
// counters were waited down to zero.
struct FlatRequest {
  Destination to;
  LdsAccess access;  // of the lanes that went to the LDS
  u32 bytes;
  bool waits_for_vector;
  bool waits_for_other;
};

struct Requests {
  static constexpr u32 vector_limit = 63;  // of the counters; at it, hardware issues no more
  static constexpr u32 other_limit = 15;

  u32 loads_in_flight;  // requests that are to write registers; 0 makes overwrite checks free
  u32 bytes_in_flight;  // of vector memory loads
  Queue<VectorRequest, 64> vector;
  Queue<LdsRequest, 16> lds;
  Queue<FlatRequest, 16> flat;
  u32 again;                  // requests with Destination::again
  u32 scalar_count;           // scalar requests: they land in any order, so all at once
  u32 scalar_loads;           // part of them that write registers
  u64 scalar_in_flight[2];    // bit a row of the scalar file
  u64 clock;                  // what s_memtime reads next
  u8 targets[512];            // requests that are to write each vector register
  u16 range_hint[16];         // allocation that recent instructions found, by their index
};

}  // namespace aiter_moe::emulator
