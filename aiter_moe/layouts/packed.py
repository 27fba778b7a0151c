# SPDX-License-Identifier: MIT
"""`PackedWeight`: one MXFP4 weight of all experts, with codes, scales, layout and logical shape.

A tensor subclass, so that parameters, state dicts, ``.to`` and ``torch.save`` carry the layout
along. What keeps it one is `aiter_moe.layouts.packed_ops`; files are
`aiter_moe.layouts.safetensors_file`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch

from aiter_moe.errors import LayoutError
from aiter_moe.formats import MX_BLOCK, code_bytes, scale_bytes
from aiter_moe.layouts import packed_ops
from aiter_moe.layouts.adopt import adopt
from aiter_moe.layouts.conversion import Parts, converted
from aiter_moe.layouts.layout import Layout
from aiter_moe.layouts.marks import refuse_shuffled
from aiter_moe.layouts.packing import Packing, check_packing, physical_size, stacked_scales

METADATA_KEY = "packed_weight"


def _refuse(method: str) -> Callable[..., NoReturn]:
    def refuse(self: PackedWeight, *_args: object, **_kwargs: object) -> NoReturn:
        raise LayoutError(
            f"{method}: a packed weight in {self.layout} has no single memory; take .codes and "
            ".scales for the bytes, or .unpack() for row-major tensors"
        )

    return refuse


class PackedWeight(torch.Tensor):
    """One MXFP4 weight of all experts in a known layout.

    As a tensor it looks like its row-major codes, uint8 [experts, rows, cols/2]. It can be a
    frozen parameter, be moved, cloned, sliced by expert, saved and loaded; any other tensor
    operation raises `LayoutError`.

    Parameters
    ----------
    codes : torch.Tensor
        uint8, contiguous, in `layout`: [experts, physical_rows, physical_cols/2], or panels
        [experts, physical_rows/64, physical_cols/32 * 1088].
    scales : torch.Tensor
        uint8 [at least experts * physical_rows, scale_cols], contiguous, in `layout`; [0, 0]
        where they lie among the codes, in panels.
    layout : Layout
        How the bytes lie.
    rows, cols : int
        Logical N and K in elements. A shuffled layout pads columns to a multiple of 64, panels
        pad rows to one.

    Raises
    ------
    LayoutError
        The tensors cannot be what `layout` says.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    packing: Packing

    def __new__(
        cls, codes: torch.Tensor, scales: torch.Tensor, layout: Layout, rows: int, cols: int
    ) -> PackedWeight:
        """Check and wrap; see the class."""
        packing = Packing(layout, rows, cols)
        check_packing(codes, scales, packing)
        return cls._wrap(codes, scales, packing)

    @classmethod
    def _wrap(cls, codes: torch.Tensor, scales: torch.Tensor, packing: Packing) -> PackedWeight:
        shape = (codes.shape[0], packing.rows, packing.cols // 2)
        made: PackedWeight = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=torch.uint8, device=codes.device
        )
        made.codes, made.scales, made.packing = codes, scales, packing
        return made

    @classmethod
    def pack(
        cls, codes: torch.Tensor, scales: torch.Tensor, layout: Layout = Layout.SHUFFLED
    ) -> PackedWeight:
        """Lay a row-major weight out, padding with code 0 and scale 0x7F.

        Parameters
        ----------
        codes : torch.Tensor
            uint8 or fp4x2 [E, N, K/2], K a multiple of 32.
        scales : torch.Tensor
            uint8 or e8m0 [E, N, K/32] or [E * N, K/32].
        layout : Layout
            PLAIN keeps the given memory where it is contiguous.

        Raises
        ------
        LayoutError
            A tensor is already shuffled, or N is not a multiple of 32 (all but PLAIN and PANEL).
        DtypeError
            Other dtypes.
        ArgumentError
            Shapes that do not belong together.
        """
        for given in (codes, scales):
            refuse_shuffled(given, "PackedWeight.pack")
        plain, groups = code_bytes(codes), scale_bytes(scales)
        flat = stacked_scales(plain, groups)
        rows, cols = plain.shape[1], plain.shape[2] * 2
        if layout is Layout.PLAIN:
            return cls(plain.contiguous(), flat.contiguous(), layout, rows, cols)
        made = converted(Parts(plain, flat), Packing(Layout.PLAIN, rows, cols), layout)
        return cls(made.codes, made.scales, layout, rows, cols)

    @classmethod
    def from_aiter(
        cls, weight: torch.Tensor, scale: torch.Tensor, *, gate_up: bool | None, name: str
    ) -> PackedWeight:
        """Wrap tensors as aiter's callers hold them; never copies.

        Parameters
        ----------
        weight : torch.Tensor
            uint8 or fp4x2 [E, N, K/2], row-major or marked ``is_shuffled``.
        scale : torch.Tensor
            uint8 or e8m0; row-major [E * N, K/32] or [E, N, K/32], or shuffled [E * N or padded
            to 256, columns padded to 8] or [E, N, columns].
        gate_up : bool or None
            True: gate and up rows are expected interleaved. False: not (also w2). None: as the
            marks say; a foreign ``is_shuffled`` alone then means not interleaved.
        name : str
            ``w1`` or ``w2``, for messages.

        Returns
        -------
        PackedWeight
            Logical sizes equal the physical ones: a border tensor does not tell its padding.

        Raises
        ------
        LayoutError
            The marks of weight and scale, `gate_up` and the shapes contradict one another.
        DtypeError
            Other dtypes.
        ArgumentError
            Shapes that no layout explains.
        """
        codes, scales, layout = adopt(weight, scale, gate_up, name)
        try:
            return cls(codes, scales, layout, codes.shape[1], codes.shape[2] * 2)
        except LayoutError as error:
            raise LayoutError(f"{name}: {error}") from None

    def unpack(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return row-major uint8 codes [E, N, K/2] and scales [E, N, K/32], padding cut off."""
        plain = self.to_layout(Layout.PLAIN)
        scales = plain.scales[: self.experts * self.rows]
        return plain.codes, scales.view(self.experts, self.rows, self.cols // MX_BLOCK)

    def to_layout(self, layout: Layout) -> PackedWeight:
        """Return the same weight in another layout; itself when it already lies so.

        Beside the result, a few times one expert takes extra memory.

        Raises
        ------
        LayoutError
            N is not a multiple of 32 and `layout` is neither PLAIN nor PANEL.
        """
        if layout is self.layout:
            return self
        made = converted(Parts(self.codes, self.scales), self.packing, layout)
        return type(self)(made.codes, made.scales, layout, self.rows, self.cols)

    @property
    def layout(self) -> Layout:  # type: ignore[override]
        """How the bytes lie; takes the place of torch's strided/sparse tag."""
        return self.packing.layout

    @property
    def experts(self) -> int:
        """Experts held."""
        return int(self.codes.shape[0])

    @property
    def rows(self) -> int:
        """Logical N of one expert."""
        return self.packing.rows

    @property
    def cols(self) -> int:
        """Logical K in elements."""
        return self.packing.cols

    @property
    def physical_rows(self) -> int:
        """Rows in memory: `rows`, up to whole panels where they lie in panels."""
        return physical_size(self.packing)[0]

    @property
    def physical_cols(self) -> int:
        """K in memory, in elements."""
        return physical_size(self.packing)[1]

    @property
    def scale_cols(self) -> int:
        """Scale columns in memory; 0 where scales lie among the codes."""
        return int(self.scales.shape[1])

    @property
    def is_shuffled(self) -> bool:
        """Aiter's attribute, answered from the layout."""
        return self.layout is not Layout.PLAIN

    @is_shuffled.setter
    def is_shuffled(self, value: bool) -> None:
        if value is not self.is_shuffled:
            raise LayoutError(f"is_shuffled = {value} contradicts {self.layout}; use .to_layout")

    def rebuild(self, codes: torch.Tensor, scales: torch.Tensor) -> PackedWeight:
        """Return the same packing around other bytes of the same kind (copies, slices)."""
        return type(self)._wrap(codes, scales, self.packing)

    def to_tensors(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """Return the bytes as plain tensors, named ``<prefix>.codes`` and ``<prefix>.scales``."""
        return {_key(prefix, "codes"): self.codes, _key(prefix, "scales"): self.scales}

    def metadata(self, prefix: str = "") -> dict[str, str]:
        """Return layout and logical size as one text entry, ``<prefix>.packed_weight``."""
        about = {"layout": self.layout.value, "rows": self.rows, "cols": self.cols}
        return {_key(prefix, METADATA_KEY): json.dumps(about)}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], prefix: str = ""
    ) -> PackedWeight:
        """Undo `to_tensors` and `metadata`.

        Raises
        ------
        LayoutError
            An entry is missing, or the tensors are not what the metadata says.
        """
        try:
            about = json.loads(metadata[_key(prefix, METADATA_KEY)])
            layout, rows, cols = Layout(about["layout"]), int(about["rows"]), int(about["cols"])
            codes, scales = tensors[_key(prefix, "codes")], tensors[_key(prefix, "scales")]
        except (KeyError, TypeError, ValueError) as error:
            raise LayoutError(
                f"no packed weight {prefix!r} here ({error!r}); found tensors "
                f"{sorted(tensors)} and metadata {sorted(metadata)}; files are written by "
                "save_packed"
            ) from None
        return cls(codes, scales, layout, rows, cols)

    def share_memory_(self) -> PackedWeight:
        """Move codes and scales to shared memory, in place."""
        self.codes.share_memory_()  # type: ignore[no-untyped-call]
        self.scales.share_memory_()  # type: ignore[no-untyped-call]
        return self

    def is_shared(self) -> bool:
        """Whether codes and scales lie in shared memory."""
        parts = (self.codes, self.scales)
        return all(part.is_shared() for part in parts)  # type: ignore[no-untyped-call]

    @property
    def data(self) -> PackedWeight:
        """The same weight, detached; assigning is refused, because it would leave the bytes."""
        return self.detach()  # type: ignore[return-value]

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        raise LayoutError(
            f".data = of a packed weight in {self.layout} would leave its codes and scales behind; "
            "use copy_ with another packed weight, or replace the parameter"
        )

    # What torch answers from a storage without asking __torch_dispatch__, some of it by a crash.
    data_ptr = _refuse("data_ptr")
    numpy = _refuse("numpy")
    tolist = _refuse("tolist")
    apply_ = _refuse("apply_")
    map_ = _refuse("map_")
    map2_ = _refuse("map2_")
    __array__ = _refuse("numpy")
    __dlpack__ = _refuse("dlpack")

    def __repr__(self) -> str:  # type: ignore[override]
        return (
            f"PackedWeight({self.layout}, experts={self.experts}, rows={self.rows}, "
            f"cols={self.cols}, device={self.device})"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedWeight:
        if id(self) not in memo:
            made = self.rebuild(copy.deepcopy(self.codes, memo), copy.deepcopy(self.scales, memo))
            memo[id(self)] = _as_parameter(made, _is_parameter(self))
        found: PackedWeight = memo[id(self)]
        return found

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        parts = (self.codes, self.scales, self.layout.value, self.rows, self.cols)
        return restore_packed_weight, (*parts, _is_parameter(self))

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: packed_ops.Operation,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        return packed_ops.run(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], Packing]:
        return ["codes", "scales"], self.packing

    @classmethod
    def __tensor_unflatten__(
        cls,
        inner: Mapping[str, torch.Tensor],
        packing: Packing,
        outer_size: object,
        outer_stride: object,
    ) -> PackedWeight:
        return cls._wrap(inner["codes"], inner["scales"], packing)


def restore_packed_weight(
    codes: torch.Tensor, scales: torch.Tensor, layout: str, rows: int, cols: int, parameter: bool
) -> PackedWeight:
    """Rebuild a pickled `PackedWeight`; ``torch.load(weights_only=True)`` may call it.

    Raises
    ------
    LayoutError
        The tensors are not what the layout says.
    """
    return _as_parameter(PackedWeight(codes, scales, Layout(layout), rows, cols), parameter)


def _is_parameter(weight: PackedWeight) -> bool:
    return isinstance(weight, torch.nn.Parameter)


def _as_parameter(weight: PackedWeight, wanted: bool) -> PackedWeight:
    made: PackedWeight = torch.nn.Parameter(weight, requires_grad=False) if wanted else weight  # type: ignore[assignment]
    return made


def _key(prefix: str, field: str) -> str:
    return f"{prefix}.{field}" if prefix else field


# The one thing importing registers: that weights_only loading may rebuild a PackedWeight.
torch.serialization.add_safe_globals([restore_packed_weight])
