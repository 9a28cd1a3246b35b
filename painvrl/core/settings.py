"""The base of every configuration class: frozen, keyword-only, and strict about unknown keys."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class Settings(BaseModel):
    """A frozen group of settings; lives beside the code that it configures.

    The docstring below a field describes its key in the JSON schema, which editors show.
    ``allow_inf_nan=False`` keeps a YAML ``.nan`` from passing every comparison.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> dict[str, Any]:
        """See pydantic.

        Its ``use_attribute_docstrings`` reads the source of a class when that is made, which would cost every
        start of the program 0.14 s. Only who asks for the schema needs the descriptions.
        """
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for key, text in field_docs(cls).items():
            if key in properties:
                properties[key].setdefault("description", text)
        return schema


def field_docs(settings: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field, on one line; a field without one of its own has that of a base.

    Nothing is known of a class whose source is not there.
    """
    found: dict[str, str] = {}
    for owner in reversed(settings.__mro__):
        if issubclass(owner, Settings):
            found |= _own_docs(owner)
    return found


@functools.cache
def _own_docs(settings: type[Settings]) -> Mapping[str, str]:
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    except (OSError, TypeError, SyntaxError):  # no source, or none that stands alone
        return {}
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in pairwise(getattr(tree, "body", ()))
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(below.value.value, str)
    }


@dataclass(frozen=True)
class AfterTraining:
    """Marks a hyperparameter that is applied to a trained model: another value of it needs no training.

    A study sweeps such a one after each training instead of sampling it before. The mark stands in the
    annotation, ``Annotated[float, AfterTraining()]``.
    """
