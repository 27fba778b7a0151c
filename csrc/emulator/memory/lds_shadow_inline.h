// SPDX-License-Identifier: MIT
// The work of lds_shadow.h. Almost every access falls in one of the quick cases: the dwords were
// written in an earlier epoch, or this epoch saw just the wave itself. Whatever else is taken
// apart into bytes.
#pragma once

namespace aiter_moe::emulator {

namespace found {
constexpr u32 undefined = 1, in_flight = 2, race = 4;
}

// `n` tags side by side.
template <int n>
struct Tags {
  typedef u32 Vector __attribute__((vector_size(4 * n)));

};

// Vectors go by reference: without AVX-512, compilers disagree on how to pass them.
template <class V>
[[gnu::always_inline]] inline void load_tags(const u32* from, V& tags) {
  __builtin_memcpy(&tags, from, sizeof tags);
}
template <class V>
[[gnu::always_inline]] inline void store_tags(u32* to, const V& tags) {
  __builtin_memcpy(to, &tags, sizeof tags);
}
// to = a where mask, else b
template <class V>
[[gnu::always_inline]] inline void select(V& to, const V& mask, const V& a, const V& b) {
  to = (mask & a) | (~mask & b);
}
inline void fill_tags(u32* to, u32 count, u32 value) {
  const Tags<16>::Vector sixteen = Tags<16>::Vector{} + value;
  u32 n = 0;
  for (; n + 16 <= count; n += 16) store_tags(to + n, sixteen);
  for (; n < count; ++n) to[n] = value;
}
template <class V>
inline bool any(const V& mask) {
  u32 together = 0;
  for (unsigned long n = 0; n < sizeof(V) / 4; ++n) together |= mask[n];
  return together != 0;
}

// What the quick cases compare with. Passed by value: as a reference it could be what tags are
// stored to, and would be read again for every vector of them.
struct QuickTags {
  u32 first;      // base of the workgroup's first epoch
  u32 span;       // from there to the current epoch
  u32 base;       // of the current epoch
  u32 own_write;  // this wave wrote all of the dword
  u32 own_read;
  u32 several_read;
};

// Records reads in `r`; `odd` gains all ones where the tags need a closer look.
template <class V>
[[gnu::always_inline]] inline void quick_read(const QuickTags& q, const V& w, V& r, V& odd) {
  const V defined = (V)((w & tag::all_bytes) == tag::all_bytes);
  const V landed = (V)(w - q.first < q.span) & defined;
  const V own = (V)((w | tag::all_bytes << tag::written_shift) == q.own_write);
  const V fresh = (V)(r < q.base);
  const V whole = (V)((r & (tag::mixed | tag::all_bytes)) == tag::all_bytes);
  const V alone = fresh | (V)(r == q.own_read);
  const V known = fresh | whole;
  V next;
  select(next, alone, V{} + q.own_read, V{} + q.several_read);
  select(r, known, next, r);
  odd |= ~(known & (landed | own));
}

// `busy` gains all ones where another wave touched the dword in this epoch, or a DMA load will.
template <class V>
[[gnu::always_inline]] inline void find_busy(const QuickTags& q, const V& w, const V& r,
                                             V& busy) {
  const V unread = (V)(r < q.base) | (V)(r >> tag::wave_shift == q.own_read >> tag::wave_shift);
  const V own = (V)(w >> tag::wave_shift == q.own_write >> tag::wave_shift);
  busy |= ~(((V)(w < q.base) | own) & unread);
}

// Records writes in `w`.
template <class V>
[[gnu::always_inline]] inline void quick_write(const QuickTags& q, V& w, const V& r, V& odd) {
  V busy = {};
  find_busy(q, w, r, busy);
  select(w, busy, w, V{} + q.own_write);
  odd |= busy;
}

inline QuickTags LdsShadow::quick_tags(u32 wave) const {
  constexpr u32 whole = tag::all_bytes << tag::written_shift | tag::all_bytes;
  const u32 first = first_ << tag::epoch_shift;
  return {first,
          base() - first,
          base(),
          write_tag(wave) | whole,
          write_tag(wave) | tag::all_bytes,
          write_tag(tag::several) | tag::all_bytes};
}

// A run of dwords, a multiple of 16. Returns whether all were quick cases.
inline bool LdsShadow::visit_run(u32 dword, u32 count, QuickTags q, LdsUse use) {
  Tags<16>::Vector odd = {}, w, r;
  u32* const write_tags = write_tags_ + dword;
  u32* const read_tags = read_tags_ + dword;
  if (use == LdsUse::read) {
    for (u32 n = 0; n < count; n += 16) {
      load_tags(write_tags + n, w);
      load_tags(read_tags + n, r);
      quick_read(q, w, r, odd);
      store_tags(read_tags + n, r);
    }
  } else {
    for (u32 n = 0; n < count; n += 16) {
      load_tags(write_tags + n, w);
      load_tags(read_tags + n, r);
      quick_write(q, w, r, odd);
      store_tags(write_tags + n, w);
    }
  }
  return !any(odd);
}

// Tags of 16 dwords, n in a row at each of 16 / n places.
template <int n>
[[gnu::always_inline]] inline void gather_tags(const u32* tags, const u32* dwords,
                                               Tags<16>::Vector& to) {
  if constexpr (n == 4) {
    Tags<4>::Vector v[4];
    for (int k = 0; k < 4; ++k) load_tags(tags + dwords[k], v[k]);
    const Tags<8>::Vector low = __builtin_shufflevector(v[0], v[1], 0, 1, 2, 3, 4, 5, 6, 7);
    const Tags<8>::Vector high = __builtin_shufflevector(v[2], v[3], 0, 1, 2, 3, 4, 5, 6, 7);
    to = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return;
  }
#if defined(__AVX512F__)
  // The masked forms: compilers take the others' unused input for an uninitialised variable.
  __m512i found = _mm512_setzero_si512();
  if constexpr (n == 1) {
    const __m512i where = _mm512_loadu_si512(dwords);
    found = _mm512_mask_i32gather_epi32(found, 0xffff, where, tags, 4);
  } else {
    const __m256i where = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(dwords));
    found = _mm512_mask_i32gather_epi64(found, 0xff, where, tags, 4);
  }
  __builtin_memcpy(&to, &found, sizeof to);
#else
  for (int k = 0; k < 16; ++k) to[k] = tags[dwords[k / n] + k % n];
#endif
}

