# SPDX-License-Identifier: MIT
"""Shape files: what is committed is what the model facts say, and loads as problems."""

import pytest

from aiter_moe.configs.reader import read_untuned
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import ConfigError
from aiter_moe.problem import token_tier
from aiter_moe.tuning import model_shapes as shapes
from aiter_moe.tuning.tune import problems_of


@pytest.mark.parametrize("model", shapes.MODELS, ids=lambda m: m.name)
def test_a_committed_shape_file_is_what_its_model_says(model):
    assert shapes.packaged(model.name).read_text(encoding="utf-8") == shapes.csv_text(model)


def test_the_committed_files_are_those_that_are_written(tmp_path):
    written = {path.name: path.read_text() for path in shapes.write_files(tmp_path)}
    assert written == {path.name: path.read_text() for path in shapes.FOLDER.glob("*.csv")}


def test_no_shape_file_is_without_a_model():
    assert {p.stem for p in shapes.FOLDER.glob("*.csv")} == {m.name for m in shapes.MODELS}


@pytest.mark.parametrize("model", shapes.MODELS, ids=lambda m: m.name)
def test_a_shape_file_loads_as_one_problem_per_tier_and_kind(model):
    problems = problems_of(shapes.packaged(model.name))
    assert [p.token for p in problems if p.kind is Kind.A16W4] == list(model.tokens)
    assert [p.token for p in problems if p.kind is Kind.A4W4] == list(model.tokens)
    assert all(token_tier(p.token) == p.token for p in problems)
    assert {p.inter_dim for p in problems} == {model.inter // model.tensor_parallel}


@pytest.mark.parametrize(
    ("name", "inter"), [("minimax-m2-tp4", 384), ("minimax-m2-tp8", 192), ("deepseek-r1-tp8", 256),
                        ("kimi-k2-tp8", 256), ("qwen3-235b-tp4", 384), ("qwen3-235b-tp8", 192)],
)  # fmt: skip
def test_tensor_parallel_shapes_divide_the_intermediate_size(name, inter):
    assert {p.inter_dim for p in read_untuned(shapes.packaged(name))} == {inter}


def test_swiglu_problems_have_a_bias_and_silu_problems_have_none():
    for model in shapes.MODELS:
        swiglu = model.activation is ActivationType.Swiglu
        assert {p.has_bias for p in problems_of(shapes.packaged(model.name))} == {swiglu}


def test_a_has_bias_column_gives_other_activations_a_bias(tmp_path):
    text = shapes.csv_text(shapes.MODELS[3]).splitlines()
    path = tmp_path / "untuned.csv"
    path.write_text(f"{text[0]},has_bias\n{text[1]},1\n{text[2]},0\n")
    assert [p.has_bias for p in problems_of(path)] == [True, False]


def test_an_unknown_shape_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"no packaged shape file 'gpt5'.*gptoss-20b-quick"):
        shapes.packaged("gpt5")


def test_a_shape_name_cannot_leave_the_folder():
    with pytest.raises(ConfigError, match="no packaged shape file"):
        shapes.packaged("../../pyproject")
