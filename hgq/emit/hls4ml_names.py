"""C++ identifiers for layers: valid, unique, and none that C++ or hls4ml needs for something else."""

from __future__ import annotations

import re
from collections.abc import Iterable

CPP_WORDS = frozenset(
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class "
    "co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype "
    "default delete do double dynamic_cast else enum explicit export extern false "
    "float for friend goto if inline int long mutable "
    "namespace new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast "
    "requires return short signed sizeof static static_assert static_cast struct switch template this thread_local "
    "throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq "
    "input output std nnet hls main assert errno linux unix i386 stdin stdout stderr".split()
)
_HLS4ML_NAME = re.compile(r"(layer|input|config|bias|weight|result|model_default|relu_config|[wbs])\d*(_out|_t)?")
"""Names that hls4ml makes up itself."""


def cpp_names(names: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """A C++ identifier for each name: lower case, unique also for hls4ml, which compares names without case.

    >>> cpp_names(["Dense 1", "dense_1", "int", "µ", "3x"])
    {'Dense 1': 'dense_1', 'dense_1': 'dense_1_2', 'int': 'int_2', 'µ': 'node', '3x': 'n3x'}
    """
    taken = CPP_WORDS | set(reserved)
    result: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "node"
        base = f"n{base}" if base[0].isdigit() else base
        candidate, count = base, 1
        while candidate in taken or _HLS4ML_NAME.fullmatch(candidate):
            count += 1
            candidate = f"{base}_{count}"
        result[name] = candidate
        taken |= {candidate}
    return result


def project_name(name: str) -> str:
    """The identifier `name`, with an underscore appended where C++ or hls4ml has it for something else.

    >>> project_name("jets"), project_name("std"), project_name("config2")
    ('jets', 'std_', 'config2_')
    """
    return f"{name}_" if name in CPP_WORDS | _FILES or _HLS4ML_NAME.fullmatch(name) else name


_FILES = frozenset("NULL EOF ap_int ap_uint ap_fixed ap_ufixed ap_shift_reg defines parameters".split())
"""Macros, types and files that a function of the same name would hide."""


def check_project_name(name: str) -> None:
    """Raises ValueError unless `name` can be the C++ function and the file name of a project."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in CPP_WORDS or _HLS4ML_NAME.fullmatch(name):
        raise ValueError(f"project_name={name!r} is no usable C++ identifier; use letters, digits and _, as in 'jets'")
