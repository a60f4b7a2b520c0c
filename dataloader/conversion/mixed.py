"""Columns of several kinds: an Arrow type that keeps each value in the array of its own kind."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


class MixedType(pa.ExtensionType):  # type: ignore[misc]  # pyarrow carries no types
    """Objects of several kinds: an array for each kind, null where a row is of another, the most frequent first.

    What no Arrow type holds is kept as text, with the reason of its refusal: a code, and after a | what is wrong.
    """

    def __init__(self, kinds: tuple[pa.DataType, ...]) -> None:
        self.kinds = kinds
        stored = [getattr(kind, "storage_type", kind) for kind in kinds]
        fields = [(str(position), kind) for position, kind in enumerate(stored)]
        super().__init__(
            pa.struct([*fields, ("unconvertible", pa.binary()), ("reason", pa.string())]), "dataloader.mixed"
        )

    @property
    def whole(self) -> pa.DataType:
        """The type of a column that is made for all of them: JSON or text, which hold the others too, or the first."""
        if any(pa.types.is_nested(kind) or isinstance(kind, pa.JsonType) for kind in self.kinds):
            return pa.json_()
        has_text = any(map(_is_text, self.kinds)) and not any(map(pa.types.is_binary, self.kinds))
        return pa.string() if has_text else self.kinds[0]

    def __str__(self) -> str:
        return " or ".join(dict.fromkeys("JSON" if isinstance(kind, pa.JsonType) else str(kind) for kind in self.kinds))

    def __hash__(self) -> int:
        return hash((type(self), str(self.kinds)))

    def __arrow_ext_serialize__(self) -> bytes:
        kinds = pa.schema([(str(position), kind) for position, kind in enumerate(self.kinds)])
        return bytes(kinds.serialize())

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage_type: pa.DataType, serialized: bytes) -> MixedType:
        return cls(tuple(pa.ipc.read_schema(pa.py_buffer(serialized)).types))


class StringType(pa.ExtensionType):  # type: ignore[misc]  # pyarrow carries no types
    """Strings of a JSON file: a JSON column keeps them as strings, whatever document they look like."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "dataloader.string")

    def __str__(self) -> str:
        return "string"

    def __hash__(self) -> int:
        return hash(type(self))

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage_type: pa.DataType, _serialized: bytes) -> StringType:
        return cls()


pa.register_extension_type(StringType())  # a MixedType that has it is read back from its description


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind)) or isinstance(kind, StringType)


def is_decoded(kind: pa.DataType) -> bool:
    """Whether it holds what JSON is made of, so that a text among it is a string and not a document."""
    if isinstance(kind, MixedType):
        return any(map(is_decoded, kind.kinds))
    return bool(pa.types.is_nested(kind)) or isinstance(kind, (pa.JsonType, StringType))


def as_strings(values: pa.Array) -> pa.Array:
    """The values of a JSON file, with their texts as strings."""
    if pa.types.is_string(values.type):
        return pa.ExtensionArray.from_storage(StringType(), values)
    if not isinstance(values.type, MixedType):
        return values
    kinds = tuple(StringType() if pa.types.is_string(kind) else kind for kind in values.type.kinds)
    return pa.ExtensionArray.from_storage(MixedType(kinds), values.storage)


def mixed_parts(values: pa.Array) -> list[pa.Array]:
    """The arrays of a MixedType, one for each kind."""
    parts = [pc.struct_field(values.storage, [position]) for position in range(len(values.type.kinds))]
    return [
        pa.ExtensionArray.from_storage(kind, part) if isinstance(kind, pa.BaseExtensionType) else part
        for kind, part in zip(values.type.kinds, parts, strict=True)
    ]


def unconvertible(values: pa.Array) -> tuple[list[str | None], list[str | None]]:
    """What no Arrow type holds, as text, and the reason of its refusal."""
    texts = pc.struct_field(values.storage, ["unconvertible"]).to_pylist()
    decoded = [None if text is None else text.decode(errors="surrogatepass") for text in texts]
    return decoded, pc.struct_field(values.storage, ["reason"]).to_pylist()


def with_problem(reason: str, problem: str) -> str:
    """A reason of a refusal, with what is wrong in particular."""
    return f"{reason}|{problem}"


def mixed_objects(values: pa.Array) -> list[Any]:
    """The objects as they came; of an array of one type too."""
    if not isinstance(values.type, MixedType):
        return values.to_pylist()  # type: ignore[no-any-return]  # of Arrow
    columns = [*(part.to_pylist() for part in mixed_parts(values)), unconvertible(values)[0]]
    return [next((one for one in row if one is not None), None) for row in zip(*columns, strict=True)]
