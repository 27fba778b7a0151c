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
inline void load_tags(const u32* from, V& tags) {
  __builtin_memcpy(&tags, from, sizeof tags);
}
template <class V>
inline void store_tags(u32* to, const V& tags) {
  __builtin_memcpy(to, &tags, sizeof tags);
}
// to = a where mask, else b
template <class V>
inline void select(V& to, const V& mask, const V& a, const V& b) {
  to = (mask & a) | (~mask & b);
}
template <class V>
inline bool any(const V& mask) {
  u32 together = 0;
  for (unsigned long n = 0; n < sizeof(V) / 4; ++n) together |= mask[n];
  return together != 0;
}

// What the quick cases compare with.
struct QuickTags {
  u32 first;      // base of the workgroup's first epoch
  u32 span;       // from there to the current epoch
  u32 base;       // of the current epoch
  u32 own_write;  // this wave wrote all of the dword
  u32 own_read;
  u32 several_read;
};

// Records reads; `odd` gains all ones where the tags need a closer look.
template <class V>
inline void quick_read(const QuickTags& q, const u32* write_tags, u32* read_tags, V& odd) {
  V w, r;
  load_tags(write_tags, w);
  load_tags(read_tags, r);
  const V defined = (V)((w & tag::all_bytes) == tag::all_bytes);
  const V landed = (V)(w - q.first < q.span) & defined;
  const V own = (V)((w | tag::all_bytes << tag::written_shift) == q.own_write);
  const V fresh = (V)(r < q.base);
  const V whole = (V)((r & (tag::mixed | tag::all_bytes)) == tag::all_bytes);
  const V alone = fresh | (V)(r == q.own_read);
  const V known = fresh | whole;
  V next;
  select(next, alone, V{} + q.own_read, V{} + q.several_read);
  select(next, known, next, r);
  store_tags(read_tags, next);
  odd |= ~(known & (landed | own));
}

// `busy` gains all ones where another wave has touched the dword in this epoch, or a DMA load is to.
template <class V>
inline void find_busy(const QuickTags& q, const V& w, const V& r, V& busy) {
  const V unread = (V)(r < q.base) | (V)(r >> tag::wave_shift == q.own_read >> tag::wave_shift);
  const V own = (V)(w >> tag::wave_shift == q.own_write >> tag::wave_shift);
  busy |= ~(((V)(w < q.base) | own) & unread);
}

template <class V>
inline void quick_write(const QuickTags& q, u32* write_tags, const u32* read_tags, V& odd) {
  V w, r, busy = {}, next;
  load_tags(write_tags, w);
  load_tags(read_tags, r);
  find_busy(q, w, r, busy);
  select(next, busy, w, V{} + q.own_write);
  store_tags(write_tags, next);
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
inline bool LdsShadow::visit_run(u32 dword, u32 count, const QuickTags& q, LdsUse use) {
  Tags<16>::Vector odd = {};
  u32* write_tags = write_tags_ + dword;
  u32* read_tags = read_tags_ + dword;
  if (use == LdsUse::read)
    for (u32 n = 0; n < count; n += 16) quick_read(q, write_tags + n, read_tags + n, odd);
  else
    for (u32 n = 0; n < count; n += 16) quick_write(q, write_tags + n, read_tags + n, odd);
  return !any(odd);
}

// `n` dwords a lane. Idle lanes repeat another's address, which changes nothing.
template <int n>
bool LdsShadow::visit_lanes(const LdsAccess& access, u32 displacement, const QuickTags& q) {
  typename Tags<n>::Vector odd = {};
  if (access.use == LdsUse::read) {
    for (int lane = 0; lane < 64; ++lane) {
      const u32 dword = (access.address[lane] + displacement) / 4;
      quick_read(q, write_tags_ + dword, read_tags_ + dword, odd);
    }
  } else {
    for (int lane = 0; lane < 64; ++lane) {
      const u32 dword = (access.address[lane] + displacement) / 4;
      quick_write(q, write_tags_ + dword, read_tags_ + dword, odd);
    }
  }
  return !any(odd);
}

inline bool LdsShadow::visit_quickly(const LdsAccess& access, u32 displacement, u32 wave) {
  const u32 first = access.address[0] + displacement;
  u32 low_bits = displacement, off_run = 0;
  for (u32 lane = 0; lane < 64; ++lane) {
    low_bits |= access.address[lane];
    off_run |= (access.address[lane] + displacement - first) ^ (lane * access.bytes);
  }
  if (((low_bits | access.bytes) & 3) != 0 || access.use == LdsUse::atomic) return false;
  const QuickTags q = quick_tags(wave);
  if (off_run == 0) return visit_run(first / 4, 16u * access.bytes, q, access.use);
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
    if (__builtin_expect(wrong == 0, 1)) continue;
    note(findings, wrong, 1ull << lane);
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
    if (!visit_partly(dword, mask, wave, use)) wrong |= visit_dword(dword, mask, wave, use, other);
  }
  return wrong;
}

// The quick cases of a dword of which only the bytes of `mask` are touched.
inline bool LdsShadow::visit_partly(u32 dword, u32 mask, u32 wave, LdsUse use) {
  const u32 w = write_tags_[dword], r = read_tags_[dword];
  const u32 own = write_tag(wave) >> tag::wave_shift, first = first_ << tag::epoch_shift;
  const bool read_by_self = r >> tag::wave_shift == own, read_before = r < base();
  const bool written_by_self = w >> tag::wave_shift == own, written_before = w < base();
  if ((!read_by_self && !read_before) || (!written_by_self && !written_before)) return false;
  if (use == LdsUse::read) {
    if (w < first || (w & mask) != mask) return false;
    read_tags_[dword] = write_tag(wave) | mask | (read_by_self ? r & tag::all_bytes : 0);
    return true;
  }
  if (use == LdsUse::atomic) return false;
  const u32 written = written_by_self ? w & tag::all_bytes << tag::written_shift : 0;
  const u32 defined = w < first ? 0 : w & tag::all_bytes;
  write_tags_[dword] = write_tag(wave) | written | mask << tag::written_shift | defined | mask;
  return true;
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
  const u32 pending = tag::in_flight | q.own_write;
  for (u32 n = dword; n < dword + count; ++n) write_tags_[n] = pending;
  return true;
}

inline void LdsShadow::dma_landed(u32 dword, u32 count, u32 wave) {
  const u32 own = quick_tags(wave).own_write;
  for (u32 n = dword; n < dword + count; ++n) write_tags_[n] = own;
}

}  // namespace aiter_moe::emulator
