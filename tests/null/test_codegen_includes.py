# SPDX-License-Identifier: MIT
"""Which headers a source depends on, and which includes are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiter_moe.codegen.includes import csrc_root, headers_of
from aiter_moe.errors import BuildError


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".h")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root.resolve()


def names(source: str, root: Path) -> list[str]:
    return [name for name, _ in headers_of(source, root)]


def test_headers_are_found_beside_the_includer_and_under_the_root(tmp_path: Path) -> None:
    root = tree(tmp_path, a__x='#include "y.h"\n# include <b/z.h> // why\n', a__y="", b__z="", y="")
    assert names('#include "a/x.h"', root) == ["a/x.h", "a/y.h", "b/z.h"]


def test_a_header_reached_twice_counts_once(tmp_path: Path) -> None:
    root = tree(tmp_path, x='#include "z.h"\n', y='#include "z.h"\n', z="")
    assert names('#include "x.h"\n#include "y.h"\n#include "x.h"\n', root) == ["x.h", "y.h", "z.h"]


def test_includes_in_comments_do_not_count_and_those_around_them_do(tmp_path: Path) -> None:
    root = tree(tmp_path, x="", y="")
    source = '// #include "no.h"\n/*\n#include "no.h"\n*/\nconst char* s = "/*";\n#include "x.h"\n'
    assert names(source + '#if 0\n#include \\\n "y.h" /* here */\n#endif\n', root) == ["x.h", "y.h"]


@pytest.mark.parametrize(
    "line",
    [
        "#include HEADER",
        "#include_next <x.h>",
        '#import "x.h"',
        '#embed "x.h"',
        '#include "x.h" HEADER',
        '#include "../x.h"',
        '#include "missing.h"',
        "#include <vector>",
        "#include <hip/hip_runtime.h>",
    ],
)
def test_includes_only_a_preprocessor_or_a_system_could_follow_are_refused(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "x.h").write_text("")
    root = tree(tmp_path / "csrc", x="", inner=line + "\n")
    with pytest.raises(BuildError, match=r"inner\.h") as caught:
        headers_of('#include "inner.h"\n', root)
    assert line.split()[1] in str(caught.value)


def test_a_cycle_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, x='#include "y.h"\n', y='#include "z.h"\n', z='#include "y.h"\n')
    with pytest.raises(BuildError, match=r"y\.h -> z\.h -> y\.h"):
        headers_of('#include "x.h"\n', root)


def test_every_header_of_the_package_can_be_followed() -> None:
    """But for those that lean on Composable Kernel, which take a preprocessor."""
    root = csrc_root()
    headers = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.h"))
    headers = [header for header in headers if not header.startswith("cktile/")]
    assert headers
    for header in headers:
        assert header in names(f'#include "{header}"\n', root)
