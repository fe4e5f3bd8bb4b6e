"""What DataGate tolerates."""

from typing import Literal

from pydantic import Field

from components.rules import RULES, Limits
from pipeline.sections.section import Section, Share

_LIMITS = Limits()  # the rules' own defaults


class RuleSetting(Section):
    """How one rule of `components/rules/` is treated."""

    severity: Literal["error", "warning", "info"]
    max_share: Share = Field(description="share of rows that may break it before its severity counts")
    rows: Literal["keep", "drop", "quarantine"] = Field(description="what becomes of the rows that break it")


def default_rules() -> dict[str, RuleSetting]:
    """Rule -> how it is treated where nobody says so."""
    return {r.name: RuleSetting(severity=r.severity, max_share=r.max_share, rows=r.rows) for r in RULES.values()}


class Gate(Section):
    """What DataGate tolerates. An `error` stops the run, a `warning` is told."""

    rules: dict[str, RuleSetting] = Field(
        default_factory=default_rules, description="rule -> how it is treated; what is left out keeps its default"
    )
    schema_severity: dict[str, Literal["error", "warning", "info"]] = Field(
        # An event of one's own is known by its weight; `unknown_event` judges the others.
        {"DRIFT": "warning", "ENUM_TYPE_UNEXPECTED_STRING_VALUES": "warning"},
        description="severity of TFDV's anomaly types (as COMPARATOR_L_INFTY_HIGH), DRIFT for all comparators",
    )
    min_drift_rows: int = Field(1_000, ge=1, description="days of fewer rows are not compared with the day before")
    future_tolerance_hours: float = Field(24.0, ge=0, description="clocks may be this far ahead of ours")
    day_tolerance_hours: float = Field(
        _LIMITS.day_tolerance_hours, ge=0, description="a row may be this far outside of its folder's day (UTC)"
    )
    max_events_per_hour: int = Field(
        _LIMITS.max_events_per_hour, ge=1, description="more events of a user in an hour are a bot's"
    )
    item_id_pattern: str = Field(
        _LIMITS.item_id_pattern, description="regular expression of item ids that are products; empty: any"
    )
    expected: dict[Literal["behaviors", "catalog", "users"], list[str]] = Field(
        {}, description="table -> optional columns that should have a value in every row"
    )
    min_day_share: Share = Field(
        _LIMITS.min_day_share, description="a day with fewer than this share of its weekday's rows is told"
    )
    max_clock_shift_hours: int = Field(
        _LIMITS.max_clock_shift_hours, ge=1, description="hours that a day or source may seem moved by"
    )
    max_scale_change: float = Field(
        _LIMITS.max_scale_change, gt=1, description="factor by which the mean rating of a day may leave the usual"
    )
