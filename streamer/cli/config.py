"""One spelling per option: a dataclass field makes the flag, the variable, the file's key and the help text.

A command describes itself as a dataclass whose fields are made by ``option`` and ``inputs``::

    @dataclass(frozen=True)
    class ServeOptions:
        port: int = option(8765, "the port to listen on", metavar="PORT", minimum=0, maximum=65535)

    options = parse(ServeOptions, argv, "diffspeaker serve", "Serves the face.")

The field ``lookahead_ms`` is then ``--lookahead-ms`` on the command line, ``DIFFSPEAKER_LOOKAHEAD_MS`` in the
environment, and ``lookahead_ms`` in the table of the command (``[serve]``) of the TOML file that ``--config``
(or ``DIFFSPEAKER_CONFIG``) names. The first that is given wins, in that order; then the default.

A field may be ``str``, ``int``, ``float``, ``bool`` (``--flag``, ``--no-flag``) or ``Path``, each also
``| None``. Whatever is wrong with a value raises ``bad_config`` with one line that names the option and its
source.
"""

from __future__ import annotations

import argparse
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, cast, get_args, get_type_hints

from streamer.contract.errors import FaceError

Options = TypeVar("Options")
Value = TypeVar("Value")

_PREFIX = "DIFFSPEAKER_"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "one of " + ", ".join(_TRUE + _FALSE),
    str: "a text",
    Path: "a path",
}


@dataclass(frozen=True)
class _Meta:
    """What a field knows beyond its name, type and default."""

    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    short: str | None = None
    positional: bool = False


def option(
    default: Value,
    help: str,
    *,
    metavar: str | None = None,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    short: str | None = None,
) -> Value:
    """A dataclass field that is an option.

    Args:
        default: its value where nothing is given.
        help: what it does, in one phrase; the environment variable and the default are added to it.
        metavar: the word that stands for its value in ``--help``.
        choices: the only values allowed, where there are few.
        minimum: the least number allowed. maximum: the greatest.
        short: a one-letter flag beside the long one, such as ``-o``.
    """
    meta = _Meta(help, metavar, tuple(choices), minimum, maximum, short)
    return field(default=default, metadata={"option": meta})


def inputs(help: str, *, metavar: str) -> tuple[str, ...]:
    """A dataclass field for the words after the options: one or more, from the command line only."""
    return cast(tuple[str, ...], field(metadata={"option": _Meta(help, metavar, positional=True)}))


def parse(
    options: type[Options],
    argv: Sequence[str],
    prog: str,
    description: str,
    environ: Mapping[str, str] | None = None,
) -> Options:
    """Reads a command's options from the command line, the environment and the file.

    Args:
        options: the dataclass that describes them.
        argv: the words after the command's name.
        prog: the command as typed, ``diffspeaker serve``; its last word names the file's table.
        description: a sentence or two for ``--help``.
        environ: the environment; ``os.environ`` where none is given.

    Raises:
        FaceError: ``bad_config``, with a line that names the option and where its value came from.
        SystemExit: ``--help`` was asked for and printed.
    """
    environ = os.environ if environ is None else environ
    known = {entry.name: entry for entry in fields(cast(Any, options)) if "option" in entry.metadata}
    types = get_type_hints(options)
    given = vars(_parser(known, types, prog, description).parse_args(argv))
    table = _table(given.pop("config", None) or environ.get(_PREFIX + "CONFIG"), prog.split()[-1], known)

    values: dict[str, Any] = {}
    for name, entry in known.items():
        meta: _Meta = entry.metadata["option"]
        variable = _PREFIX + name.upper()
        if meta.positional:
            values[name] = tuple(given[name])
        elif name in given:
            values[name] = _convert(given[name], types[name], meta, f"option {_flag(name)}")
        elif variable in environ:
            values[name] = _convert(environ[variable], types[name], meta, f"environment variable {variable}")
        elif name in table:
            values[name] = _convert(table[name], types[name], meta, f"configuration file's key {name}")
    return options(**values)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FaceError("bad_config", f"{message[:1].upper()}{message[1:]}.", f"See `{self.prog} --help`.")


def _parser(
    known: Mapping[str, Field[Any]], types: Mapping[str, Any], prog: str, description: str
) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, entry in known.items():
        meta: _Meta = entry.metadata["option"]
        if meta.positional:
            parser.add_argument(name, nargs="+", metavar=meta.metavar, help=meta.help)
            continue
        flags = [*([meta.short] if meta.short else []), _flag(name)]
        if _bare(types[name]) is bool:
            action = argparse.BooleanOptionalAction
            parser.add_argument(*flags, dest=name, action=action, help=_help(name, entry))
        else:
            metavar = meta.metavar or ("|".join(meta.choices) if meta.choices else name.upper())
            parser.add_argument(*flags, dest=name, metavar=metavar, help=_help(name, entry))
    parser.add_argument(
        "--config", metavar="FILE", help=f"a TOML file with options in its table [{prog.split()[-1]}]"
    )
    return parser


def _help(name: str, entry: Field[Any]) -> str:
    notes = []
    if entry.default is not MISSING and entry.default not in (None, "", False):
        notes.append("on" if entry.default is True else f"default {entry.default}")
    notes.append(f"${_PREFIX}{name.upper()}")
    return f"{entry.metadata['option'].help} ({', '.join(notes)})".replace("%", "%%")


def _table(path: str | None, name: str, known: Mapping[str, Field[Any]]) -> dict[str, Any]:
    """The command's table of the file; empty where there is no file or no such table."""
    if not path:
        return {}
    try:
        with Path(path).open("rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise FaceError("bad_config", f"The file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # also of a number or a nesting too long for Python
        raise FaceError("bad_config", f"The file {path} is not TOML: {error}.") from None
    for key, value in document.items():
        if not isinstance(value, dict):
            raise FaceError(
                "bad_config", f"The key {key} of {path} stands outside a table: put it under [{name}]."
            )
    table: dict[str, Any] = document.get(name, {})
    for key in table:
        if key not in known or known[key].metadata["option"].positional:
            raise FaceError("bad_config", f"The table [{name}] of {path} has an unknown key {key}.")
    return table


def _bare(annotation: Any) -> type:
    """``X`` of ``X`` or ``X | None``."""
    if isinstance(annotation, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not NoneType)
    return cast(type, annotation)


def _convert(raw: Any, annotation: Any, meta: _Meta, source: str) -> Any:
    kind = _bare(annotation)
    value = _read(raw, kind)
    if value is None:
        wanted = _KINDS[kind]
    elif meta.choices and value not in meta.choices:
        wanted = "one of " + ", ".join(meta.choices)
    elif meta.minimum is not None and value < meta.minimum:
        wanted = f"at least {meta.minimum:g}"
    elif meta.maximum is not None and value > meta.maximum:
        wanted = f"at most {meta.maximum:g}"
    else:
        return value
    raise FaceError("bad_config", f"The {source} must be {wanted}, not {raw!r}.")


def _read(raw: Any, kind: type) -> Any:
    """The value, or None where ``raw`` (a text, or a TOML value) is not of the kind."""
    if kind is bool:
        if isinstance(raw, str):
            word = raw.strip().lower()
            return True if word in _TRUE else False if word in _FALSE else None
        return raw if isinstance(raw, bool) else None
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return None
    if kind in (str, Path):
        return kind(raw) if isinstance(raw, str) and "\0" not in raw else None
    if kind is int and isinstance(raw, float):
        return None
    try:
        number = kind(raw)
    except (ValueError, OverflowError):
        return None
    return number if kind is int or math.isfinite(number) else None
