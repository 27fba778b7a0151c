# SPDX-License-Identifier: MIT
"""Where compiled kernels are kept: immutable entries named by their key.

An entry is a folder ``<root>/<target>/<key[:2]>/<key>`` that holds the artifact, its source,
the compiler's log and manifest.json; it is filled elsewhere and appears by one rename. Looking
up writes nothing. What the key is made of is `codegen.key`.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aiter_moe import env
from aiter_moe.codegen.lock import key_lock
from aiter_moe.codegen.unit import Artifact
from aiter_moe.durable import flush_file, flush_folder
from aiter_moe.errors import CacheError
from aiter_moe.log import warn_once

MANIFEST = "manifest.json"
LOG = "build.log"

# A network file system may show the winner of a rename late (seconds between looks).
WINNER_DELAYS = (0.0, 0.05, 0.2, 0.5)
ABANDONED_SECONDS = 86400.0
PRIVATE_ATTEMPTS = 10
REMOVE_DELAYS = (0.0, 0.01, 0.1, 0.5)


class DamagedEntryError(Exception):
    """An entry's files do not agree with its manifest; internal, such an entry is rebuilt."""


class ArtifactCache:
    """A writable root and read-only roots searched after it.

    Parameters
    ----------
    root : Path
        Where new entries go; made when the first one is built.
    extra : sequence of Path
        Further roots that are only read.
    origin : str
        The setting that named `root`. Where it cannot be written, a named root is an error;
        a default one (empty `origin`) gives way to a temporary folder.
    """

    def __init__(self, root: Path, extra: Sequence[Path] = (), origin: str = "") -> None:
        self.root = root
        self.extra = tuple(extra)
        self.origin = origin
        self._instead: Path | None = None

    @property
    def write_root(self) -> Path:
        """Root that new entries go to, as far as it is known yet."""
        return self._instead or self.root

    def roots(self) -> tuple[Path, ...]:
        """Return every root, in the order they are searched."""
        return tuple(dict.fromkeys((self.write_root, self.root, *self.extra)))

    def find(self, target: str, key: str, artifact_name: str) -> Artifact | None:
        """Return the intact artifact of `key`, or None; a damaged one is announced once."""
        for root in self.roots():
            entry = entry_path(root, target, key)
            try:
                artifact = read_entry(entry, key, artifact_name)
            except DamagedEntryError as error:
                warn_once(("damaged", str(entry)), f"{entry}: {error}; the kernel is rebuilt")
                continue
            if artifact is not None:
                return artifact
        return None

    def find_source(
        self, target: str, source_key: str, machine: str, artifact_name: str
    ) -> Artifact | None:
        """Return an artifact made from a source by any compiler, the least key first, or None."""
        manifests = (sorted((root / target).glob(f"??/*/{MANIFEST}")) for root in self.roots())
        for path in itertools.chain.from_iterable(manifests):
            manifest = _read_manifest(path)
            if (manifest.get("source_key"), manifest.get("machine")) != (source_key, machine):
                continue
            with contextlib.suppress(DamagedEntryError):
                return read_entry(path.parent, path.parent.name, artifact_name)
        return None

    @contextlib.contextmanager
    def private_folder(self, target: str) -> Iterator[Path]:
        """Make a folder on the file system of the entries, and remove what is left of it after.

        Raises
        ------
        CacheError
            If the root was named by a setting and cannot be written.
        """
        folder = self._make_private(target)
        try:
            yield folder
        finally:
            _remove(folder)
            with contextlib.suppress(OSError):  # others may be building
                folder.parent.rmdir()

    def settle(self, target: str) -> Path:
        """Return the root that new entries go to, having tried it; other processes can share it.

        Raises
        ------
        CacheError
            As `private_folder`.
        """
        with self.private_folder(target):
            return self.write_root

    def lock(self, key: str, what: str) -> contextlib.AbstractContextManager[bool]:
        """Hold the lock of `key` (`codegen.lock.key_lock`)."""
        return key_lock(self.write_root / "locks", key, what)

    def publish(self, folder: Path, target: str, key: str, artifact_name: str) -> Artifact:
        """Turn a filled private folder into the entry of `key`, or take the one already there.

        Raises
        ------
        CacheError
            If the entry cannot be written.
        """
        entry = entry_path(self.write_root, target, key)
        try:
            _flush(folder)
            entry.parent.mkdir(parents=True, exist_ok=True)
            for delay in WINNER_DELAYS:
                time.sleep(delay)
                artifact = _rename_or_winner(folder, entry, key, artifact_name)
                if artifact is not None:
                    return artifact
            own = temporary_root() / f"{key}-{uuid.uuid4().hex}"
            shutil.copytree(folder, own)
        except OSError as error:
            raise CacheError(f"cannot keep a kernel in {entry.parent}: {error}") from error
        return _expect(own, key, artifact_name)

    def keep_failure(self, folder: Path, target: str, key: str) -> Path:
        """Move the private folder of a failed build to a place that stays; return that place."""
        kept = self.write_root / target / "failed" / key
        kept.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _discard(kept, folder.parent)
        try:
            folder.rename(kept)
        except OSError:
            kept = kept.with_name(f"{key}-{uuid.uuid4().hex[:8]}")
            folder.rename(kept)
        return kept

    def _make_private(self, target: str) -> Path:
        try:
            return _private_in(self.write_root / target / "building")
        except OSError as error:
            if self.origin:
                raise CacheError(
                    f"cannot write kernels to {self.root}, named by {self.origin}: "
                    f"{error.strerror or error}; name a folder you may write, or leave "
                    f"{self.origin} out to use your own cache folder"
                ) from error
            self._instead = temporary_root()
            warn_once(
                ("unwritable cache", str(self.root)),
                f"cannot write kernels to {self.root} ({error.strerror or error}); they go to "
                f"{self._instead} and are lost when this process ends; set "
                f"{env.CACHE_DIR.name} to a folder that stays",
            )
            return _private_in(self._instead / target / "building")


