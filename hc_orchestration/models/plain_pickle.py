"""The plain data in a pickle file, read opcode by opcode: nothing in the file is ever executed."""

import pickletools
from typing import Any

from hc_orchestration.errors import ModelError

_MARK = object()
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict}
_CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None}
_VALUES = {"SHORT_BINUNICODE", "BINUNICODE", "BINFLOAT", "BININT", "BININT1", "BININT2"}
_GETS = {"BINGET", "LONG_BINGET"}
_IGNORED = {"PROTO", "FRAME"}


def read_plain_pickle(content: bytes) -> Any:  # noqa: ANN401 - whatever plain data the file holds
    """Lists, dictionaries, texts and numbers of a pickle of protocol 4 or 5.

    Raises:
        ModelError: The file holds an opcode of anything else, such as one that would import a name
            or call it; or it is no pickle.
    """
    stack: list[Any] = []
    memo: list[Any] = []
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return stack.pop()
            if opcode.name == "MEMOIZE":
                memo.append(stack[-1])
            elif opcode.name in _GETS:
                stack.append(memo[int(argument or 0)])
            elif opcode.name not in _IGNORED:
                _step(opcode.name, argument, stack)
    except (ValueError, IndexError, TypeError, AttributeError, KeyError):
        message = "a file that should be a pickle is none, or is damaged. Fetch it again."
        raise ModelError(message) from None
    message = "a pickle file ends before its data do. Fetch it again."
    raise ModelError(message)


def _step(name: str, argument: object, stack: list[Any]) -> None:
    if name in _VALUES:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "APPEND":
        value = stack.pop()
        stack[-1].append(value)
    elif name == "APPENDS":
        values = _since_mark(stack)
        stack[-1].extend(values)
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        stack[-1][key] = value
    elif name == "SETITEMS":
        items = _since_mark(stack)
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    else:
        message = f"a pickle file holds more than plain data ({name}); it is not read."
        raise ModelError(message)


def _since_mark(stack: list[Any]) -> list[Any]:
    at = max(i for i, value in enumerate(stack) if value is _MARK)
    values = stack[at + 1 :]
    del stack[at:]
    return values
