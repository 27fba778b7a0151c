// SPDX-License-Identifier: MIT
// HIP calls about the library, errors and devices. Part of emulator.cpp.
#pragma once

#include "emulator/hip/runtime.h"
#include "emulator/hip_api.h"

using namespace aiter_moe;
using namespace aiter_moe::emulator;

hipError_t hipInit(unsigned flags) {
  return told(flags == 0 ? hipSuccess : hipErrorInvalidValue);
}

// HIP 6.4, whose names and structs these are.
static hipError_t tell_version(int* version) {
  if (version == nullptr) return told(hipErrorInvalidValue);
  *version = 60400000;
  return hipSuccess;
}

hipError_t hipDriverGetVersion(int* version) { return tell_version(version); }
hipError_t hipRuntimeGetVersion(int* version) { return tell_version(version); }

const char* hipGetErrorName(hipError_t error) { return text_of(error).name; }
const char* hipGetErrorString(hipError_t error) { return text_of(error).sentence; }

hipError_t hipPeekAtLastError() {
  const Locked locked;
  return runtime.pending != hipSuccess ? runtime.pending : last_error;
}

hipError_t hipGetLastError() {
  const Locked locked;
  const hipError_t pending = take_pending();
  const hipError_t error = pending != hipSuccess ? pending : last_error;
  last_error = hipSuccess;
  return error;
}

hipError_t hipGetDeviceCount(int* count) {
  if (count == nullptr) return told(hipErrorInvalidValue);
  *count = device_count;
  return hipSuccess;
}

static bool is_device(int device) { return device >= 0 && device < device_count; }

hipError_t hipGetDevice(int* device) {
  if (device == nullptr) return told(hipErrorInvalidValue);
  *device = current_device;
  return hipSuccess;
}

hipError_t hipSetDevice(int device) {
  if (!is_device(device)) return told(hipErrorInvalidDevice);
  current_device = device;
  return hipSuccess;
}

hipError_t hipDeviceGet(hipDevice_t* device, int ordinal) {
  if (device == nullptr) return told(hipErrorInvalidValue);
  if (!is_device(ordinal)) return told(hipErrorInvalidDevice);
  *device = ordinal;
  return hipSuccess;
}

hipError_t hipDeviceGetName(char* name, int capacity, hipDevice_t device) {
  if (name == nullptr || capacity <= 0) return told(hipErrorInvalidValue);
  if (!is_device(device)) return told(hipErrorInvalidDevice);
  const char* text = devices[device].name;
  int length = 0;
  for (; text[length] != 0 && length < capacity - 1; ++length) name[length] = text[length];
  name[length] = 0;
  return hipSuccess;
}

hipError_t hipDeviceGetAttribute(int* value, hipDeviceAttribute_t attribute, int device) {
  if (value == nullptr) return told(hipErrorInvalidValue);
  if (!is_device(device)) return told(hipErrorInvalidDevice);
  return told(attribute_of(devices[device], attribute, *value) ? hipSuccess
                                                               : hipErrorInvalidValue);
}

hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_tR0600* properties, int device) {
  if (properties == nullptr) return told(hipErrorInvalidValue);
  if (!is_device(device)) return told(hipErrorInvalidDevice);
  describe(*properties, devices[device]);
  return hipSuccess;
}

hipError_t hipDeviceSynchronize() {
  const Locked locked;
  return told(take_pending());
}
