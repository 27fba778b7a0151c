// SPDX-License-Identifier: MIT
// What all vector instructions share: fetching sources as rows of lanes and writing results, with
// everything an encoding may ask of them: constants, SDWA, DPP, op_sel, negation, absolute value,
// denormal flushing, output scaling, clamping, and half registers.
//
// Most instructions ask for nothing of it: `is_plain` says so, and `plain_source` then hands out
// the register itself. The rest goes through `Operands`, copies of the sources made ready.
#pragma once

#include "emulator/exec/vector_dpp.h"
#include "emulator/exec/vector_lane.h"
#include "emulator/exec/vector_sdwa.h"

// What every instruction goes through: compilers think it too large, or used too often, to inline.
#define AITER_MOE_VECTOR_INLINE [[gnu::always_inline]] inline

namespace aiter_moe::emulator::vector {

namespace mode {
constexpr u32 round_f32 = 3, round_f64 = 3 << 2;  // f64's field rules f16 too
constexpr u32 inputs_f32 = 1 << 4, outputs_f32 = 1 << 5;  // set: denormals stay
constexpr u32 inputs_f64 = 1 << 6, outputs_f64 = 1 << 7;
constexpr u32 dx10_clamp = 1 << 8, ieee = 1 << 9;
constexpr u32 fp16_overflow = 1 << 23;
constexpr u32 usual = inputs_f32 | outputs_f32 | inputs_f64 | outputs_f64;  // and to nearest
constexpr u32 usual_mask = 0xff | fp16_overflow;
}  // namespace mode

// Inline constants of 16-bit floats, by code from operand::half.
constexpr u16 inline_halves[9] = {0x3800, 0xb800, 0x3c00, 0xbc00, 0x4000,
                                  0xc000, 0x4400, 0xc400, 0x3118};

AITER_MOE_VECTOR_INLINE bool is_unmodified(const Instruction& i) {
  return (static_cast<u32>(i.variant) | i.negate | i.absolute | i.op_sel | i.clamp | i.omod) == 0;
}

// Sources that are not there are of no kind.
[[gnu::always_inline]] constexpr bool depends_on_mode(const Shape& shape) {
  const bool has_floats = is_float(shape.result) || is_float(shape.source[0]) ||
                          is_float(shape.source[1]) || is_float(shape.source[2]);
  return has_floats && !shape.ignores_mode;
}

AITER_MOE_VECTOR_INLINE bool is_plain(const Wave& w, const Instruction& i, const Shape& shape) {
  if (shape.keeps_high_half || !is_unmodified(i)) return false;
  return !depends_on_mode(shape) || (w.mode & mode::usual_mask) == mode::usual;
}

// A scalar source as 64 bits.
inline u64 scalar_bits(Wave& w, const Instruction& i, u16 code, Kind kind) {
  if (kind == Kind::f16 && is_inline_float(code)) return inline_halves[code - operand::half];
  if (rows_of(kind) == 1) return w.read_scalar(i, code);
  if (kind == Kind::f64 && code == operand::literal) return static_cast<u64>(i.literal) << 32;
  return w.read_scalar64(i, code);
}

[[gnu::noinline]] inline const Lanes* scalar_source(Wave& w, const Instruction& i, u16 code,
                                                    Kind kind, Lanes* room) {
  const u64 bits = scalar_bits(w, i, code, kind);
  fill(room[0], static_cast<u32>(bits));
  if (rows_of(kind) == 2) fill(room[1], static_cast<u32>(bits >> 32));
  return room;
}

// Registers of an operand, checked for the lanes of `which`; null if there are not so many.
[[gnu::noinline]] inline void report_rows(Wave& w, const Instruction& i, u16 code, int rows,
                                          u64 which) {
  for (int row = 0; row < rows; ++row) w.need(i, static_cast<u16>(code + row), which);
}

AITER_MOE_VECTOR_INLINE const Lanes* register_rows(Wave& w, const Instruction& i, u16 code,
                                                   int rows, u64 which) {
  u64 ready = ~0ull;
  if (__builtin_expect(code + rows > operand::end, 0)) {
    w.fault(FaultKind::bad_instruction, i, 0, 0, "source beyond the last register");
    return &w.vector[0];
  }
  for (int row = 0; row < rows; ++row) ready &= w.vector_ready[code - operand::v0 + row];
  if (__builtin_expect((which & ~ready) != 0, 0)) report_rows(w, i, code, rows, which);
  return &w.vector[code - operand::v0];
}

// Source n without modifiers: the registers, or `room` (one or two rows) filled.
AITER_MOE_VECTOR_INLINE const Lanes* plain_source(Wave& w, const Instruction& i, int n, Kind kind,
                                                  Lanes* room, u64 which) {
  const u16 code = i.src[n];
  if (__builtin_expect(!is_vector(code), 0)) return scalar_source(w, i, code, kind, room);
  return register_rows(w, i, code, rows_of(kind), which);
}

// The registers a result goes to, marked as written; null if the operand is not a register.
AITER_MOE_VECTOR_INLINE Lanes* destination(Wave& w, const Instruction& i, u16 code, int rows,
                                           u64 which) {
  if (__builtin_expect(!is_vector(code) || code + rows > operand::end, 0)) {
    w.fault(FaultKind::bad_instruction, i, 0, 0, "vector destination that is no register");
    return nullptr;
  }
  for (int row = 0; row < rows; ++row) w.overwrite(i, static_cast<u16>(code + row), which);
  return &w.vector[code - operand::v0];
}

constexpr int most_sources = 3;

// Sources ready for a body.
struct Operands {
  Lanes room[most_sources][2];
  const Lanes* rows[most_sources];
  u64 which;  // lanes that take part
};

inline u32 sign_bit(Kind kind) { return kind == Kind::f16 ? 0x8000 : 0x80000000; }

// The row that holds the sign.
inline Lanes& sign_row(Lanes* rows, Kind kind) { return rows[rows_of(kind) - 1]; }

inline void change_sign(Lanes* rows, Kind kind, bool absolute, bool negate) {
  const u32 keep = absolute ? ~sign_bit(kind) : ~0u;
  const u32 flip = negate ? sign_bit(kind) : 0;
  Lanes& row = sign_row(rows, kind);
  for (int lane = 0; lane < lanes; ++lane) row.lane[lane] = (row.lane[lane] & keep) ^ flip;
}

inline void upper_half(Lanes& row) {
  for (int lane = 0; lane < lanes; ++lane) row.lane[lane] >>= 16;
}

// Denormals become zeros of their sign.
inline void flush_denormals(Lanes* rows, Kind kind) {
  const u32 exponent = kind == Kind::f16 ? 0x7c00 : kind == Kind::f32 ? 0x7f800000 : 0x7ff00000;
  Lanes& row = sign_row(rows, kind);
  for (int lane = 0; lane < lanes; ++lane) {
    const u32 keep = row.lane[lane] & exponent ? ~0u : sign_bit(kind);
    row.lane[lane] &= keep;
    if (kind == Kind::f64) rows[0].lane[lane] &= keep == ~0u ? ~0u : 0;
  }
}

inline bool keeps_input_denormals(const Wave& w, Kind kind) {
  return w.mode & (kind == Kind::f32 ? mode::inputs_f32 : mode::inputs_f64);
}
inline bool keeps_output_denormals(const Wave& w, Kind kind) {
  return w.mode & (kind == Kind::f32 ? mode::outputs_f32 : mode::outputs_f64);
}

// Results are rounded to nearest only, and large halves become infinite: code that asks for
// something else is reported.
inline void check_rounding(Wave& w, const Instruction& i, const Shape& shape) {
  if (!depends_on_mode(shape) || !is_float(shape.result)) return;
  if (shape.result == Kind::f16 && (w.mode & mode::fp16_overflow))
    w.fault(FaultKind::bad_instruction, i, 0, 0, "halves that saturate (FP16_OVFL)");
  if (w.mode & (shape.result == Kind::f32 ? mode::round_f32 : mode::round_f64))
    w.fault(FaultKind::bad_instruction, i, 0, 0, "rounding mode other than to nearest even");
}

// Copies the registers of source n, or fills with the scalar; through DPP where it applies.
inline void copy_source(Wave& w, const Instruction& i, int n, Kind kind, const DppLanes* dpp,
                        Operands& out) {
  Lanes* room = out.room[n];
  const bool permuted = dpp && n == 0;
  const Lanes* rows = plain_source(w, i, n, kind, room, permuted ? dpp_read(*dpp) : out.which);
  for (int row = 0; row < rows_of(kind); ++row) {
    if (permuted) {
      permute(rows[row], *dpp, room[row]);
    } else if (rows != room) {
      room[row] = rows[row];
    }
  }
}

inline void modify_source(Wave& w, const Instruction& i, int n, const Shape& shape, Lanes* rows) {
  const Kind kind = shape.source[n];
  const bool has_modifiers = n < 2 || i.format == Format::vop3;
  if (i.variant == Variant::sdwa && n < 2)
    select_field(rows[0], i.sdwa.sel[n], i.sdwa.sign_extend[n]);
  if (i.format == Format::vop3 && is_16_bit(kind) && (i.op_sel >> n & 1)) upper_half(rows[0]);
  if (!is_float(kind)) return;
  if (has_modifiers && ((i.absolute | i.negate) >> n & 1))
    change_sign(rows, kind, i.absolute >> n & 1, i.negate >> n & 1);
  if (!shape.ignores_mode && !keeps_input_denormals(w, kind)) flush_denormals(rows, kind);
}

// Makes the sources of an instruction ready; `out.which` says what lanes they are for.
[[gnu::noinline]] inline void prepare(Wave& w, const Instruction& i, const Shape& shape,
                                      Operands& out) {
  DppLanes dpp;
  const bool has_dpp = i.variant == Variant::dpp;
  out.which = w.exec();
  if (has_dpp) {
    dpp = dpp_lanes(i.dpp, out.which);
    out.which = dpp.written;
  }
  for (int n = 0; n < shape.count; ++n) {
    copy_source(w, i, n, shape.source[n], has_dpp ? &dpp : nullptr, out);
    modify_source(w, i, n, shape, out.room[n]);
    out.rows[n] = out.room[n];
  }
}

template <class T>
inline T clamped_unit(T value, bool nan_to_zero) {
  if (value != value) return nan_to_zero ? T(0) : value;
  return value > T(0) ? (value < T(1) ? value : T(1)) : T(0);
}

inline float omod_factor(u8 omod) { return omod == 1 ? 2.0f : omod == 2 ? 4.0f : 0.5f; }

// omod and clamp of a float lane; `factor` 1 is no omod.
inline void scale_and_clamp(Lanes* rows, int lane, Kind kind, float factor, bool clamp,
                            bool nan_to_zero) {
  u32& low = rows[0].lane[lane];
  if (kind == Kind::f16) {
    const float value = to_float(Half{static_cast<u16>(low)}) * factor;
    low = to_half(clamp ? clamped_unit(value, nan_to_zero) : value).bits;
  } else if (kind == Kind::f32) {
    const float value = as<float>(low) * factor;
    low = as<u32>(clamp ? clamped_unit(value, nan_to_zero) : value);
  } else {
    const double value = load<double>(rows, lane) * factor;
    const u64 bits = as<u64>(clamp ? clamped_unit(value, nan_to_zero) : value);
    low = static_cast<u32>(bits);
    rows[1].lane[lane] = static_cast<u32>(bits >> 32);
  }
}

// omod works only where neither IEEE rules nor output denormals are asked for.
inline void modify_float_result(Wave& w, const Instruction& i, Kind kind, Lanes* rows) {
  const bool denormals = keeps_output_denormals(w, kind);
  if (!denormals) flush_denormals(rows, kind);
  const bool scales = i.omod && !denormals && !(w.mode & mode::ieee);
  if (!scales && !i.clamp) return;
  const float factor = scales ? omod_factor(i.omod) : 1.0f;
  for (int lane = 0; lane < lanes; ++lane)
    scale_and_clamp(rows, lane, kind, factor, i.clamp, w.mode & mode::dx10_clamp);
}

inline void keep_half(Lanes& value, const Lanes& old, bool to_high) {
  for (int lane = 0; lane < lanes; ++lane) {
    const u32 half = value.lane[lane], before = old.lane[lane];
    value.lane[lane] = to_high ? half << 16 | (before & 0xffff)
                               : (half & 0xffff) | (before & 0xffff0000);
  }
}

// Writes a result, with what the encoding does to it on the way.
[[gnu::noinline]] inline void finish(Wave& w, const Instruction& i, const Shape& shape,
                                     Lanes* result, u64 which) {
  if (is_float(shape.result) && !shape.ignores_mode)
    modify_float_result(w, i, shape.result, result);
  const int rows = rows_of(shape.result);
  Lanes* out = destination(w, i, i.dst, rows, which);
  if (!out) return;
  const bool to_high = i.format == Format::vop3 && (i.op_sel & 8);
  if (i.variant == Variant::sdwa)
    place_field(result[0], out[0], i.sdwa);
  else if (is_16_bit(shape.result) && (to_high || shape.keeps_high_half))
    keep_half(result[0], out[0], to_high);
  for (int row = 0; row < rows; ++row) merge(out[row], result[row], which);
}

// An instruction with anything special about it.
[[gnu::noinline]] inline void run_modified(Wave& w, const Instruction& i, const Shape& shape,
                                           Body body) {
  Operands operands;
  alignas(64) Lanes result[2];
  check_rounding(w, i, shape);
  prepare(w, i, shape, operands);
  body(result, operands.rows, all_lanes);
  finish(w, i, shape, result, operands.which);
}

template <int count>
inline void run_plain(Wave& w, const Instruction& i, const Shape& shape, Body body) {
  const u64 exec = w.exec();
  Lanes room[count][2];
  const Lanes* sources[count];
  for (int n = 0; n < count; ++n)
    sources[n] = plain_source(w, i, n, shape.source[n], room[n], exec);
  if (Lanes* out = destination(w, i, i.dst, rows_of(shape.result), exec)) body(out, sources, exec);
}

// The handler of an instruction that is f in every active lane.
template <auto f>
void run(Wave& w, const Instruction& i) {
  constexpr Shape shape = shape_of(f);
  if (__builtin_expect(is_plain(w, i, shape), 1))
    run_plain<shape.count>(w, i, shape, each_lane<f>);
  else
    run_modified(w, i, shape, each_lane<f>);
}

// The same where a 16-bit result leaves the other half of its register alone.
template <auto f>
void run_keeping_half(Wave& w, const Instruction& i) {
  Shape shape = shape_of(f);
  shape.keeps_high_half = true;
  run_modified(w, i, shape, each_lane<f>);
}

// The same for an integer instruction that saturates when `clamp` is set.
template <auto f, auto saturating>
void run_saturating(Wave& w, const Instruction& i) {
  if (__builtin_expect(i.clamp, 0))
    run_modified(w, i, shape_of(f), each_lane<saturating>);
  else
    run<f>(w, i);
}

template <auto f, auto saturating>
void run_half_saturating(Wave& w, const Instruction& i) {
  i.clamp ? run_keeping_half<saturating>(w, i) : run_keeping_half<f>(w, i);
}

// The same where IEEE rules, if the mode asks for them, make a difference.
template <auto ieee_rules, auto f>
void run_ieee(Wave& w, const Instruction& i) {
  w.mode & mode::ieee ? run<ieee_rules>(w, i) : run<f>(w, i);
}
template <auto ieee_rules, auto f>
void run_half_ieee(Wave& w, const Instruction& i) {
  w.mode & mode::ieee ? run_keeping_half<ieee_rules>(w, i) : run_keeping_half<f>(w, i);
}

// The same for bits that happen to be of a float type: no rounding, no flushing.
template <auto f>
void run_bits(Wave& w, const Instruction& i) {
  constexpr Shape exact = [] {
    Shape shape = shape_of(f);
    shape.ignores_mode = true;
    return shape;
  }();
  if (__builtin_expect(is_plain(w, i, exact), 1))
    run_plain<exact.count>(w, i, exact, each_lane<f>);
  else
    run_modified(w, i, exact, each_lane<f>);
}

}  // namespace aiter_moe::emulator::vector
