// SPDX-License-Identifier: MIT
// The part of libamdhip64's C interface that a launcher needs, under HIP's own names: a program
// written for it runs on the emulator by loading this library in its place. Differences: memory
// is the host's (hipHostRegister makes any of it reachable, at its own address), everything has
// happened when a call returns, and device 0 is a gfx950, device 1 a gfx942.
//
// A kernel that faults makes the next call that synchronises or asks for the last error return
// hipErrorIllegalAddress or hipErrorLaunchFailure, once; what it did wrong is told by api.h.
#pragma once

#include "common/export.h"
#include "emulator/hip/types.h"

AITER_MOE_EXPORT hipError_t hipInit(unsigned flags);
AITER_MOE_EXPORT hipError_t hipDriverGetVersion(int* version);
AITER_MOE_EXPORT hipError_t hipRuntimeGetVersion(int* version);
AITER_MOE_EXPORT const char* hipGetErrorName(hipError_t error);
AITER_MOE_EXPORT const char* hipGetErrorString(hipError_t error);
AITER_MOE_EXPORT hipError_t hipGetLastError();
AITER_MOE_EXPORT hipError_t hipPeekAtLastError();

AITER_MOE_EXPORT hipError_t hipGetDeviceCount(int* count);
AITER_MOE_EXPORT hipError_t hipGetDevice(int* device);
AITER_MOE_EXPORT hipError_t hipSetDevice(int device);
AITER_MOE_EXPORT hipError_t hipDeviceGet(hipDevice_t* device, int ordinal);
AITER_MOE_EXPORT hipError_t hipDeviceGetName(char* name, int capacity, hipDevice_t device);
AITER_MOE_EXPORT hipError_t hipDeviceGetAttribute(int* value, hipDeviceAttribute_t attribute,
                                                  int device);
AITER_MOE_EXPORT hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_tR0600* properties,
                                                        int device);
AITER_MOE_EXPORT hipError_t hipDeviceSynchronize();

AITER_MOE_EXPORT hipError_t hipMalloc(void** pointer, size_t bytes);
AITER_MOE_EXPORT hipError_t hipFree(void* pointer);
AITER_MOE_EXPORT hipError_t hipHostRegister(void* pointer, size_t bytes, unsigned flags);
AITER_MOE_EXPORT hipError_t hipHostUnregister(void* pointer);
AITER_MOE_EXPORT hipError_t hipHostGetDevicePointer(void** device, void* host, unsigned flags);
AITER_MOE_EXPORT hipError_t hipMemcpy(void* to, const void* from, size_t bytes,
                                      hipMemcpyKind kind);
AITER_MOE_EXPORT hipError_t hipMemcpyAsync(void* to, const void* from, size_t bytes,
                                           hipMemcpyKind kind, hipStream_t stream);
AITER_MOE_EXPORT hipError_t hipMemcpyHtoD(hipDeviceptr_t to, const void* from, size_t bytes);
AITER_MOE_EXPORT hipError_t hipMemcpyDtoH(void* to, hipDeviceptr_t from, size_t bytes);
AITER_MOE_EXPORT hipError_t hipMemset(void* to, int byte, size_t bytes);
AITER_MOE_EXPORT hipError_t hipMemsetAsync(void* to, int byte, size_t bytes, hipStream_t stream);

AITER_MOE_EXPORT hipError_t hipModuleLoadData(hipModule_t* module, const void* image);
AITER_MOE_EXPORT hipError_t hipModuleUnload(hipModule_t module);
AITER_MOE_EXPORT hipError_t hipModuleGetFunction(hipFunction_t* function, hipModule_t module,
                                                 const char* name);
AITER_MOE_EXPORT hipError_t hipModuleGetGlobal(hipDeviceptr_t* pointer, size_t* bytes,
                                               hipModule_t module, const char* name);
AITER_MOE_EXPORT hipError_t hipFuncGetAttribute(int* value, hipFunction_attribute attribute,
                                                hipFunction_t function);
AITER_MOE_EXPORT hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned grid_x,
                                                  unsigned grid_y, unsigned grid_z,
                                                  unsigned block_x, unsigned block_y,
                                                  unsigned block_z, unsigned dynamic_lds,
                                                  hipStream_t stream, void** parameters,
                                                  void** extra);

AITER_MOE_EXPORT hipError_t hipStreamCreate(hipStream_t* stream);
AITER_MOE_EXPORT hipError_t hipStreamCreateWithFlags(hipStream_t* stream, unsigned flags);
AITER_MOE_EXPORT hipError_t hipStreamDestroy(hipStream_t stream);
AITER_MOE_EXPORT hipError_t hipStreamSynchronize(hipStream_t stream);
AITER_MOE_EXPORT hipError_t hipStreamQuery(hipStream_t stream);
AITER_MOE_EXPORT hipError_t hipEventCreate(hipEvent_t* event);
AITER_MOE_EXPORT hipError_t hipEventCreateWithFlags(hipEvent_t* event, unsigned flags);
AITER_MOE_EXPORT hipError_t hipEventDestroy(hipEvent_t event);
AITER_MOE_EXPORT hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream);
AITER_MOE_EXPORT hipError_t hipEventSynchronize(hipEvent_t event);
AITER_MOE_EXPORT hipError_t hipEventQuery(hipEvent_t event);
AITER_MOE_EXPORT hipError_t hipEventElapsedTime(float* milliseconds, hipEvent_t start,
                                                hipEvent_t stop);
