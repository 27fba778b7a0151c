# SPDX-License-Identifier: MIT
"""What does and what does not change the key of an artifact."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from codegen_fakes import fake_compiler, unit
from hypothesis import given
from hypothesis import strategies as st

from aiter_moe.codegen.build import ensure, is_cached
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.compiler import expand
from aiter_moe.codegen.key import KeyInputs, artifact_key, source_key
from aiter_moe.codegen.unit import BuildUnit

SOURCE = '#include "a/outer.h"\nint main();\n'


@pytest.fixture
def csrc(tmp_path: Path) -> Path:
    root = tmp_path / "one" / "csrc"
    (root / "a").mkdir(parents=True)
    (root / "a" / "outer.h").write_text('#include "inner.h"\n#include <stdint.h>\n')
    (root / "a" / "inner.h").write_text("struct Inner {};\n")
    (root / "a" / "stranger.h").write_text("struct Stranger {};\n")
    return root


@pytest.fixture(autouse=True)
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = fake_compiler(tmp_path / "bin" / "g++").path
    monkeypatch.setenv("CXX", str(path))
    return path


def key(built: BuildUnit, csrc: Path) -> str:
    return is_cached(built, ArtifactCache(csrc.parent / "cache"), csrc)[0]


def test_two_install_folders_give_the_same_key_and_artifact(
    csrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "another" / "deep" / "csrc"
    shutil.copytree(csrc, other)
    first = ensure(unit(SOURCE), ArtifactCache(tmp_path / "cache 1"), csrc)
    monkeypatch.setenv("CXX", str(fake_compiler(tmp_path / "elsewhere" / "g++").path))
    second = ensure(unit(SOURCE), ArtifactCache(tmp_path / "cache 2"), other)
    assert first.key == second.key
    assert first.path.read_bytes() == second.path.read_bytes()


def test_a_warm_cache_serves_another_install_folder(csrc: Path, tmp_path: Path) -> None:
    other = tmp_path / "another" / "csrc"
    shutil.copytree(csrc, other)
    cache = ArtifactCache(tmp_path / "cache")
    ensure(unit(SOURCE), cache, csrc)
    assert is_cached(unit(SOURCE), cache, other)[1]


def test_no_path_and_no_time_of_the_build_stands_in_the_manifest(
    csrc: Path, tmp_path: Path
) -> None:
    artifact = ensure(unit(SOURCE), ArtifactCache(tmp_path / "cache"), csrc)
    text = artifact.path.with_name("manifest.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["command"].startswith("g++ -O3 -std=c++20")


@pytest.mark.parametrize("header", ["outer.h", "inner.h"])
def test_a_changed_header_changes_the_key(csrc: Path, header: str) -> None:
    before = key(unit(SOURCE), csrc)
    with (csrc / "a" / header).open("a") as file:
        file.write("// more\n")
    assert key(unit(SOURCE), csrc) != before


def test_a_header_changed_back_gives_the_first_key_again(csrc: Path) -> None:
    path = csrc / "a" / "inner.h"
    before, contents = key(unit(SOURCE), csrc), path.read_text()
    path.write_text("struct Other {};\n")
    assert key(unit(SOURCE), csrc) != before
    path.write_text(contents)
    assert key(unit(SOURCE), csrc) == before


def test_a_header_nobody_includes_does_not_change_the_key(csrc: Path) -> None:
    before = key(unit(SOURCE), csrc)
    (csrc / "a" / "stranger.h").write_text("struct Changed {};\n")
    assert key(unit(SOURCE), csrc) == before


def test_source_flags_and_compiler_version_change_the_key(csrc: Path, compiler: Path) -> None:
    keys = [
        key(unit(SOURCE), csrc),
        key(unit(SOURCE + "\n"), csrc),
        key(unit(SOURCE, ("-mfma",)), csrc),
        key(unit(SOURCE, ("-mfma", "-mavx2")), csrc),
        key(unit(SOURCE, ("-mfma-mavx2",)), csrc),
    ]
    fake_compiler(compiler, "g++ (Fake) 13.2.0")
    keys.append(key(unit(SOURCE), csrc))
    assert len(set(keys)) == len(keys)


def test_options_inside_cxx_change_the_key(
    csrc: Path, compiler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(unit(SOURCE), csrc)
    monkeypatch.setenv("CXX", f"{compiler} -fno-inline")
    # The fake answers --version only as its first word.
    compiler.write_text(compiler.read_text().replace('"$1" = --version', '"$2" = --version'))
    assert key(unit(SOURCE), csrc) != before


def test_target_and_recipe_change_the_key() -> None:
    def made(target: str = "cpu", recipe: tuple[tuple[str, ...], ...] = (("{cxx}",),)) -> str:
        return artifact_key(KeyInputs(BuildUnit("k", target, "k.x", "x"), (), recipe, "c"))

    assert len({made(), made("gfx950"), made(recipe=(("{cxx}", "-O2"),))}) == 3


words = st.lists(st.text(max_size=4), max_size=4)


@given(words, words)
def test_different_flag_lists_never_share_a_key(one: list[str], two: list[str]) -> None:
    keys = [source_key(unit("x", tuple(flags)), ()) for flags in (one, two)]
    assert (keys[0] == keys[1]) == (one == two)


@given(
    st.dictionaries(st.text(max_size=3), st.binary(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.binary(max_size=3), max_size=3),
)
def test_different_headers_never_share_a_key(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    keys = [source_key(unit("x"), tuple(sorted(headers.items()))) for headers in (one, two)]
    assert (keys[0] == keys[1]) == (one == two)


def test_words_of_a_unit_are_never_taken_for_tokens() -> None:
    values = {"flags": ("-DA={csrc}",), "csrc": ("/where",)}
    assert expand(("{flags}", "-I{csrc}"), values) == ["-DA={csrc}", "-I/where"]
