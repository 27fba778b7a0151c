// SPDX-License-Identifier: MIT
// What the runtime takes from the process it is loaded into: threads, locks and memory of the C
// library on 64-bit Linux, declared by hand so that no libc header is needed to build.
// Condition variables are left out on purpose: without a libc to link against, their symbols bind
// to the oldest version; futexes have one.
#pragma once

#include <stdint.h>

#define AITER_MOE_TEXT_OF(token) #token
#define AITER_MOE_TEXT(token) AITER_MOE_TEXT_OF(token)
// Own names with the library's symbols: no clash with a system header that declares them too.
#define AITER_MOE_LIBC(symbol) __asm__(AITER_MOE_TEXT(__USER_LABEL_PREFIX__) symbol)

// The unit is compiled with hidden visibility; these are defined elsewhere.
#pragma GCC visibility push(default)
extern "C" {
void* host_malloc(unsigned long bytes) AITER_MOE_LIBC("malloc");
void host_free(void* memory) AITER_MOE_LIBC("free");
void* host_memset(void* memory, int byte, unsigned long bytes) AITER_MOE_LIBC("memset");
void* host_memcpy(void* to, const void* from, unsigned long bytes) AITER_MOE_LIBC("memcpy");
void* host_memmove(void* to, const void* from, unsigned long bytes) AITER_MOE_LIBC("memmove");
int host_memcmp(const void* a, const void* b, unsigned long bytes) AITER_MOE_LIBC("memcmp");
int host_posix_memalign(void** memory, unsigned long alignment, unsigned long bytes)
    AITER_MOE_LIBC("posix_memalign");
int host_clock_gettime(int clock, long* seconds_and_nanoseconds) AITER_MOE_LIBC("clock_gettime");
int host_sched_getaffinity(int process, unsigned long bytes, void* mask)
    AITER_MOE_LIBC("sched_getaffinity");
int host_getpid() AITER_MOE_LIBC("getpid");
int host_yield() AITER_MOE_LIBC("sched_yield");
// pthread_t is one machine word in glibc and musl.
int host_thread_create(uintptr_t* thread, const void* attributes, void* (*entry)(void*),
                       void* argument) AITER_MOE_LIBC("pthread_create");
int host_thread_detach(uintptr_t thread) AITER_MOE_LIBC("pthread_detach");
int host_mutex_init(void* mutex, const void* attributes) AITER_MOE_LIBC("pthread_mutex_init");
int host_mutex_lock(void* mutex) AITER_MOE_LIBC("pthread_mutex_lock");
int host_mutex_unlock(void* mutex) AITER_MOE_LIBC("pthread_mutex_unlock");
long host_syscall(long number, ...) AITER_MOE_LIBC("syscall");
}
#pragma GCC visibility pop

namespace aiter_moe {

class Mutex {
 public:
  void init() { host_mutex_init(storage_, nullptr); }
  void lock() { host_mutex_lock(storage_); }
  void unlock() { host_mutex_unlock(storage_); }

 private:
  // pthread_mutex_t takes at most 48 bytes on 64-bit Linux.
  alignas(64) unsigned char storage_[64];
};

#if defined(__x86_64__)
constexpr long kFutex = 202;
#else
constexpr long kFutex = 98;  // the number all architectures with the generic table share
#endif

// Sleep while *word == seen; may return early.
inline void futex_wait(const uint32_t* word, uint32_t seen) {
  constexpr int kWaitPrivate = 128;
  host_syscall(kFutex, word, kWaitPrivate, seen, nullptr, nullptr, 0);
}

inline void futex_wake_all(const uint32_t* word) {
  constexpr int kWakePrivate = 129;
  host_syscall(kFutex, word, kWakePrivate, 0x7FFFFFFF, nullptr, nullptr, 0);
}

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// IEEE default arithmetic while kernels run: a caller that flushes denormals (and worker threads,
// which inherit that from the thread that starts them) must not change results.
class DefaultFloats {
 public:
#if defined(__x86_64__)
  DefaultFloats() : saved_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(0x1F80); }
  ~DefaultFloats() { __builtin_ia32_ldmxcsr(saved_); }

 private:
  unsigned int saved_;
#elif defined(__aarch64__)
  DefaultFloats() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(static_cast<uint64_t>(0)));
  }
  ~DefaultFloats() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#else
  DefaultFloats() {}
#endif
};

template <typename T>
inline T smaller(T a, T b) {
  return a < b ? a : b;
}

template <typename T>
inline T larger(T a, T b) {
  return a > b ? a : b;
}

}  // namespace aiter_moe