template <int n>
[[gnu::always_inline]] inline void scatter_tags(u32* tags, const u32* dwords,
                                                const Tags<16>::Vector& from) {
  if constexpr (n == 4) {
    store_tags(tags + dwords[0], __builtin_shufflevector(from, from, 0, 1, 2, 3));
    store_tags(tags + dwords[1], __builtin_shufflevector(from, from, 4, 5, 6, 7));
    store_tags(tags + dwords[2], __builtin_shufflevector(from, from, 8, 9, 10, 11));
    store_tags(tags + dwords[3], __builtin_shufflevector(from, from, 12, 13, 14, 15));
    return;
  }
#if defined(__AVX512F__)
  __m512i value;
  __builtin_memcpy(&value, &from, sizeof value);
  if constexpr (n == 1) {
    _mm512_i32scatter_epi32(tags, _mm512_loadu_si512(dwords), value, 4);
  } else {
    const __m256i where = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(dwords));
    _mm512_i32scatter_epi64(tags, where, value, 4);
  }
#else
  for (int k = 0; k < 16; ++k) tags[dwords[k / n] + k % n] = from[k];
#endif
}

// `n` dwords a lane, anywhere. Idle lanes repeat another's address, which changes nothing.
template <int n>
bool LdsShadow::visit_lanes(const LdsAccess& access, u32 displacement, QuickTags q) {
  u32 dwords[64];
  for (int lane = 0; lane < 64; ++lane) dwords[lane] = (access.address[lane] + displacement) / 4;
  Tags<16>::Vector odd = {}, w, r;
  u32* const write_tags = write_tags_;
  u32* const read_tags = read_tags_;
  if (access.use == LdsUse::read) {
    for (int lane = 0; lane < 64; lane += 16 / n) {
      gather_tags<n>(write_tags, dwords + lane, w);
      gather_tags<n>(read_tags, dwords + lane, r);
      quick_read(q, w, r, odd);
      scatter_tags<n>(read_tags, dwords + lane, r);
    }
  } else {
    for (int lane = 0; lane < 64; lane += 16 / n) {
      gather_tags<n>(write_tags, dwords + lane, w);
      gather_tags<n>(read_tags, dwords + lane, r);
      quick_write(q, w, r, odd);
      scatter_tags<n>(write_tags, dwords + lane, w);
    }
  }
  return !any(odd);
}

