"""What the settings' tests have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

Write = Callable[[str], Path]


def keys(model: type[BaseModel]) -> dict[str, Any]:
    """The tree of a model's keys."""
    return {
        name: keys(field.annotation)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        else None
        for name, field in model.model_fields.items()
    }
