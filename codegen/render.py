# SPDX-License-Identifier: MIT
"""From an instance to the source file that instantiates it, by one Jinja template.

Rendering is pure: the same instance gives the same text on every machine. Every rendered file
starts with a header made here, so templates need not repeat it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiter_moe.codegen.cktile.compiler import cktile_command
from aiter_moe.codegen.cpu import (
    COMMON_FLAGS,
    RUNTIME_BUILDS,
    CpuTile,
    code_name,
    feature_flags,
    runtime_features,
)
from aiter_moe.codegen.device_compiler import DEVICE_FLAGS
from aiter_moe.codegen.host_compiler import LINK_FLAGS, host_flags
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.errors import BuildError

if TYPE_CHECKING:
    import jinja2

# Raised when the header or the variables of templates change.
GENERATOR = "aiter_moe codegen 1"
RUNTIME_NAME = "aiter_moe_cpu_runtime"
EMULATOR_NAME = "aiter_moe_emulator"
# Beside those of the runtime; all or none, as a handler picks its path by AVX-512.
EMULATOR_FEATURES = RUNTIME_BUILDS["avx512"] | RUNTIME_BUILDS["avx2"]
# Used where the CPU has them as well.
EMULATOR_EXTRAS = frozenset({"avx512_vnni"})
# An emulated instruction rounds as often as it says. Without traps comparisons vectorise. -O3
# takes twice as long and is no faster.
EMULATOR_FLAGS = (*COMMON_FLAGS, "-O2", "-ffp-contract=off", "-fno-trapping-math")


@cache
def template_root() -> Path:
    """Return the folder of the package's templates."""
    spec = importlib.util.find_spec("aiter_moe.templates")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("aiter_moe.templates is not installed; reinstall the package aiter_moe")
    return Path(next(iter(spec.submodule_search_locations)))


def unit_name(instance: Instance) -> str:
    """Return the name of an instance's build unit, which instances of the CPU may share."""
    return code_name(instance) if isinstance(instance.tile, CpuTile) else instance.name


def render(instance: Instance, templates: Path | None = None) -> BuildUnit:
    """Return the build unit of a kernel instance.

    Parameters
    ----------
    instance : Instance
        The kernel; its tile names the template and gives it parameters.
    templates : Path, optional
        Folder of templates; the package's own by default.

    Raises
    ------
    BuildError
        If the template is missing, has an error, or uses a variable the instance does not give.
    """
    name, template = unit_name(instance), instance.tile.template
    body = _body(name, template, variables(instance), templates or template_root())
    extension = "cpp" if instance.target == "cpu" else "hip"
    file_name = f"{name}.{extension}"
    flags = tuple(instance.tile.compile_flags)
    command = (
        cktile_command(instance.target, file_name)
        if instance.family
        else _stand_alone(instance.target, file_name, flags)
    )
    header = _header(f"{name}, from {template}", command)
    source = header + body
    return BuildUnit(name, instance.target, file_name, source, flags, instance.family)


def units_of(instances: Iterable[Instance]) -> list[BuildUnit]:
    """Return the build units of instances in their order, each once."""
    named: dict[str, Instance] = {}
    for instance in instances:
        named.setdefault(unit_name(instance), instance)
    return [render(instance) for instance in named.values()]


def unit_of_template(
    name: str, target: str, template: str, parameters: Mapping[str, Any]
) -> BuildUnit:
    """Return the build unit that a template gives with these parameters, for a GPU.

    Parameters
    ----------
    name : str
        Name of what is built.
    target : str
        ``gfx950`` or ``gfx942``.
    template : str
        File name of the template.
    parameters : mapping
        What the template sees.

    Raises
    ------
    BuildError
        If the template is missing, has an error, or uses a variable it is not given.
    """
    file_name = f"{name}.hip"
    header = _header(f"{name}, from {template}", _stand_alone(target, file_name, ()))
    body = _body(name, template, parameters, template_root())
    return BuildUnit(name, target, file_name, header + body)


def _body(name: str, template: str, parameters: Mapping[str, Any], templates: Path) -> str:
    import jinja2

    try:
        return _environment(templates).get_template(template).render(parameters)
    except jinja2.TemplateError as error:
        raise BuildError(
            f"template {template} cannot render {name}: {type(error).__name__}: {error}"
        ) from error