// One or two bytes a lane, none of them in two dwords: only a part of each tag changes.
template <LdsUse use>
bool LdsShadow::visit_narrow(const LdsAccess& access, QuickTags q) {
  const u32 own = q.own_write >> tag::wave_shift, several = q.several_read >> tag::wave_shift;
  const u32 self = own << tag::wave_shift;
  u32 odd = 0;
  for (int lane = 0; lane < 64; ++lane) {
    const u32 address = access.address[lane];
    const u32 mask = ((1u << access.bytes) - 1) << (address & 3);
    u32& write_tag = write_tags_[address / 4];
    u32& read_tag = read_tags_[address / 4];
    const u32 w = write_tag, r = read_tag;
    const bool written_by_self = w >> tag::wave_shift == own, written_before = w < q.base;
    const bool read_by_self = r >> tag::wave_shift == own, read_before = r < q.base;
    if constexpr (use == LdsUse::read) {
      const bool by_several = r >> tag::wave_shift == several && (r & mask) == mask;
      const bool defined = w >= q.first && (w & mask) == mask;
      const bool good = (written_by_self || written_before) && defined &&
                        (read_by_self || read_before || by_several);
      const u32 next = self | mask | (read_by_self ? r & tag::all_bytes : 0);
      read_tag = good && !by_several ? next : r;
      odd |= !good;
    } else {
      const bool good = (written_by_self || written_before) && (read_by_self || read_before);
      constexpr u32 written = tag::all_bytes << tag::written_shift;
      const u32 kept = (written_by_self ? w & written : 0) | (w < q.first ? 0 : w & tag::all_bytes);
      write_tag = good ? self | kept | mask << tag::written_shift | mask : w;
      odd |= !good;
    }
  }
  return odd == 0;
}

inline bool LdsShadow::visit_quickly(const LdsAccess& access, u32 displacement, u32 wave) {
  if (access.use == LdsUse::atomic) return false;
  u32 low_bits = 0, last_byte = 0;
  for (u32 lane = 0; lane < 64; ++lane) {
    const u32 in_dword = (access.address[lane] + displacement) & 3;
    low_bits |= in_dword;
    last_byte |= in_dword + access.bytes - 1;
  }
  const QuickTags q = quick_tags(wave);
  if (access.bytes < 4) {
    if (last_byte > 3) return false;
    return access.use == LdsUse::read ? visit_narrow<LdsUse::read>(access, q)
                                      : visit_narrow<LdsUse::write>(access, q);
  }
  if (low_bits != 0) return false;
  if (access.run) {
    const u32 first = (access.address[0] + displacement) / 4;
    return visit_run(first, 16u * access.bytes, q, access.use);
  }
  switch (access.bytes) {
    case 4: return visit_lanes<1>(access, displacement, q);
    case 8: return visit_lanes<2>(access, displacement, q);
    case 16: return visit_lanes<4>(access, displacement, q);
    default: return false;
  }
}

inline void LdsShadow::visit_piece(const LdsAccess& access, u32 displacement, u32 wave,
                                   LdsFindings& findings) {
  if (visit_quickly(access, displacement, wave)) return;
  for (u64 left = access.lanes; left != 0; left &= left - 1) {
    const int lane = __builtin_ctzll(left);
    const u32 wrong = visit_bytes(access.address[lane] + displacement, access.bytes, wave,
                                  access.use, findings.other);
    if (wrong != 0) note(findings, wrong, 1ull << lane);
  }
}

inline void LdsShadow::note(LdsFindings& findings, u32 wrong, u64 lane_bit) {
  if (wrong & found::undefined) findings.undefined |= lane_bit;
  if (wrong & found::in_flight) findings.in_flight |= lane_bit;
  if (wrong & found::race) findings.race |= lane_bit;
}

inline u32 LdsShadow::visit_bytes(u32 address, u32 bytes, u32 wave, LdsUse use, u32& other) {
  u32 wrong = 0;
  const u32 end = address + bytes;
  for (u32 dword = address / 4; 4 * dword < end; ++dword) {
    const u32 from = larger(address, 4 * dword) - 4 * dword;
    const u32 to = smaller(end, 4 * dword + 4) - 4 * dword;
    const u32 mask = (1u << to) - (1u << from);
    wrong |= visit_dword(dword, mask, wave, use, other);
  }
  return wrong;
}

inline u32 LdsShadow::visit_dword(u32 dword, u32 mask, u32 wave, LdsUse use, u32& other) {
  Cell cell = take_apart(dword);
  if (cell.in_flight) {
    other = cell.dma_wave;
    return found::in_flight;
  }
  u32 wrong = 0;
  for (int byte = 0; byte < 4; ++byte)
    if (mask >> byte & 1) wrong |= visit_byte(cell, byte, wave, use, other);
  if (use == LdsUse::read)
    put_readers(dword, cell);
  else
    put_writers(dword, cell);
  return wrong;
}

inline u32 LdsShadow::visit_byte(Cell& cell, int byte, u32 wave, LdsUse use, u32& other) {
  const u8 writer = cell.writer[byte], reader = cell.reader[byte];
  const u8 self = static_cast<u8>(wave);
  u32 wrong = 0;
  if (use != LdsUse::write && !(cell.defined >> byte & 1)) wrong |= found::undefined;
  const bool both_atomic = use == LdsUse::atomic && (writer & by_atomic) != 0;
  if (writer != nobody && (writer & wave_bits) != self && !both_atomic) {
    wrong |= found::race;
    other = writer & wave_bits;
  }
  if (use == LdsUse::read) {
    cell.reader[byte] = reader == nobody || reader == self ? self : static_cast<u8>(tag::several);
    return wrong;
  }
  if (reader != nobody && reader != self) {
    wrong |= found::race;
    other = reader;
  }
  cell.defined |= 1u << byte;
  if (use == LdsUse::write)
    cell.writer[byte] = self;
  else if (writer == nobody)
    cell.writer[byte] = static_cast<u8>(self | by_atomic);
  else if (both_atomic && (writer & wave_bits) != self)
    cell.writer[byte] = static_cast<u8>(tag::several | by_atomic);
  return wrong;
}

