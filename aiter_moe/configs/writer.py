# SPDX-License-Identifier: MIT
"""Write tuned rows: merge into a file by key and replace it in one step, never half written.

Rows and columns of others stay. Only the tuner calls this; look-ups write nothing.
"""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aiter_moe.configs import schema
from aiter_moe.configs.reader import Record, Sheet, key_of, read_sheet
from aiter_moe.configs.table import Key, Row
from aiter_moe.durable import replacing, try_draft
from aiter_moe.errors import ConfigError
from aiter_moe.log import warn_once


def cells_of(row: Row) -> dict[str, str]:
    """Return a row as text cells by column, the inverse of `configs.reader.row_of`."""
    key = row.key
    return {
        "gfx": key.gfx,
        "cu_num": str(key.cu_num),
        "token": str(key.token),
        "model_dim": str(key.model_dim),
        "inter_dim": str(key.inter_dim),
        "expert": str(key.expert),
        "topk": str(key.topk),
        "act_type": str(key.act_type),
        "dtype": schema.format_dtype(key.dtype),
        "q_dtype_a": schema.format_dtype(key.q_dtype_a),
        "q_dtype_w": schema.format_dtype(key.q_dtype_w),
        "q_type": str(key.q_type),
        "use_g1u1": schema.format_bool(key.use_g1u1),
        "doweight_stage1": schema.format_bool(key.doweight_stage1),
        "block_m": str(row.block_m),
        "ksplit": str(row.ksplit),
        "us1": schema.format_number(row.us1),
        "kernelName1": row.kernel1,
        "err1": schema.format_percent(row.err1),
        "us2": schema.format_number(row.us2),
        "kernelName2": row.kernel2,
        "err2": schema.format_percent(row.err2),
        "us": schema.format_number(row.us),
        "run_1stage": schema.format_bool(row.run_1stage),
        "xbf16": "0",
        "flat": "0",
        "tflops": schema.format_number(row.tflops),
        "bw": schema.format_number(row.bw),
        "source": row.source,
        "template_hash": row.template_hash,
        "compiler": row.compiler,
        "repeats": str(row.repeats),
        **dict(row.extra),
        **({"_tag": row.tag} if row.tag else {}),
    }


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Merge `rows` into the tuned file at `path`, which may not exist yet.

    A row replaces those of its key; all other rows and all columns stay. Lines are sorted by
    key. The file changes by one rename; concurrent writers of a folder wait for each other.

    Parameters
    ----------
    path : str or pathlib.Path
        Tuned CSV; a symbolic link is followed.
    rows : iterable of Row
        Of several with one key the last counts.

    Raises
    ------
    ConfigError
        If the file exists but is no tuned CSV, or cannot be written. Nothing has changed then.
    """
    path = Path(path).resolve()
    new = {row.key: cells_of(row) for row in rows}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _folder_lock(path.parent):
            header, merged = _merge(_existing(path), new)
            _replace(path, _text(header, merged))
    except OSError as error:
        raise _unwritable(path, error) from error


def require_writable(path: str | Path) -> None:
    """Check that `write_rows` can write `path`, before hours of work; make its folder.

    Raises
    ------
    ConfigError
        If the file is no tuned CSV, or its folder cannot be made or written.
    """
    path = Path(path).resolve()
    try:
        try_draft(path)
        _existing(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{path}: cannot be written: {error.strerror or error}; choose another output file"
    )


def _existing(path: Path) -> Sheet:
    if not path.exists() or path.stat().st_size == 0:
        return Sheet((), ())
    return read_sheet(path, schema.REQUIRED_TUNED)


def _kept(record: Record, new: Mapping[Key, object]) -> bool:
    return record.text("_tag") == schema.FALLBACK_TAG or key_of(record) not in new


def _merge(
    sheet: Sheet, new: Mapping[Key, dict[str, str]]
) -> tuple[list[str], list[dict[str, str]]]:
    """Return the header and the cells of the merged file."""
    keyed = [(key_of(r), dict(r.cells)) for r in sheet.records if _kept(r, new)]
    keyed += list(new.items())
    keyed.sort(key=lambda pair: pair[0].sort_key())
    merged = [{"gfx": key.gfx} | cells for key, cells in keyed]
    header = list(sheet.header or schema.TUNED_COLUMNS)
    if "gfx" not in header:
        header.insert(0, "gfx")
    wanted = [*schema.TUNED_COLUMNS, *(name for cells in new.values() for name in cells)]
    header += [name for name in dict.fromkeys(wanted) if name not in header]
    return header, merged


def _text(header: list[str], rows: Iterable[Mapping[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cells.get(name, "") for name in header] for cells in rows)
    return buffer.getvalue()


def _replace(path: Path, text: str) -> None:
    """Put `text` in place of `path`, which keeps its permissions."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666
    with (
        replacing(path) as draft,
        os.fdopen(os.open(draft, flags, mode), "w", encoding="utf-8", newline="") as file,
    ):
        file.write(text)


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Hold an advisory lock on the folder itself: no lock file, freed when the holder dies."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # Some network file systems lock no folders; the rename alone keeps files whole.
            if error.errno not in (errno.ENOLCK, errno.EBADF, errno.EINVAL, errno.ENOTSUP):
                raise
            warn_once(
                ("folder lock", str(folder)),
                f"{folder}: cannot be locked ({error.strerror}); run one tuner at a time here",
            )
        yield
    finally:
        os.close(descriptor)
