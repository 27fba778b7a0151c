// SPDX-License-Identifier: MIT
// What a C symbol needs to be seen in a library that is compiled with hidden visibility.
#pragma once

#define AITER_MOE_EXPORT extern "C" __attribute__((visibility("default")))
