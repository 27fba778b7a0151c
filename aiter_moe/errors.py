# SPDX-License-Identifier: MIT
"""The typed errors of the package: one base class, one class per thing that can be wrong.

Every message says what was asked, what was found, and the next command to type.
Not here: assertions about our own bugs, which stay plain ``assert``.
"""

from __future__ import annotations


class AiterMoeError(Exception):
    """Base class of every error this package raises on purpose."""


class ArgumentError(AiterMoeError, ValueError):
    """An argument has a value, shape or combination no kernel could serve."""


class DtypeError(AiterMoeError, TypeError):
    """A tensor has another dtype than the operation takes."""


class LayoutError(AiterMoeError, ValueError):
    """A weight or scale lies in another byte layout than the kernel reads."""


class UnsupportedProblemError(AiterMoeError, NotImplementedError):
    """No kernel of the target can run the problem; the message lists a reason per candidate."""


class ConfigError(AiterMoeError, ValueError):
    """A tuned or untuned CSV, a shape file or an environment variable cannot be used."""


class ToolchainError(AiterMoeError, RuntimeError):
    """No usable compiler was found, or the one found cannot target the architecture."""


class BuildError(AiterMoeError, RuntimeError):
    """The compiler rejected a rendered source; carries the command and the log's place."""


class CacheError(AiterMoeError, OSError):
    """The artifact cache cannot be read or written."""


class LaunchError(AiterMoeError, RuntimeError):
    """A compiled kernel could not be loaded or run on the target."""
