"""Values as JSON has them."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """Nested dicts and lists with null for numbers that JSON has not: infinite ones and NaN."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