def default_cache() -> ArtifactCache:
    """Return the cache by environment: AITER_MOE_CACHE_DIR or the user's, then prebuilt kernels."""
    explicit = env.CACHE_DIR.text()
    if explicit:
        root, origin = Path(explicit).expanduser().absolute(), env.CACHE_DIR.name
    else:
        root, origin = _user_root(), ""
    return ArtifactCache(root, (prebuilt_root(),), origin)


@functools.cache
def prebuilt_root() -> Path:
    """Return the package's folder of kernels built at install time; it need not exist."""
    spec = importlib.util.find_spec("aiter_moe")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "prebuilt"


@functools.cache
def temporary_root() -> Path:
    """Make the folder for kernels of this process alone; it is removed when the process ends."""
    root, owner = Path(tempfile.mkdtemp(prefix="aiter_moe_")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(root, ignore_errors=True)

    atexit.register(remove)
    return root


def entry_path(root: Path, target: str, key: str) -> Path:
    """Return the folder of an entry."""
    return root / target / key[:2] / key


def read_entry(entry: Path, key: str, artifact_name: str) -> Artifact | None:
    """Return the artifact of an entry, or None if there is no such entry.

    Raises
    ------
    DamagedEntryError
        If the entry is incomplete or its artifact is not the one its manifest describes.
    """
    if not entry.is_dir():
        return None
    manifest = _read_manifest(entry / MANIFEST)
    if manifest.get("key") != key:
        raise DamagedEntryError("its manifest is missing or belongs to another entry")
    path = entry / artifact_name
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DamagedEntryError(f"{artifact_name} cannot be read ({error.strerror})") from error
    if digest != manifest.get("sha256"):
        raise DamagedEntryError(f"{artifact_name} is truncated or altered")
    return Artifact(path, key, manifest)


def write_manifest(folder: Path, artifact_name: str, facts: dict[str, Any]) -> None:
    """Write manifest.json of a private folder, with the size and SHA-256 of its artifact."""
    contents = (folder / artifact_name).read_bytes()
    digest = hashlib.sha256(contents).hexdigest()
    facts = {**facts, "bytes": len(contents), "sha256": digest}
    (folder / MANIFEST).write_text(json.dumps(facts, indent=1) + "\n")


def _user_root() -> Path:
    import platformdirs

    try:
        return Path(platformdirs.user_cache_dir("aiter_moe"))
    except RuntimeError:  # a container's user with neither HOME nor an entry in passwd
        return Path("/nonexistent/.cache/aiter_moe")  # whence a temporary folder takes over


def _read_manifest(path: Path) -> dict[str, Any]:
    """Return a manifest, empty where it is missing or no JSON object."""
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _expect(entry: Path, key: str, artifact_name: str) -> Artifact:
    try:
        artifact = read_entry(entry, key, artifact_name)
    except DamagedEntryError as error:
        raise CacheError(f"{entry}, written just now: {error}; check the disk") from error
    if artifact is None:
        raise CacheError(f"{entry}, written just now, is gone; is something cleaning the cache?")
    return artifact


def _rename_or_winner(folder: Path, entry: Path, key: str, artifact_name: str) -> Artifact | None:
    """Rename `folder` to `entry`; where one is there already return that one, if it is intact."""
    try:
        folder.rename(entry)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    else:
        flush_folder(entry.parent)
        return _expect(entry, key, artifact_name)
    try:
        return read_entry(entry, key, artifact_name)
    except DamagedEntryError:
        _evict(entry, folder.parent, key, artifact_name)
        return None


def _evict(entry: Path, building: Path, key: str, artifact_name: str) -> None:
    """Move a damaged entry out of the way, unless somebody replaced it in the meantime."""
    aside = building / uuid.uuid4().hex
    try:
        entry.rename(aside)
    except FileNotFoundError:
        return
    with contextlib.suppress(DamagedEntryError, OSError):
        if read_entry(aside, key, artifact_name) is not None:
            aside.rename(entry)
            return
    shutil.rmtree(aside, ignore_errors=True)


def _discard(folder: Path, building: Path) -> None:
    """Remove a folder by moving it away first, so that nobody sees it half removed."""
    aside = building / uuid.uuid4().hex
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a folder, also while a compiler just killed makes its last file there."""
    for delay in REMOVE_DELAYS:
        time.sleep(delay)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _private_in(building: Path) -> Path:
    """Make an empty folder in `building`, clearing what builds killed long ago left there."""
    # Not mkdtemp: its mode 0700 would hide a shared cache's entries from other users.
    folder = building / uuid.uuid4().hex
    for attempts_left in reversed(range(PRIVATE_ATTEMPTS)):
        try:
            building.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            break
        except FileNotFoundError:  # another build removed `building` as it ended
            if not attempts_left:
                raise
    for left in building.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    return folder


def _flush(folder: Path) -> None:
    """Flush the files of a folder, then the folder, to the disk."""
    for path in folder.iterdir():
        flush_file(path)
    flush_folder(folder)