def runtime_unit(features: frozenset[str] = frozenset()) -> BuildUnit:
    """Return the build unit of the CPU support library, csrc/cpu/runtime/runtime.cpp.

    Parameters
    ----------
    features : frozenset of str
        Instruction-set features of the machine, as /proc/cpuinfo names them; the library is
        built as the best of RUNTIME_BUILDS that needs no others.
    """
    flags = feature_flags(runtime_features(features))
    file_name = f"{RUNTIME_NAME}.cpp"
    command = _stand_alone("cpu", file_name, flags)
    header = _header(f"{RUNTIME_NAME}, the CPU support library", command)
    # An include, so that the library's own files find each other in their folder.
    body = '#include "cpu/runtime/runtime.cpp"\n'
    return BuildUnit(RUNTIME_NAME, "cpu", file_name, header + body, flags)


def emulator_unit(features: frozenset[str] = frozenset()) -> BuildUnit:
    """Return the build unit of the emulator of gfx950 and gfx942, csrc/emulator/emulator.cpp.

    Parameters
    ----------
    features : frozenset of str
        Instruction-set features of the machine, as /proc/cpuinfo names them; the emulator is
        built with EMULATOR_FEATURES where it has them all, else for any CPU.
    """
    usable = frozenset[str]()
    if features >= EMULATOR_FEATURES:
        usable = EMULATOR_FEATURES | (features & EMULATOR_EXTRAS)
    flags = (*EMULATOR_FLAGS, *feature_flags(usable))
    file_name = f"{EMULATOR_NAME}.cpp"
    command = _stand_alone("cpu", file_name, flags)
    header = _header(f"{EMULATOR_NAME}, the emulator", command)
    body = '#include "emulator/emulator.cpp"\n'
    return BuildUnit(EMULATOR_NAME, "cpu", file_name, header + body, flags)


def variables(instance: Instance) -> dict[str, Any]:
    """Return what a template sees: fields of the instance, then parameters of its tile.

    What CPU kernels read at run time is not among them.

    Raises
    ------
    BuildError
        If a tile's parameter has the name of an instance's field.
    """
    activation = instance.activation
    fields: dict[str, Any] = {
        "name": unit_name(instance),
        "target": instance.target,
        "kind": str(instance.kind),
        "stage": instance.stage,
        "activation": "No" if activation is None else activation.name,
    }
    if not isinstance(instance.tile, CpuTile):
        fields |= {"block_m": instance.block_m, "split_k": instance.split_k}
    parameters = instance.tile.parameters()
    clash = sorted(fields.keys() & parameters.keys())
    if clash:
        raise BuildError(
            f"the tile of {instance.name} redefines {', '.join(clash)}, fields of its instance; "
            "rename the parameter"
        )
    return fields | parameters


@cache
def _environment(templates: Path) -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        finalize=_cpp_text,
    )


def _cpp_text(value: object) -> object:
    """Spell a Python value as C++ does: True is ``true``."""
    return str(value).lower() if isinstance(value, bool) else value


def _header(what: str, command: Sequence[str]) -> str:
    """Return the comment every rendered source starts with; deterministic, without paths."""
    return (
        "// SPDX-License-Identifier: MIT\n"
        f"// Generated by {GENERATOR}: {what}. Edit the template, not this file.\n"
        "// To compile it by itself, in the folder that holds csrc:\n"
        f"//   {' '.join(command)}\n"
    )


def _stand_alone(target: str, file_name: str, flags: tuple[str, ...]) -> list[str]:
    stem = Path(file_name).stem
    if target == "cpu":
        options = ["g++", *host_flags("x86_64"), *LINK_FLAGS]
        out = f"{stem}.so"
    else:
        options = [
            "clang++", "-x", "hip", f"--offload-arch={target}", "--cuda-device-only",
            "--no-gpu-bundle-output", *DEVICE_FLAGS,
        ]  # fmt: skip
        out = f"{stem}.co"
    return [*options, *flags, "-Icsrc", file_name, "-o", out]
