"""What single keys of the configuration cannot say: what has to fit together."""

from components.rules import RULES, Kind
from pipeline.sections.config import Config
from pipeline.sections.judging import Threshold
from schema import names
from schema.errors import InputError


def check_config(config: Config, where: str) -> None:
    """Raises InputError, which names the key, where keys that are each allowed do not fit together; `where` is what
    they were read from."""
    for name, setting in config.gate.rules.items():
        if RULES[name].kind is Kind.JOIN and setting.rows != "drop":
            raise InputError(f"{where}: gate.rules.{name}.rows can only be `drop`.")
        if not RULES[name].keepable and setting.rows == "keep":
            raise InputError(f"{where}: gate.rules.{name}.rows can be `drop` or `quarantine`; such rows are of no use.")
    serving = config.serving
    if serving.server == "remote" and not (serving.folder and (serving.grpc or serving.rest)):
        raise InputError(f"{where}: serving.server: remote needs serving.folder, and serving.grpc or serving.rest.")
    for name, threshold in config.evaluation.thresholds.items():
        _check_threshold(config, threshold, f"{where}: evaluation.thresholds.{name}")
    fixed = {column for table in names.TABLES for column in names.REQUIRED_COLUMNS[table]}
    for column in config.privacy.drop_columns:
        if column in fixed:
            raise InputError(f"{where}: privacy.drop_columns: {column} cannot be dropped; tables need it.")
    for table, columns in config.columns.items():
        for column in columns:
            if column in names.COLUMNS[table] or column in names.ROW_COLUMNS:
                raise InputError(f"{where}: columns.{table}.{column}: is a column of homefeed's own; leave it out.")
    for table, expected in config.gate.expected.items():
        known = config.table_columns(table)
        for column in expected:
            if column not in known:
                raise InputError(f"{where}: gate.expected.{table}: no column {column}; there are {', '.join(known)}.")
    column = config.images.column
    if config.images.kind != "none" and config.table_columns(names.CATALOG).get(column) != "string":
        raise InputError(
            f"{where}: images.column: {column} is no column of text of catalog; name it under columns.catalog."
        )
    for column in config.split.context:
        if config.table_columns(names.BEHAVIORS).get(column) != "string" or column in fixed | {names.COMMENT}:
            raise InputError(
                f"{where}: split.context: {column} is no column of text of behaviors; name it under columns.behaviors."
            )
    for column in config.privacy.suppress:
        kinds = [config.table_columns(t).get(column) for t in (names.BEHAVIORS, names.USERS)]
        if "string" not in kinds:
            raise InputError(f"{where}: privacy.suppress.{column}: is no column of text of behaviors or users.")


def _check_threshold(config: Config, threshold: Threshold, where: str) -> None:
    evaluation = config.evaluation
    shown = [k for k in evaluation.ks if k <= names.EVALUATED_PLACES]
    exposed = [names.AT_K.format(metric=metric, k=k) for metric in names.EXPOSURE_METRICS for k in shown]
    events = [event for event, weight in config.events.items() if weight > 0]
    promised = [f"{metric}_{event}" for metric in names.PROBABILITY_METRICS for event in events]
    known = [*evaluation.keys_of(names.USER_METRICS), *exposed, *promised, names.INDEX_RECALL]
    if evaluation.metric_key(threshold) not in known:
        raise InputError(f"{where}.metric: {threshold.metric} is not computed; metrics are {', '.join(known)}.")
    if threshold.max_drop is not None and not evaluation.has_interval(threshold):
        raise InputError(
            f"{where}.max_drop: only a mean over users can be compared with the last pushed model; those are "
            f"{', '.join(names.USER_METRICS)}."
        )
    for features in threshold.slices:
        if features and features not in evaluation.slices:
            raise InputError(f"{where}.slices: {features} is no slice of the evaluation; add it to evaluation.slices.")
