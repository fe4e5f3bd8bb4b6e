"""Rules of rows beside another table."""

import pyarrow as pa
import pyarrow.compute as pc

from components.rules.registry import Kind, rule
from schema import names


@rule(
    Kind.JOIN,
    (names.BEHAVIORS,),
    names.ITEM_ID,
    "is about an item that is not in the catalog",
    "add the item to the catalog",
)
def unknown_item(items: pa.Table, catalog: pa.Array) -> pa.Table:
    """Of a table with the column `item`, the rows whose item is not among the catalogue's."""
    return items.filter(pc.invert(pc.is_in(items["item"], catalog)))