inline LdsShadow::Cell LdsShadow::take_apart(u32 dword) const {
  const u32 w = write_tags_[dword], r = read_tags_[dword];
  const u32 first = first_ << tag::epoch_shift;
  Cell cell;
  const u32 issued = w & ~tag::in_flight;
  cell.in_flight = (w & tag::in_flight) != 0 && issued >= first;
  cell.dma_wave = static_cast<u8>(w >> tag::wave_shift & wave_bits);
  cell.defined = issued < first ? 0 : w & tag::all_bytes;
  const bool written_now = !(w & tag::in_flight) && w >= base(), read_now = r >= base();
  const u8 writer = static_cast<u8>((w >> tag::wave_shift & wave_bits) |
                                    (w & tag::atomic ? by_atomic : 0));
  const u8 reader = static_cast<u8>(r >> tag::wave_shift & wave_bits);
  for (int byte = 0; byte < 4; ++byte) {
    const bool wrote = written_now && (w >> tag::written_shift >> byte & 1);
    const bool did_read = read_now && (r >> byte & 1);
    cell.writer[byte] = !wrote ? nobody : w & tag::mixed ? writers_[4 * dword + byte] : writer;
    cell.reader[byte] = !did_read ? nobody : r & tag::mixed ? readers_[4 * dword + byte] : reader;
  }
  return cell;
}

// Which bytes have an entry in `who`; `same` says whether they all have the same one, `one`.
inline u32 LdsShadow::summary(const u8 (&who)[4], bool& same, u8& one) {
  u32 mask = 0;
  same = true;
  one = nobody;
  for (int byte = 0; byte < 4; ++byte) {
    if (who[byte] == nobody) continue;
    same &= one == nobody || one == who[byte];
    one = who[byte];
    mask |= 1u << byte;
  }
  return mask;
}

inline void LdsShadow::put_writers(u32 dword, const Cell& cell) {
  bool same;
  u8 one;
  const u32 mask = summary(cell.writer, same, one);
  const u32 bytes = mask << tag::written_shift | cell.defined;
  if (same) {
    const u32 kind = one & by_atomic ? tag::atomic : 0;
    write_tags_[dword] = write_tag(one & wave_bits) | kind | bytes;
    return;
  }
  write_tags_[dword] = base() | tag::mixed | bytes;
  __builtin_memcpy(writers_ + 4ul * dword, cell.writer, 4);
}

inline void LdsShadow::put_readers(u32 dword, const Cell& cell) {
  bool same;
  u8 one;
  const u32 mask = summary(cell.reader, same, one);
  if (same) {
    read_tags_[dword] = write_tag(one) | mask;
    return;
  }
  read_tags_[dword] = base() | tag::mixed | mask;
  __builtin_memcpy(readers_ + 4ul * dword, cell.reader, 4);
}

inline void LdsShadow::dma_issued(u32 dword, u32 count, u32 wave, u64 lane_bit,
                                  LdsFindings& findings) {
  const u32 own = write_tag(wave) >> tag::wave_shift;
  for (u32 n = dword; n < dword + count; ++n) {
    const u32 w = write_tags_[n], r = read_tags_[n];
    const bool idle = (r < base() || r >> tag::wave_shift == own) &&
                      (w < base() || w >> tag::wave_shift == own);
    if (__builtin_expect(!idle, 0))
      note(findings, visit_dword(n, tag::all_bytes, wave, LdsUse::write, findings.other), lane_bit);
    write_tags_[n] = tag::in_flight | quick_tags(wave).own_write;
  }
}

inline bool LdsShadow::dma_issued_to_idle(u32 dword, u32 count, u32 wave) {
  const QuickTags q = quick_tags(wave);
  Tags<16>::Vector busy = {};
  for (u32 n = dword; n < dword + count; n += 16) {
    Tags<16>::Vector w, r;
    load_tags(write_tags_ + n, w);
    load_tags(read_tags_ + n, r);
    find_busy(q, w, r, busy);
  }
  if (any(busy)) return false;
  fill_tags(write_tags_ + dword, count, tag::in_flight | q.own_write);
  return true;
}

inline void LdsShadow::dma_landed(u32 dword, u32 count, u32 wave) {
  fill_tags(write_tags_ + dword, count, quick_tags(wave).own_write);
}

}  // namespace aiter_moe::emulator
