"""Objects with fields are rows by the names of their fields, whoever made them."""

from __future__ import annotations

import dataclasses
import decimal
from typing import Any

import attrs
import pydantic
import pytest

from dataloader.errors import PlanError
from dataloader.sources.rows import open_rows

PRICE = decimal.Decimal("1.10")


@dataclasses.dataclass
class Part:
    size: int
    name: str = "a"


@dataclasses.dataclass(slots=True)
class Order:
    id: int
    parts: list[Part]
    tags: dict[str, Any]


class Model(pydantic.BaseModel):
    id: int
    price: decimal.Decimal = PRICE


class Wide(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    id: int
    of: Model

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.id


class Counts(pydantic.RootModel[dict[str, int]]):
    pass


@attrs.define
class Attrs:
    id: int
    part: Part


class Struct:
    """What msgspec's objects look like."""

    __struct_fields__ = ("id",)
    id = 1


PART = '{"size": 2, "name": "a"}'
OBJECTS: dict[str, tuple[list[Any], list[dict[str, Any]]]] = {
    "dataclass": ([Part(1), Part(2, "b")], [{"size": 1, "name": "a"}, {"size": 2, "name": "b"}]),
    "dataclasses inside": (
        [Order(1, [Part(2)], {"of": (Part(2), None)})],
        [{"id": 1, "parts": f"[{PART}]", "tags": f'{{"of": [{PART}, null]}}'}],
    ),
    "pydantic": ([Model(id=1), Model(id=2, price=2)], [{"id": 1, "price": PRICE}, {"id": 2, "price": 2}]),
    "extra and computed": (
        [Wide(id=1, of=Model(id=2), more=3)],  # type: ignore[call-arg]  # extra fields are allowed
        [{"id": 1, "of": '{"id": 2, "price": 1.10}', "more": 3, "twice": 2}],
    ),
    "a root": ([Counts({"a": 1})], [{"a": 1}]),
    "attrs": ([Attrs(1, Part(2))], [{"id": 1, "part": PART}]),
    "msgspec": ([Struct()], [{"id": 1}]),
    "of two classes": (
        [Part(1), Struct()],
        [{"size": 1, "name": "a", "id": None}, {"size": None, "name": None, "id": 1}],
    ),
}


@pytest.mark.parametrize(("rows", "expected"), OBJECTS.values(), ids=OBJECTS)
async def test_an_object_is_a_row_by_its_fields(rows: list[Any], expected: list[dict[str, Any]]) -> None:
    source = await open_rows(iter(rows), None)
    assert [row async for batch in source.chunks(10) for row in batch.to_pylist()] == expected


@pytest.mark.parametrize("wrong", [Part, Model, Attrs, Struct])
async def test_a_class_in_the_place_of_an_object_is_refused(wrong: Any) -> None:
    with pytest.raises(PlanError, match="expected dicts, got"):
        await open_rows([wrong], None)
