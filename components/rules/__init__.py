"""What a schema cannot say of the data, one small function a rule.

`rows.py` has rules of single rows, `groups.py` of rows beside those of the same user or item, `days.py` of a day beside
the days before it, `joins.py` of rows beside another table. Adding a rule is adding one function there; `registry.py`
says what a rule is.
"""

from components.rules import rows, groups, joins, days  # noqa: F401, I001  (they register their rules, in the order of judgement)
from components.rules.registry import RULES, Finding, Kind, Limits, Rows, Rule, rules_of

__all__ = ["RULES", "Finding", "Kind", "Limits", "Rows", "Rule", "rules_of"]
