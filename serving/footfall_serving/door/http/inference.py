"""Inference: the body of an inference request, checked and written anew, so that the server reads what was checked.

The server takes the first of two members of one name, most parsers the last; what goes on has each once.
"""

from math import prod
from typing import Any

import orjson

from footfall.contract import ITEM_ID, USER_ID
from footfall_serving.door.http.refused import malformed, shown
from footfall_serving.door.ids import chosen
from footfall_serving.door.limits import MAX_DIMS, MAX_ELEMENTS, MAX_JSON_MARKS, MAX_TENSORS, MAX_TEXT

FIELDS = {"id", "parameters", "inputs", "outputs"}
INPUT_FIELDS = {"name", "shape", "datatype", "parameters", "data"}
OUTPUT_FIELDS = {"name", "parameters"}
ELEMENT_BYTES = {"BYTES": 0, "BOOL": 1, "UINT8": 1, "INT8": 1, "FP16": 2, "BF16": 2, "UINT16": 2, "INT16": 2}
ELEMENT_BYTES |= {"FP32": 4, "UINT32": 4, "INT32": 4, "FP64": 8, "UINT64": 8, "INT64": 8}
"""Of each datatype; 0 where the elements are of their own lengths."""
REQUEST_PARAMETERS = {
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "binary_data_output",
}
INPUT_PARAMETERS, OUTPUT_PARAMETERS = {"binary_data_size"}, {"binary_data"}
"""The others are of shared memory, which a key guards, and `classification`, which divides by an element's size: of a
BYTES output by 0, which ended the server."""
BOOLEANS = {"sequence_start", "sequence_end", "binary_data_output", "binary_data"}
"""The server takes nothing else for them, and calls it a fault of its own (500)."""
LARGEST_SETTING = 2**63 - 1
WHOLE = {
    f"{sign}INT{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
"""Smallest and largest number of each datatype of whole ones."""
SCALARS: dict[str, set[type]] = {"BYTES": {str}, "BOOL": {bool}, **{kind: {int} for kind in WHOLE}}
"""What JSON writes elements of a datatype as; those that are not here as numbers of any kind. Of other elements the
server says that it failed (500).
"""


def checked(body: bytes, json_length: int | None, name: str = "") -> tuple[bytes, int | None, str]:
    """The body for the server, its JSON's length, None for a body that is all JSON, and what the request is called:
    by its own id, else by `name`, else by one that is made. Raises Refused.
    """
    if json_length is None:
        request, binary = _object("the request", _parsed(body)), None
    else:
        if json_length > len(body):
            raise malformed(f"the JSON is said to be {json_length} bytes, the body is {len(body)}")
        request, binary = _object("the request", _parsed(body[:json_length])), body[json_length:]
    _check_fields("the request", request, FIELDS)
    if "id" in request:
        _check_text("the request's id", request["id"])
    _check_parameters("the request", request, REQUEST_PARAMETERS)
    said = sum(_check_input(entry) for entry in _entries("inputs", request))
    for entry in _entries("outputs", request):
        _check_fields("an output", _object("an output", entry), OUTPUT_FIELDS)
        _check_text("an output's name", entry.get("name"))
        _check_parameters("an output", entry, OUTPUT_PARAMETERS)
    if "inputs" not in request:
        raise malformed("the request has no inputs")
    there = len(binary or b"")
    if said != there:
        raise malformed(f"the inputs say {said} bytes of binary data, {there} follow the JSON")
    id_ = chosen(request.get("id", ""), name)
    if id_ == name:
        request["id"] = id_
    text = orjson.dumps(request)
    return (text, None, id_) if binary is None else (text + binary, len(text), id_)


def who(body: bytes, json_length: int) -> bytes:
    """Who asks with a checked body: the user, else the oldest item of his history, else nobody."""
    firsts: dict[str, bytes] = {}
    place = json_length
    for entry in orjson.loads(body[:json_length]).get("inputs", []):
        size = entry.get("parameters", {}).get("binary_data_size", 0)
        if size:
            length = int.from_bytes(body[place : place + 4], "little")
            firsts[entry["name"]] = body[place + 4 : place + 4 + length]
        else:
            firsts[entry["name"]] = _first(entry.get("data", []))
        place += size
    return firsts.get(USER_ID.name) or firsts.get(ITEM_ID.name) or b""


def _first(data: Any) -> bytes:
    """Text of a list, or of lists in lists."""
    while type(data) is list:
        data = data[0] if data else ""
    return str(data).encode()


def _parsed(text: bytes) -> Any:
    marks = sum(map(text.count, (b",", b":", b"[", b"{")))
    if marks > MAX_JSON_MARKS:
        raise malformed(
            f"the JSON has {marks} commas, colons and brackets, at most {MAX_JSON_MARKS} are taken"
        )
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise malformed(f"the body is not JSON: {error}") from error


def _entries(name: str, request: dict[str, Any]) -> list[Any]:
    entries = request.get(name, [])
    if type(entries) is not list:
        raise malformed(f"{name} is {shown(entries)}, expected a list")
    if len(entries) > MAX_TENSORS:
        raise malformed(f"there are {len(entries)} {name}, at most {MAX_TENSORS} are taken")
    return entries


def _check_input(entry: Any) -> int:
    """Bytes of binary data that it says follow the JSON."""
    _check_fields("an input", _object("an input", entry), INPUT_FIELDS)
    name = _check_text("an input's name", entry.get("name"))
    kind = entry.get("datatype")
    if type(kind) is not str or kind not in ELEMENT_BYTES:
        raise malformed(f"the datatype of {shown(name)} is {shown(kind)}, expected one of {_KINDS}")
    elements = _elements(name, entry.get("shape"))
    parameters = _check_parameters(shown(name), entry, INPUT_PARAMETERS)
    if "data" in entry:
        if "binary_data_size" in parameters:
            raise malformed(f"{shown(name)} has both data and a binary_data_size")
        data = entry["data"]
        count = _count(name, data, kind, MAX_DIMS)
        if count != elements:
            raise malformed(f"{shown(name)} has {count} elements, its shape {entry['shape']} says {elements}")
        return 0
    size = parameters.get("binary_data_size", 0)
    if type(size) is not int or size < 0:
        raise malformed(f"binary_data_size of {shown(name)} is {shown(size)}, expected a number")
    width = ELEMENT_BYTES[kind]
    if "binary_data_size" in parameters and (size != width * elements if width else size < 4 * elements):
        raise malformed(f"{shown(name)} has {size} bytes, too few or too many for {kind} of {entry['shape']}")
    return size


def _elements(name: str, shape: Any) -> int:
    if type(shape) is not list or len(shape) > MAX_DIMS or set(map(type, shape)) - {int}:
        raise malformed(f"the shape of {shown(name)} is {shown(shape)}, expected at most {MAX_DIMS} numbers")
    if any(not 0 <= length <= MAX_ELEMENTS for length in shape) or prod(shape) > MAX_ELEMENTS:
        raise malformed(
            f"the shape of {shown(name)} is {shown(shape)}, at most {MAX_ELEMENTS} elements are taken"
        )
    return prod(shape)


def _count(name: str, data: Any, kind: str, depth: int) -> int:
    """Elements of a list, or of lists in lists, all of them of the datatype."""
    if type(data) is not list or not depth:
        raise malformed(f"the data of {shown(name)} is {shown(data)}, expected a list of the shape's depth")
    kinds = set(map(type, data))
    if kinds == {list}:
        return sum(_count(name, part, kind, depth - 1) for part in data)
    taken = SCALARS.get(kind, {int, float})
    if not kinds <= taken:
        wrong = next(element for element in data if type(element) not in taken)
        raise malformed(f"the data of {shown(name)} holds {shown(wrong)}, which is no {kind}")
    if kind in WHOLE and data:
        least, most = WHOLE[kind]
        for extreme in (min(data), max(data)):
            if not least <= extreme <= most:
                raise malformed(f"the data of {shown(name)} holds {extreme}, which is no {kind}")
    return len(data)


def _object(what: str, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise malformed(f"{what} is {shown(value)}, expected an object")
    return value


def _check_fields(what: str, value: dict[str, Any], known: set[str]) -> None:
    if not known.issuperset(value):
        unknown = sorted(set(value) - known)[0]
        raise malformed(f"{what} has a field {shown(unknown)}; known are {', '.join(sorted(known))}")


def _check_text(what: str, value: Any) -> str:
    if type(value) is not str or len(value) > MAX_TEXT:
        raise malformed(f"{what} is {shown(value)}, expected a text of at most {MAX_TEXT} characters")
    return value


def _check_parameters(what: str, value: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """Those that are no booleans are numbers, but sequence_id, which may be a text."""
    if "parameters" not in value:
        return {}
    parameters = _object(f"the parameters of {what}", value["parameters"])
    for name, setting in parameters.items():
        if name not in known:
            raise malformed(
                f"the parameter {shown(name)} of {what} is not taken; {', '.join(sorted(known))} are"
            )
        if name == "sequence_id" and type(setting) is str:
            _check_text(f"the sequence_id of {what}", setting)
        elif name in BOOLEANS:
            if type(setting) is not bool:
                raise malformed(
                    f"the parameter {shown(name)} of {what} is {shown(setting)}, expected true or false"
                )
        elif type(setting) is not int or not 0 <= setting <= LARGEST_SETTING:
            raise malformed(
                f"the parameter {shown(name)} of {what} is {shown(setting)}, expected a number from 0"
            )
    return parameters


_KINDS = ", ".join(sorted(ELEMENT_BYTES))
