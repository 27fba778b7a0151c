# SPDX-License-Identifier: MIT
"""Random kernels as C++ text that means the same on a GPU and on the host (see group.h)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

# Fields of a lane's state, by type.
FIELDS = {
    "u32": [f"s.u[{n}]" for n in range(6)],
    "u64": [f"s.w[{n}]" for n in range(2)],
    "f32": [f"s.f[{n}]" for n in range(3)],
    "f64": [f"s.d[{n}]" for n in range(2)],
    "f16": [f"s.h[{n}]" for n in range(2)],
}
# Operations by the type they give: text with {0}, {1} ... and the types these stand for.
OPERATIONS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "u32": [
        *((f"({{0}} {op} {{1}})", ("u32", "u32")) for op in ("+", "-", "*", "&", "|", "^")),
        *((f"u32({{0}} {op} {{1}})", ("u32", "u32")) for op in ("<", "<=", "==", "!=")),
        *((f"u32(i32({{0}}) {op} i32({{1}}))", ("u32", "u32")) for op in ("<", ">=")),
        *((f"u32({{0}} {op} {{1}})", ("f32", "f32")) for op in ("<", "<=", "==", "!=")),
        *((f"u32({{0}} {op} {{1}})", ("f64", "f64")) for op in (">", "==")),
        *((f"u32({{0}} {op} {{1}})", ("f16", "f16")) for op in ("<", "!=")),
        *((f"u32({{0}} {op} {{1}})", ("u64", "u64")) for op in ("<", "==")),
        ("u32(i64({0}) < i64({1}))", ("u64", "u64")),
        ("({0} << ({1} & 31))", ("u32", "u32")),
        ("({0} >> ({1} & 31))", ("u32", "u32")),
        ("shifted_right({0}, {1})", ("u32", "u32")),
        ("divide({0}, {1})", ("u32", "u32")),
        ("modulo({0}, {1})", ("u32", "u32")),
        ("signed_divide({0}, {1})", ("u32", "u32")),
        ("high_product({0}, {1})", ("u32", "u32")),
        ("signed_high_product({0}, {1})", ("u32", "u32")),
        ("low_24_product({0}, {1})", ("u32", "u32")),
        ("field({0}, {1}, {2})", ("u32", "u32", "u32")),
        ("field({0}, 5, 11)", ("u32",)),
        ("u32(i32({0} << 9) >> 19)", ("u32",)),
        ("funnel({0}, {1}, {2})", ("u32", "u32", "u32")),
        ("funnel({0}, {1}, 8)", ("u32", "u32")),
        ("__builtin_rotateleft32({0}, {1})", ("u32", "u32")),
        ("__builtin_bitreverse32({0})", ("u32",)),
        ("__builtin_bswap32({0})", ("u32",)),
        ("u32(__builtin_popcount({0}))", ("u32",)),
        ("u32(__builtin_popcountl({0}))", ("u64",)),
        ("first_bit({0})", ("u32",)),
        ("last_bit({0})", ("u32",)),
        ("last_bit({0})", ("u64",)),
        ("median({0}, {1}, {2})", ("u32", "u32", "u32")),
        ("signed_smaller({0}, {1})", ("u32", "u32")),
        ("smaller_of({0}, {1})", ("u32", "u32")),
        ("larger_of({0}, {1})", ("u32", "u32")),
        ("byte_sum({0}, {1})", ("u32", "u32")),
        ("halves_added({0}, {1})", ("u32", "u32")),
        ("halves_multiplied({0}, {1})", ("u32", "u32")),
        ("halves_larger({0}, {1})", ("u32", "u32")),
        ("halves_shifted({0}, {1})", ("u32", "u32")),
        ("carried({0}, {1}, {2})", ("u32", "u32", "u32")),
        ("u32(u16({0} + {1}))", ("u32", "u32")),
        ("u32(i16({0} * {1}))", ("u32", "u32")),
        ("u32(i8({0} - {1}))", ("u32", "u32")),
        ("u32(u8({0} >> 16) * u16({1}))", ("u32", "u32")),
        ("({0} << 3) + {1}", ("u32", "u32")),
        ("(({0} & {1}) | (~{0} & {2}))", ("u32", "u32", "u32")),
        ("({0} ^ {1} ^ {2})", ("u32", "u32", "u32")),
        ("({0} ? {1} : {2})", ("u32", "u32", "u32")),
        ("({0} < {1} ? {2} : {3})", ("f32", "f32", "u32", "u32")),
        ("u32({0})", ("u64",)),
        ("u32({0} >> 32)", ("u64",)),
        ("bits({0})", ("f32",)),
        ("bits({0})", ("f16",)),
        ("to_u32({0})", ("f32",)),
        ("to_i32({0})", ("f32",)),
        ("to_i32({0})", ("f64",)),
        ("to_i32({0})", ("f16",)),
    ],
    "u64": [
        *((f"({{0}} {op} {{1}})", ("u64", "u64")) for op in ("+", "-", "*", "&", "|", "^")),
        ("({0} << ({1} & 63))", ("u64", "u32")),
        ("({0} >> ({1} & 63))", ("u64", "u32")),
        ("shifted_right({0}, {1})", ("u64", "u32")),
        ("divide({0}, {1})", ("u64", "u64")),
        ("signed_modulo({0}, {1})", ("u64", "u64")),
        ("wide_product({0}, {1}, {2})", ("u32", "u32", "u64")),
        ("signed_wide_product({0}, {1}, {2})", ("u32", "u32", "u64")),
        ("(({0} << 4) + {1})", ("u64", "u64")),
        ("u64({0})", ("u32",)),
        ("u64(i64(i32({0})))", ("u32",)),
        ("bits({0})", ("f64",)),
        ("to_u64({0})", ("f64",)),
        ("({0} ? {1} : {2})", ("u32", "u64", "u64")),
        ("larger_of({0}, {1})", ("u64", "u64")),
    ],
    "f32": [
        *((f"({{0}} {op} {{1}})", ("f32", "f32")) for op in ("+", "-", "*", "/")),
        ("fused({0}, {1}, {2})", ("f32", "f32", "f32")),
        ("fused(-{0}, {1}, -{2})", ("f32", "f32", "f32")),
        ("(-{0} * __builtin_fabsf({1}))", ("f32", "f32")),
        ("__builtin_sqrtf(__builtin_fabsf({0}))", ("f32",)),
        ("smaller_of({0}, {1})", ("f32", "f32")),
        ("larger_of({0}, {1})", ("f32", "f32")),
        ("__builtin_floorf({0})", ("f32",)),
        ("__builtin_ceilf({0})", ("f32",)),
        ("__builtin_truncf({0})", ("f32",)),
        ("__builtin_rintf({0})", ("f32",)),
        ("__builtin_copysignf({0}, one_nan({1}))", ("f32", "f32")),
        ("__builtin_ldexpf({0}, i32({1} & 63) - 32)", ("f32", "u32")),
        ("packed({0}, {1}, {2}, {3})", ("f32", "f32", "f32", "f32")),
        ("classified({0})", ("f32",)),
        ("f32({0})", ("u32",)),
        ("f32(i32({0}))", ("u32",)),
        ("f32({0})", ("u64",)),
        ("f32({0})", ("f64",)),
        ("f32({0})", ("f16",)),
        ("f32(u8({0} >> 8))", ("u32",)),
        ("({0} ? {1} : {2})", ("u32", "f32", "f32")),
    ],
    "f64": [
        *((f"({{0}} {op} {{1}})", ("f64", "f64")) for op in ("+", "-", "*", "/")),
        ("fused({0}, {1}, {2})", ("f64", "f64", "f64")),
        ("__builtin_sqrt(__builtin_fabs({0}))", ("f64",)),
        ("smaller_of({0}, -{1})", ("f64", "f64")),
        ("__builtin_floor({0})", ("f64",)),
        ("__builtin_rint({0})", ("f64",)),
        ("__builtin_ldexp({0}, i32({1} & 255) - 128)", ("f64", "u32")),
        ("f64({0})", ("u32",)),
        ("f64(i32({0}))", ("u32",)),
        ("f64({0})", ("u64",)),
        ("f64({0})", ("f32",)),
        ("({0} ? {1} : {2})", ("u32", "f64", "f64")),
    ],
    "f16": [
        *((f"f16({{0}} {op} {{1}})", ("f16", "f16")) for op in ("+", "-", "*")),
        ("packed({0}, {1}, {2})", ("f16", "f16", "f16")),
        ("smaller_of({0}, {1})", ("f16", "f16")),
        ("larger_of({0}, {1})", ("f16", "f16")),
        ("narrowed({0})", ("f32",)),
        ("f16(f32(i16({0})))", ("u32",)),
        ("({0} ? {1} : {2})", ("u32", "f16", "f16")),
    ],
}
CONSTANTS = {
    "u32": (
        "0u",
        "1u",
        "7u",
        "64u",
        "255u",
        "0x80000000u",
        "0xffffffffu",
        "0x12345678u",
        "(lane + 0u)",
    ),
    "u64": ("0ul", "1ul", "0x8000000000000000ul", "0x123456789abcdeful"),
    "f32": ("0.0f", "1.0f", "-2.0f", "0.5f", "3.14159f", "1.0e-40f", "3.0e38f"),
    "f64": ("0.0", "1.0", "-4.0", "0.1", "1.0e-310", "1.0e300"),
    "f16": ("f16(0.0f)", "f16(1.0f)", "f16(-0.25f)", "f16(6.0e-8f)", "f16(60000.0f)"),
}
MEMORY = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "u64": 8}
WINDOW, TABLE = 64, 8


@dataclass(frozen=True, slots=True)
class Writer:
    """Makes the text of one kernel from a random source."""

    random: random.Random

    def expression(self, kind: str, depth: int) -> str:
        """Return an expression of type `kind` over the state of a lane."""
        if depth == 0 or self.random.random() < 0.15:
            choices = FIELDS[kind] if self.random.random() < 0.8 else CONSTANTS[kind]
            return self.random.choice(choices)
        text, kinds = self.random.choice(OPERATIONS[kind])
        return text.format(*(f"({self.expression(k, depth - 1)})" for k in kinds))

    def _field(self) -> tuple[str, str]:
        kind = self.random.choices(list(FIELDS), weights=(6, 2, 3, 2, 2))[0]
        return kind, self.random.choice(FIELDS[kind])

    def _assign(self, depth: int) -> str:
        kind, field = self._field()
        value = self.expression(kind, 3)
        return f"{field} = one_nan({value});" if kind[0] == "f" else f"{field} = {value};"

    def _branch(self, depth: int) -> str:
        condition = self.expression("u32", 2)
        text = f"if (({condition}) & 1) {{ {self.statements(2, depth - 1)} }}"
        if self.random.random() < 0.5:
            text += f" else {{ {self.statements(2, depth - 1)} }}"
        return text

    def _loop(self, depth: int) -> str:
        count = f"n{depth}"
        return (
            f"for (u32 {count} = ({self.expression('u32', 1)}) & 3; {count}--;) "
            f"{{ {self.statements(2, depth - 1)} }}"
        )

    def _memory(self, depth: int) -> str:
        kind = self.random.choice(list(MEMORY))
        size = MEMORY[kind]
        place = f"(({self.expression('u32', 1)}) % {WINDOW // size} * {size})"
        pointer = f"*({kind}*)(window + {place})"
        if self.random.random() < 0.5:
            return f"{pointer} = {kind}({self.expression('u64' if size == 8 else 'u32', 2)});"
        if size == 8:
            return f"{self.random.choice(FIELDS['u64'])} ^= {pointer};"
        return f"{self.random.choice(FIELDS['u32'])} += u32({pointer});"

    def _array(self, depth: int) -> str:
        """An array with indices known only at run time: private memory on a GPU."""
        at = [self.expression("u32", 1) for _ in range(3)]
        first, second = (self.expression("u32", 2) for _ in range(2))
        return (
            f"{{ u32 t[{TABLE}]; for (u32 n = 0; n < {TABLE}; ++n) t[n] = s.u[n % 6] * n; "
            f"t[({at[0]}) % {TABLE}] += {first}; t[({at[1]}) % {TABLE}] ^= {second}; "
            f"{self.random.choice(FIELDS['u32'])} = t[({at[2]}) % {TABLE}]; }}"
        )

    def statements(self, count: int, depth: int) -> str:
        """Return `count` statements; branches and loops nest up to `depth`."""
        kinds: list[Callable[[int], str]] = [self._assign] * 6 + [self._memory] * 2
        if depth:
            kinds += [self._branch, self._branch, self._loop, self._array]
        return " ".join(self.random.choice(kinds)(depth) for _ in range(count))

    def _each(self) -> str:
        body = self.statements(self.random.randint(2, 6), 2)
        return f"g.each([](State& s, u32 lane, u8* window) {{ {body} }});"

    def _together(self) -> str:
        def value(depth: int) -> str:
            text = self.expression("u32", depth).replace("lane", "5u")
            return f"[](const State& s) -> u32 {{ return {text}; }}"

        target = self.random.choice(FIELDS["u32"])
        use = f"[](State& s, u32 got) {{ {target} += got; }}"
        match self.random.choice(
            ("exchange", "gather_sums", "shuffle", "neighbour", "first", "vote")
        ):
            case "neighbour":
                move, by = self.random.choice(
                    [("shift", self.random.randint(1, 15)), ("rotate", self.random.randint(1, 15)),
                     ("mirror", 0), ("half_mirror", 0), ("quads", self.random.randrange(256))]
                )  # fmt: skip
                return f"g.template neighbour<Move::{move}, {by}>({value(2)}, {use});"
            case "first":
                return f"g.first({value(2)}, {use});"
            case "vote":
                use = f"[](State& s, u64 got) {{ {self.random.choice(FIELDS['u64'])} ^= got; }}"
                return f"g.vote({value(2)}, {use});"
            case name:
                return f"g.{name}({value(2)}, {value(1)}, {use});"

    def kernel(self, name: str) -> str:
        """Return one kernel: steps of lanes by themselves and of lanes together."""
        steps = [self._each()]
        for _ in range(self.random.randint(1, 3)):
            steps += [self._together(), self._each()]
        return _kernel(name, "\n  ".join(steps))


def _file(kernels: Iterable[str]) -> str:
    return "\n".join([(HERE / "prelude.h").read_text(), (HERE / "group.h").read_text(), *kernels])


def _alone(name: str, kind: str, text: str, kinds: tuple[str, ...]) -> str:
    """Return a kernel that does one operation, its operands in different fields."""
    seen: Counter[str] = Counter()
    operands = []
    for k in kinds:
        operands.append(f"({FIELDS[k][seen[k] % len(FIELDS[k])]})")
        seen[k] += 1
    value = text.format(*operands)
    value = f"one_nan({value})" if kind[0] == "f" else value
    body = f"g.each([](State& s, u32 lane, u8* window) {{ {FIELDS[kind][0]} = {value}; }});"
    return _kernel(name, body)


def _kernel(name: str, body: str) -> str:
    return (
        f"struct Body_{name} {{ template <class G> STEP void operator()(G& g) const {{\n"
        f"  {body}\n}} }};\nKERNEL({name}) GROUPS(Body_{name}{{}})\n"
    )


def operations() -> list[str]:
    """Return the text of every operation, in the order of `operations_source`."""
    return [f"{kind}: {text}" for kind, found in OPERATIONS.items() for text, _ in found]


def operations_source() -> str:
    """Return a file with one kernel ``k0``, ``k1`` ... for every operation."""
    found = [(kind, *operation) for kind, many in OPERATIONS.items() for operation in many]
    return _file(_alone(f"k{n}", *operation) for n, operation in enumerate(found))


def source(seed: int, count: int) -> str:
    """Return a file of `count` kernels ``k0``, ``k1`` ...; the same for the same seed."""
    kernels = [Writer(random.Random(f"{seed}.{n}")).kernel(f"k{n}") for n in range(count)]
    return _file(kernels)
