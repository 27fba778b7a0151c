// SPDX-License-Identifier: MIT
// A workgroup of 128 lanes with the same interface on a GPU, where a lane runs it for itself, and
// on the host, where every step is a loop over lanes.. The text of prelude.h comes before it.
#pragma once

#if defined(__AMDGCN__)
#define STEP __attribute__((device, always_inline))
#else
#define STEP
#endif

constexpr u32 group_lanes = 128;
constexpr u32 wave_lanes = 64;

// The lane that a DPP control of row_shr (1..15), row_ror (16..31), row_mirror, row_half_mirror
// or quad_perm reads, or -1 where it has none.
enum class Move { shift, rotate, mirror, half_mirror, quads };

#if defined(__AMDGCN__)

#define KERNEL(name)                                                                     \
  extern "C" __attribute__((global, amdgpu_flat_work_group_size(group_lanes, group_lanes))) \
  void name(const u32* in, u32* out, u8* windows)
#define GROUPS(body)                                                 \
  {                                                                  \
    __attribute__((shared)) static u32 shared[group_lanes];          \
    Group group(in, out, windows, __builtin_amdgcn_workgroup_id_x(), shared); \
    body(group);                                                     \
    group.finish();                                                  \
  }

class Group {
 public:
  __attribute__((device)) Group(const u32* in, u32* out, u8* windows, u32 number,
                                u32* shared)
      : lane_(__builtin_amdgcn_workitem_id_x()), shared_(shared) {
    const u64 id = u64(number) * group_lanes + lane_;
    state_ = read_state(in + id * state_words);
    out_ = out + id * state_words;
    window_ = windows + id * window_bytes;
  }
  __attribute__((device)) void finish() { write_state(out_, state_); }

  template <class F> __attribute__((device, always_inline)) void each(F f) {
    f(state_, lane_, window_);
  }
  template <class V, class I, class U>
  __attribute__((device, always_inline)) void exchange(V value, I index, U use) {
    shared_[lane_] = value(state_);
    barrier();
    use(state_, shared_[index(state_) % group_lanes]);
    barrier();
  }
  template <class V, class I, class U>
  __attribute__((device, always_inline)) void gather_sums(V value, I index, U use) {
    shared_[lane_] = 0;
    barrier();
    __hip_atomic_fetch_add(&shared_[index(state_) % group_lanes], value(state_), __ATOMIC_RELAXED,
                           __HIP_MEMORY_SCOPE_WORKGROUP);
    barrier();
    use(state_, shared_[lane_]);
    barrier();
  }
  template <class V, class I, class U>
  __attribute__((device, always_inline)) void shuffle(V value, I index, U use) {
    const u32 other = index(state_) % wave_lanes;
    use(state_, __builtin_amdgcn_ds_bpermute(other * 4, value(state_)));
  }
  template <Move move, int by, class V, class U>
  __attribute__((device, always_inline)) void neighbour(V value, U use) {
    constexpr int control = move == Move::shift         ? 0x110 + by
                            : move == Move::rotate      ? 0x120 + by
                            : move == Move::mirror      ? 0x140
                            : move == Move::half_mirror ? 0x141
                                                        : by;
    const u32 own = value(state_);
    use(state_, __builtin_amdgcn_update_dpp(own, own, control, 0xf, 0xf, false));
  }
  template <class V, class U> __attribute__((device, always_inline)) void vote(V value, U use) {
    use(state_, __builtin_amdgcn_ballot_w64(value(state_) & 1));
  }
  template <class V, class U> __attribute__((device, always_inline)) void first(V value, U use) {
    use(state_, __builtin_amdgcn_readfirstlane(value(state_)));
  }

 private:
  __attribute__((device, always_inline)) void barrier() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  }
  State state_;
  u32 lane_;
  u32* out_;
  u8* window_;
  u32* shared_;
};

#else

#define KERNEL(name) \
  extern "C" void name(const u32* in, u32* out, u8* windows, u32 groups)
#define GROUPS(body)                                \
  {                                                 \
    for (u32 number = 0; number < groups; ++number) { \
      Group group(in, out, windows, number);        \
      body(group);                                  \
      group.finish();                               \
    }                                               \
  }

class Group {
 public:
  Group(const u32* in, u32* out, u8* windows, u32 number)
      : out_(out + u64(number) * group_lanes * state_words),
        windows_(windows + u64(number) * group_lanes * window_bytes) {
    for (u32 lane = 0; lane < group_lanes; ++lane)
      state_[lane] = read_state(in + (u64(number) * group_lanes + lane) * state_words);
  }
  void finish() {
    for (u32 lane = 0; lane < group_lanes; ++lane) write_state(out_ + lane * state_words, state_[lane]);
  }
  template <class F> void each(F f) {
    for (u32 lane = 0; lane < group_lanes; ++lane)
      f(state_[lane], lane, windows_ + lane * window_bytes);
  }
  template <class V, class I, class U> void exchange(V value, I index, U use) {
    u32 shared[group_lanes];
    for (u32 lane = 0; lane < group_lanes; ++lane) shared[lane] = value(state_[lane]);
    for (State& s : state_) use(s, shared[index(s) % group_lanes]);
  }
  template <class V, class I, class U> void gather_sums(V value, I index, U use) {
    u32 shared[group_lanes] = {};
    for (State& s : state_) shared[index(s) % group_lanes] += value(s);
    for (u32 lane = 0; lane < group_lanes; ++lane) use(state_[lane], shared[lane]);
  }
  template <class V, class I, class U> void shuffle(V value, I index, U use) {
    from_lanes(value, use, [&](u32 lane) {
      return lane / wave_lanes * wave_lanes + index(state_[lane]) % wave_lanes;
    });
  }
  template <Move move, int by, class V, class U> void neighbour(V value, U use) {
    from_lanes(value, use, [](u32 lane) {
      const u32 row = lane / 16 * 16, place = lane % 16;
      if (move == Move::shift) return place < u32(by) ? lane : lane - by;
      if (move == Move::rotate) return row + (place + 16 - by) % 16;
      if (move == Move::mirror) return row + 15 - place;
      if (move == Move::half_mirror) return lane / 8 * 8 + 7 - lane % 8;
      return lane / 4 * 4 + (by >> 2 * (lane % 4) & 3);
    });
  }
  template <class V, class U> void vote(V value, U use) {
    u64 votes[group_lanes / wave_lanes] = {};
    for (u32 lane = 0; lane < group_lanes; ++lane)
      votes[lane / wave_lanes] |= u64(value(state_[lane]) & 1) << lane % wave_lanes;
    for (u32 lane = 0; lane < group_lanes; ++lane) use(state_[lane], votes[lane / wave_lanes]);
  }
  template <class V, class U> void first(V value, U use) {
    from_lanes(value, use, [](u32 lane) { return lane / wave_lanes * wave_lanes; });
  }

 private:
  template <class V, class U, class L> void from_lanes(V value, U use, L source) {
    u32 values[group_lanes], sources[group_lanes];
    for (u32 lane = 0; lane < group_lanes; ++lane) {
      values[lane] = value(state_[lane]);
      sources[lane] = source(lane);
    }
    for (u32 lane = 0; lane < group_lanes; ++lane) use(state_[lane], values[sources[lane]]);
  }
  State state_[group_lanes];
  u32* out_;
  u8* windows_;
};

#endif
