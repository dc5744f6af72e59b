"""Inference: what no message may ask of the server, whatever method it is of.

Which one that is stands in headers that the door does not read. Of all requests only inference has inputs or outputs
in the fields 5 and 6, and no other has a field of another kind at the numbers that are read here.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from footfall.contract import COMPOSING_MODELS, ITEM_ID, MODEL_VERSION, USER_ID
from footfall_serving.door.grpc.refused import Refused, Status
from footfall_serving.door.steps import refusal

PARAMETERS = ("classification", "shared_memory_region")
"""Not taken of an input or output: the classes of a BYTES output end the server, shared memory is behind the key."""
TEXT, TEXTS = "a text", "texts"
MARKS = tuple(name.encode() for name in (*PARAMETERS, *COMPOSING_MODELS))
"""A text lies in a message as it is: who has none of these asks for nothing that is refused."""


def named(message: bytes) -> tuple[str, str]:
    """The model that an inference is asked of, and its own name; "" where it has none.

    As the first fields, in the order that every library writes them in: model, version, name.
    """
    model, place = _text(message, 0, b"\x0a")
    _, place = _text(message, place, b"\x12")
    return model, _text(message, place, b"\x1a")[0]


def _text(message: bytes, place: int, tag: bytes) -> tuple[str, int]:
    """Of the field of that tag, if it comes next and is short, and where the next one begins."""
    if not message.startswith(tag, place) or len(message) < place + 2 or message[place + 1] > 0x7F:
        return "", place
    end = place + 2 + message[place + 1]
    return message[place + 2 : end].decode(errors="replace"), end


def version_of(message: bytes) -> int | None:
    """The number of the version that gave an answer, which is all of a message; None where it does not say."""
    try:
        answer = Answer.FromString(message)
    except DecodeError:
        return None
    for output, raw in zip(answer.outputs, answer.raw_contents, strict=False):
        if output.name == MODEL_VERSION.name.encode():
            return int.from_bytes(raw, "little")
    return None


def check(message: bytes) -> None:
    """Raises Refused."""
    for mark in MARKS:
        if mark in message:
            _check_fields(message)
            return


def who(message: bytes) -> bytes:
    """Who asks for the inference: the user, else the oldest item of his history, else nobody."""
    try:
        request = Request.FromString(message)
    except DecodeError:  # the server says so
        return b""
    places = {tensor.name: place for place, tensor in enumerate(request.inputs)}
    for name in (USER_ID.name.encode(), ITEM_ID.name.encode()):
        place = places.get(name)
        if place is None:
            continue
        if place < len(request.raw_contents):
            raw = request.raw_contents[place]
            first = raw[4 : 4 + int.from_bytes(raw[:4], "little")]
        else:
            first = b"".join([text for entry in request.inputs[place].contents for text in entry.bytes][:1])
        if first:
            return bytes(first)
    return b""


def _check_fields(message: bytes) -> None:
    try:
        request = Request.FromString(message)
    except DecodeError as error:
        raise Refused(Status.INVALID_ARGUMENT, "the message is no protocol buffer") from error
    for what, tensors in (("an input", request.inputs), ("an output", request.outputs)):
        for tensor in tensors:
            for parameter in PARAMETERS:
                if any(setting.key == parameter.encode() for setting in tensor.parameters):
                    raise Refused(
                        Status.INVALID_ARGUMENT, f"the parameter {parameter!r} of {what} is not taken"
                    )
    sentence = refusal(request.model_name.partition(b"\0")[0])  # the server reads it to the first 0
    if sentence is not None and (request.inputs or request.outputs):
        raise Refused(Status.PERMISSION_DENIED, sentence)


def _messages() -> tuple[Any, Any]:
    """ModelInferRequest and ModelInferResponse, of which only what is looked at is read, texts as bytes.

    The library's own refuses texts that are not UTF-8, and so other requests that happen to have a map where this
    one has a text.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="footfall/door.proto", package="footfall.door")

    def message(name: str, /, **fields: tuple[int, str]) -> None:
        described = file.message_type.add(name=name)
        for field, (number, of) in fields.items():
            added = described.field.add(name=field, number=number, label=kinds.LABEL_REPEATED)
            if of in (TEXT, TEXTS):
                added.type = kinds.TYPE_BYTES
                added.label = kinds.LABEL_OPTIONAL if of == TEXT else kinds.LABEL_REPEATED
            else:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".footfall.door.{of}"

    message("Parameter", key=(1, TEXT))
    message("Contents", bytes=(8, TEXTS))
    message("Input", name=(1, TEXT), parameters=(4, "Parameter"), contents=(5, "Contents"))
    message("Output", parameters=(2, "Parameter"))
    message(
        "Request", model_name=(1, TEXT), inputs=(5, "Input"), outputs=(6, "Output"), raw_contents=(7, TEXTS)
    )
    message("Given", name=(1, TEXT))
    message("Answer", outputs=(5, "Given"), raw_contents=(6, TEXTS))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, answer = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"footfall.door.{name}"))
        for name in ("Request", "Answer")
    )
    return request, answer


Request, Answer = _messages()
