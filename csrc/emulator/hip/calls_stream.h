// SPDX-License-Identifier: MIT
// HIP calls about streams and events. Everything has happened when a call returns, so streams
// order nothing, and events hold the host's time. Part of emulator.cpp.
#pragma once

#include "emulator/hip/runtime.h"
#include "emulator/hip_api.h"

using namespace aiter_moe;
using namespace aiter_moe::emulator;

hipError_t hipStreamCreate(hipStream_t* stream) { return hipStreamCreateWithFlags(stream, 0); }

hipError_t hipStreamCreateWithFlags(hipStream_t* stream, unsigned flags) {
  constexpr unsigned non_blocking = 1;
  if (stream == nullptr || flags > non_blocking) return told(hipErrorInvalidValue);
  const Locked locked;
  const u64 handle = new_handle();
  if (!runtime.streams.append(handle)) return told(hipErrorOutOfMemory);
  *stream = as_handle<hipStream_t>(handle);
  return hipSuccess;
}

hipError_t hipStreamDestroy(hipStream_t stream) {
  const Locked locked;
  for (u64 i = 0; i < runtime.streams.size(); ++i) {
    if (runtime.streams[i] != reinterpret_cast<u64>(stream)) continue;
    runtime.streams.remove(i);
    return hipSuccess;
  }
  return told(hipErrorInvalidHandle);
}

hipError_t hipStreamSynchronize(hipStream_t stream) {
  const Locked locked;
  return told(is_stream(stream) ? take_pending() : hipErrorInvalidHandle);
}

hipError_t hipStreamQuery(hipStream_t stream) { return hipStreamSynchronize(stream); }

hipError_t hipEventCreate(hipEvent_t* event) { return hipEventCreateWithFlags(event, 0); }

hipError_t hipEventCreateWithFlags(hipEvent_t* event, unsigned flags) {
  if (event == nullptr) return told(hipErrorInvalidValue);
  const Locked locked;
  const u64 handle = new_handle();
  if (!runtime.events.append({handle, flags, false, 0})) return told(hipErrorOutOfMemory);
  *event = as_handle<hipEvent_t>(handle);
  return hipSuccess;
}

hipError_t hipEventDestroy(hipEvent_t handle) {
  const Locked locked;
  Event* event = find_event(handle);
  if (event == nullptr) return told(hipErrorInvalidHandle);
  runtime.events.remove(static_cast<u64>(event - runtime.events.begin()));
  return hipSuccess;
}

hipError_t hipEventRecord(hipEvent_t handle, hipStream_t stream) {
  const Locked locked;
  Event* event = find_event(handle);
  if (event == nullptr || !is_stream(stream)) return told(hipErrorInvalidHandle);
  event->seconds = seconds_of(Clock::monotonic);
  event->recorded = true;
  return hipSuccess;
}

hipError_t hipEventSynchronize(hipEvent_t handle) {
  const Locked locked;
  return told(find_event(handle) == nullptr ? hipErrorInvalidHandle : take_pending());
}

hipError_t hipEventQuery(hipEvent_t handle) { return hipEventSynchronize(handle); }

hipError_t hipEventElapsedTime(float* milliseconds, hipEvent_t start, hipEvent_t stop) {
  if (milliseconds == nullptr) return told(hipErrorInvalidValue);
  const Locked locked;
  const Event* from = find_event(start);
  const Event* to = find_event(stop);
  if (from == nullptr || to == nullptr) return told(hipErrorInvalidHandle);
  if (!from->recorded || !to->recorded || ((from->flags | to->flags) & hipEventDisableTiming)) {
    return told(hipErrorInvalidHandle);
  }
  *milliseconds = static_cast<float>((to->seconds - from->seconds) * 1e3);
  return hipSuccess;
}
