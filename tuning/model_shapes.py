# SPDX-License-Identifier: MIT
"""The models we ship untuned shape files for: their sizes as data, and the rows that follow.

Sizes are those of the models' published configuration, divided by the tensor-parallel degree
where the name says so. The files in ``tuning/shapes`` are written from here by
`write_files` (a test compares).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiter_moe import dtypes
from aiter_moe.configs.schema import PROBLEM_COLUMNS, format_dtype
from aiter_moe.enums import ActivationType, Kind, QuantType
from aiter_moe.errors import ConfigError
from aiter_moe.problem import Q_DTYPE_A

FOLDER = Path(__file__).parent / "shapes"

TIERS = tuple(1 << i for i in range(15))


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The MoE layer of one model as one rank sees it.

    Attributes
    ----------
    name : str
        File name without ``.csv``; ``-tp<n>`` where inter_dim is divided by n.
    hidden, inter : int
        hidden_size and the per-expert intermediate size of the model's configuration.
    experts, topk : int
        Routed experts, and experts per token.
    activation : ActivationType
        Swiglu means gpt-oss's clamped form, with biases in both projections.
    tensor_parallel : int
        Ranks that share the intermediate dimension.
    tokens : tuple of int
        Token tiers to tune.
    """

    name: str
    hidden: int
    inter: int
    experts: int
    topk: int
    activation: ActivationType
    tensor_parallel: int = 1
    tokens: tuple[int, ...] = TIERS


MODELS: tuple[ModelShape, ...] = (
    ModelShape("gptoss-20b", 2880, 2880, 32, 4, ActivationType.Swiglu),
    ModelShape("gptoss-20b-quick", 2880, 2880, 32, 4, ActivationType.Swiglu, tokens=(1, 16, 128)),
    ModelShape("gptoss-120b", 2880, 2880, 128, 4, ActivationType.Swiglu),
    ModelShape("minimax-m2-tp4", 3072, 1536, 256, 8, ActivationType.Silu, 4),
    ModelShape("minimax-m2-tp8", 3072, 1536, 256, 8, ActivationType.Silu, 8),
    ModelShape("deepseek-r1-tp8", 7168, 2048, 256, 8, ActivationType.Silu, 8),
    ModelShape("kimi-k2-tp8", 7168, 2048, 384, 8, ActivationType.Silu, 8),
    ModelShape("qwen3-235b-tp4", 4096, 1536, 128, 8, ActivationType.Silu, 4),
    ModelShape("qwen3-235b-tp8", 4096, 1536, 128, 8, ActivationType.Silu, 8),
)


def rows(model: ModelShape) -> list[dict[str, str]]:
    """Return the untuned rows of a model: every token tier as a16w4, then every one as a4w4."""
    fixed = {
        "model_dim": str(model.hidden),
        "inter_dim": str(model.inter // model.tensor_parallel),
        "expert": str(model.experts),
        "topk": str(model.topk),
        "act_type": str(model.activation),
        "dtype": format_dtype(dtypes.bf16),
        "q_dtype_w": format_dtype(dtypes.fp4x2),
        "q_type": str(QuantType.per_1x32),
        "use_g1u1": "1",
        "doweight_stage1": "0",
    }
    found = [
        {"token": str(token), "q_dtype_a": format_dtype(Q_DTYPE_A[kind]), **fixed}
        for kind in Kind
        for token in model.tokens
    ]
    return [{column: row[column] for column in PROBLEM_COLUMNS} for row in found]


def csv_text(model: ModelShape) -> str:
    """Return the text of a model's untuned file."""
    lines = [",".join(PROBLEM_COLUMNS), *(",".join(row.values()) for row in rows(model))]
    return "\n".join(lines) + "\n"


def write_files(folder: Path = FOLDER) -> list[Path]:
    """Write every model's untuned file into `folder` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for model in MODELS:
        path = folder / f"{model.name}.csv"
        path.write_text(csv_text(model), encoding="utf-8")
        paths.append(path)
    return paths


def packaged(name: str) -> Path:
    """Return the path of the untuned file called `name`, with or without ``.csv``.

    Raises
    ------
    ConfigError
        If no file of that name is packaged; the message lists those that are.
    """
    path = FOLDER / f"{name.removesuffix('.csv')}.csv"
    if path.is_file() and path.parent == FOLDER:
        return path
    known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.csv")))
    raise ConfigError(f"no packaged shape file {name!r}; there are {known}")
