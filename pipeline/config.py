"""The typed configuration: read once at the edge, every wrong key or value named with what would be right."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import Field, ValidationError

from components.rules import RULES, Kind, Limits
from pipeline.kubeflow.settings import Kubeflow
from pipeline.section import Section
from schema import names
from schema.errors import InputError

_LIMITS = Limits()  # the rules' own defaults
Share = Annotated[float, Field(ge=0, le=1)]


class RuleSetting(Section):
    """How one rule of `components/rules/` is treated."""

    severity: Literal["error", "warning", "info"]
    max_share: Share = Field(description="share of rows that may break it before its severity counts")
    rows: Literal["keep", "drop", "quarantine"] = Field(description="what becomes of the rows that break it")


def _default_rules() -> dict[str, RuleSetting]:
    return {r.name: RuleSetting(severity=r.severity, max_share=r.max_share, rows=r.rows) for r in RULES.values()}


class Gate(Section):
    """What DataGate tolerates. An `error` stops the run, a `warning` is told."""

    rules: dict[str, RuleSetting] = Field(
        default_factory=_default_rules, description="rule -> how it is treated; what is left out keeps its default"
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


class Privacy(Section):
    """What is taken out on the way in."""

    hash_user_ids: bool = Field(False, description="replace user ids by keyed hashes; the key is HOMEFEED_USER_ID_KEY")
    drop_columns: list[str] = Field([], description="columns that are never read")
    suppress: dict[str, Annotated[int, Field(ge=2)]] = Field(
        {}, description="column -> k: values that fewer than k users of a day have are taken out"
    )


class Window(Section):
    """Which days of a log that lies in daily folders are used."""

    days: int | None = Field(None, ge=1, description="the last so many calendar days; empty: all")


class Split(Section):
    """Which events train and which are held out, and what an example knows."""

    by: Literal["time", "leave_last", "user"] = Field(
        "time",
        description="time: the end of the log; leave_last: each user's last new items; user: the same, of a share of "
        "users that training never sees",
    )
    eval_share: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.1, description="by time: the last events of the log; by user: the users that are held out"
    )
    leave_last: int = Field(1, ge=1, description="new items of each held-out user, for leave_last and user")
    snapshots: int = Field(64, ge=2, le=256, description="moments at which recent popularity is taken")
    half_lives_days: list[Annotated[float, Field(gt=0)]] = Field(
        [14.0, 2.0, 7.0, 60.0],
        min_length=1,
        description="an event counts half for popularity after this long; the towers' prior takes the first, the "
        "ranking stage all",
    )
    windows: int = Field(
        6, ge=1, le=50, description="times before the cut, as long as what is held out, that the ranking stage learns"
    )
    history_length: int = Field(50, ge=1, le=1000, description="latest items of a user that the query tower reads")
    context: list[str] = Field(
        [], description="columns of text of behaviors that say where an event came from, such as a device"
    )
    session_minutes: float = Field(30.0, gt=0, description="a longer pause begins another session")
    max_user_events: int = Field(5_000, ge=1, description="latest events of a user that are used; older ones are not")


class Images(Section):
    """Images of the catalogue's items, which the candidate tower reads."""

    kind: Literal["none", "embedding", "file"] = Field(
        "none",
        description="embedding: the column holds numbers that a model of yours has made; file: it names JPEG or PNG "
        "files, whose thumbnails a small network reads that is trained with the towers",
    )
    column: str = Field("image", description="of the catalogue; to be declared under columns.catalog as a string")
    folder: str = Field("", description="file: where the files are")


class Encoder(Section):
    """The BERT encoder of item texts."""

    path: str = Field(
        "",
        description="folder with config.json, model.safetensors and vocab.txt, or with a TensorFlow Hub SavedModel, or "
        "the URL of a .tar.gz or .zip of one; empty: all-MiniLM-L6-v2",
    )
    sha256: str = Field("", pattern="^([0-9a-fA-F]{64})?$", description="of the archive that a URL serves")
    max_tokens: int = Field(64, ge=8, le=512, description="word pieces of a text that are read")
    mode: Literal["frozen", "last_n", "lora", "full"] = Field(
        "frozen",
        description="what of the encoder is trained along with the towers: nothing, its last layers, low-rank "
        "additions to its attention, everything",
    )
    last_n: int = Field(2, ge=1, description="last_n: transformer layers that are trained")
    lora_rank: int = Field(8, ge=1, description="lora: rank of the additions")
    learning_rate: float = Field(3e-5, gt=0, description="Adam's step size at its peak, of the encoder; lora bears 10x")
    recompute: bool = Field(False, description="compute activations twice instead of keeping them: less GPU memory")
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        "auto", description="of an encoder that is trained; auto: bfloat16 on GPUs that compute in it"
    )
    comments: bool = Field(
        True,
        description="read comments too: what those say that come with a rating teaches what the others say, which "
        "weighs their events and their items",
    )
    batch_size: int = Field(256, ge=1, description="texts encoded at once")
    cache: str = Field("", description="folder of embeddings that workspaces share; empty: in the workspace")


class Model(Section):
    """The two towers and their training."""

    dimensions: int = Field(64, ge=4, description="size of the query and candidate embeddings")
    text: bool = Field(True, description="the candidate tower reads the items' texts")
    epochs: int = Field(8, ge=1, description="passes over the training split, at most; validation may end it earlier")
    batch_size: int = Field(512, ge=8, description="examples a step")
    negatives: int = Field(
        16_384, ge=0, description="items drawn a step beside the batch's own; as many as the catalogue has: all of it"
    )
    learning_rate: float = Field(0.002, gt=0, description="Adam's step size at its peak")
    temperature: float = Field(0.1, gt=0, description="of the softmax over cosine similarities")
    dropout: Share = Field(0.2, description="of history items, item ids and user ids, in training")
    start: Literal["fresh", "warm", "reindex"] = Field(
        "fresh",
        description="fresh: train from nothing; warm: go on from the last pushed model; reindex: take its weights as "
        "they are, with today's catalogue and log (`homefeed reindex`)",
    )
    warm_epochs: int = Field(2, ge=1, description="warm: the towers' passes over what is learned")
    warm_rate: float = Field(
        0.1,
        gt=0,
        description="warm: step sizes, the encoder's and the ranking stage's too, as a share of those of a training "
        "from nothing",
    )
    warm_days: int = Field(
        7, ge=0, description="warm: days before what is new to the earlier model that are learned once more"
    )
    seed: int = Field(1, ge=0, description="of weights, shuffling and dropout")
    refit: bool = Field(
        True,
        description="serve a model that is trained once more, with what the Evaluator held out; else the very weights "
        "that it judged",
    )


class Tuner(Section):
    """KerasTuner over learning_rate, temperature, dropout and dimensions of `model`, before training."""

    trials: int = Field(0, ge=0, description="values that are tried, the configuration's own first; 0: none")


class Channels(Section):
    """What may speak for an item in the ranking stage."""

    towers: bool = Field(True, description="the two towers")
    items: bool = Field(True, description="item-based collaborative filtering: EASE^R and cosines")
    factors: bool = Field(True, description="matrix factorisation: the user's factors are solved for in the request")
    users: bool = Field(True, description="what the nearest users of the query's embedding had lately")
    text: bool = Field(True, description="likeness of the texts")
    popularity: bool = Field(True, description="recent popularity, at each of split.half_lives_days")
    age: bool = Field(True, description="time since an item's first event")
    comments: bool = Field(True, description="what comments say of an item")


class Ranking(Section):
    """The channels beside the towers, and the stage that learns from windows of the log how far to trust each."""

    channels: Channels = Channels()
    regularisation: float = Field(300.0, gt=0, description="EASE^R's lambda")
    shrinkage: float = Field(100.0, ge=0, description="users that are added to each item's when cosines are taken")
    nearest_items: int = Field(50, ge=1, description="by cosine, that score an item")
    neighbours: int = Field(300, ge=1, description="that an item of a history scores, of each kind")
    exact_items: int = Field(20_000, ge=2, description="items for which EASE^R is solved; beyond, cosines are alone")
    factors: int = Field(64, ge=1, description="of the matrix factorisation")
    factor_weight: float = Field(
        1.0, gt=0, description="what an observed pair counts more than another, which counts 1"
    )
    factor_regularisation: float = Field(10.0, gt=0, description="the matrix factorisation's lambda")
    factor_rounds: int = Field(12, ge=1, description="of alternating least squares")
    nearest_users: int = Field(200, ge=1, description="users whose histories speak for an item")
    crowd: int = Field(100_000, ge=1, description="latest users among whom the nearest are looked for")
    candidates: int = Field(1_000, ge=10, description="items that the ranking stage orders")
    states: int = Field(2_000, ge=1, description="users of each window that are learned from")
    epochs: int = Field(8, ge=1, description="passes over the windows' lists")
    batch_size: int = Field(32, ge=1, description="lists a step")
    learning_rate: float = Field(0.003, gt=0, description="Adam's step size at its peak")
    hidden: list[Annotated[int, Field(ge=1)]] = Field([64, 32], min_length=1, description="layers of the deep part")
    new_items_every: int = Field(
        25, ge=0, description="so manieth place of a feed is kept for an item that nobody has had yet; 0: none"
    )
    event_weight: float = Field(0.1, ge=0, description="of the events' probabilities beside the order")


class Retrieval(Section):
    """How the best of a large catalogue are found without looking at all of it, see `trainer/partitioned_top_k.py` and
    `trainer/pools.py`."""

    exact_below: int = Field(20_000, ge=0, description="items up to which all are compared; beyond, an index is asked")
    proposed: int = Field(500, ge=1, description="items that each channel proposes for the feed of a larger catalogue")
    block: int = Field(128, ge=8, description="items of a block of the index")
    probes: int = Field(32, ge=1, description="blocks that are looked at: more find more, and take longer")


Slice = list[Literal[names.SLICES]]  # type: ignore[valid-type]


class Threshold(Section):
    """Bounds of a metric. Of a metric that has an interval, a bound is missed only where the interval's far end misses
    it: what may be noise blocks nothing."""

    metric: str = Field(description="such as recall (at the largest k), coverage_at_10 or auc_purchase")
    slices: list[Slice] = Field([[]], description="in each value of which features it counts; []: over all users")
    at_least: float | None = Field(None, description="the value")
    at_most: float | None = Field(None, description="the value; what is too good to be true is not true")
    max_drop: Share | None = Field(None, description="share by which it may fall against the last pushed model")


_THRESHOLDS = {
    "recall": Threshold(metric="recall", at_least=0.01, at_most=0.95, max_drop=0.05),
    "ndcg": Threshold(metric="ndcg", at_least=0.005, max_drop=0.05),
    "recall_by_slice": Threshold(metric="recall", slices=[["activity"], ["target_price"]], max_drop=0.2),
    "coverage": Threshold(metric="coverage", at_least=0.02),
    "index": Threshold(metric=names.INDEX_RECALL, at_least=0.95),
}


class Evaluation(Section):
    """When the Evaluator blesses a model."""

    ks: list[Annotated[int, Field(ge=1)]] = Field([5, 10, 20], min_length=1, description="lengths of the lists")
    slices: list[Annotated[Slice, Field(min_length=1)]] = Field(
        [["activity"], ["target_age"], ["target_price"], ["target_category"], ["weekday"]],
        description="features whose values part the held-out users; several cross",
    )
    thresholds: dict[str, Threshold] = Field(
        _THRESHOLDS,
        description="name -> bounds; what is left out of one that is there by default keeps its default, null takes it "
        "away",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(0.95, description="of each end of an interval")
    replicates: int = Field(200, ge=20, description="of the bootstrap that makes intervals")
    min_users: int = Field(30, ge=1, description="a slice of fewer users has no interval, and so blocks nothing")

    def metric_key(self, threshold: Threshold) -> str:
        """The name of a threshold's metric in the evaluation."""
        if threshold.metric in (*names.USER_METRICS, *names.EXPOSURE_METRICS):
            return names.AT_K.format(metric=threshold.metric, k=max(self.ks))
        return threshold.metric

    def has_interval(self, threshold: Threshold) -> bool:
        """Whether a threshold's metric is a mean over users."""
        return self.metric_key(threshold) in self.keys_of(names.USER_METRICS)

    def keys_of(self, metrics: tuple[str, ...]) -> list[str]:
        """Names of metrics of lists, at each k."""
        return [names.AT_K.format(metric=metric, k=k) for metric in metrics for k in self.ks]


class Serving(Section):
    """What ServingValidator asks of the exported model."""

    requests: int = Field(16, ge=1, description="held-out users asked for over gRPC and REST")
    max_latency_ms: float = Field(500.0, gt=0, description="bound for the median answer to one user")
    max_slowdown: float = Field(3.0, ge=1, description="times that it may take of the last pushed model's time")
    max_model_mb: int = Field(4_096, ge=1, description="bound for the exported files")
    max_memory_mb: int = Field(16_384, ge=1, description="bound for the server that answers with it")
    server: Literal["auto", "embedded", "tensorflow_model_server", "remote"] = Field(
        "auto",
        description="auto: tensorflow_model_server where it is on PATH, else homefeed's own; remote: one that runs",
    )
    grpc: str = Field("", description="remote: grpc://HOST:PORT")
    rest: str = Field("", description="remote: http://HOST:PORT")
    folder: str = Field("", description="remote: the folder of versions that it looks into, for candidates only")


class Batch(Section):
    """BatchRecommender: recommendations for every known user, written after a push."""

    enabled: bool = True
    k: int = Field(20, ge=1)


class Beam(Section):
    """Where Beam runs."""

    runner: Literal["direct", "flink", "spark", "dataflow"] = Field(
        "direct", description="direct: in this process; see pipeline/beam_runners.py for what each other one needs"
    )
    workers: int = Field(1, ge=1, description="direct: processes; else: the parallelism that is asked for")
    job_endpoint: str = Field("localhost:8099", description="flink, spark: host:port of Beam's job server")
    environment: Literal["loopback", "docker", "external", "process"] = Field(
        "loopback", description="flink, spark: where workers run; loopback is this process, for one machine"
    )
    environment_config: str = Field("", description="the image, address or command of docker, external or process")
    project: str = Field("", description="dataflow: the Google Cloud project")
    region: str = Field("", description="dataflow: the region")
    temp_location: str = Field("", description="dataflow: gs://bucket/path")
    container_image: str = Field("", description="dataflow: image of the workers, with homefeed in it")
    args: list[str] = Field([], description="further pipeline options of every Beam step")


class Config(Section):
    """Everything that a run may be told, with defaults that suit a small shop on one machine."""

    events: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {"view": 1.0, "click": 1.0, "cart": 2.0, "purchase": 4.0, "rating": 2.0, "comment": 1.0, "return": 0.0},
        min_length=1,
        description="event -> weight; an event of weight 0 is known but is no sign of interest",
    )
    columns: dict[Literal["behaviors", "catalog", "users"], dict[str, Literal["string", "int", "float"]]] = Field(
        {}, description="further columns of a table, with their types"
    )
    gate: Gate = Gate()
    privacy: Privacy = Privacy()
    window: Window = Window()
    split: Split = Split()
    schemas: str = Field("", description="folder of your curated schemas; empty: homefeed's schema/")
    images: Images = Images()
    encoder: Encoder = Encoder()
    model: Model = Model()
    tuner: Tuner = Tuner()
    ranking: Ranking = Ranking()
    retrieval: Retrieval = Retrieval()
    evaluation: Evaluation = Evaluation()
    serving: Serving = Serving()
    batch: Batch = Batch()
    beam: Beam = Beam()
    kubeflow: Kubeflow = Kubeflow()

    def table_columns(self, table: str) -> dict[str, str]:
        """Column -> its type's name, of a table: homefeed's own, then the configuration's."""
        type_names = {kind: name for name, kind in names.COLUMN_TYPES.items()}
        own = {column: type_names[kind] for column, kind in names.COLUMNS[table].items()}
        return {**own, **next((columns for name, columns in self.columns.items() if name == table), {})}


def load_config(path: str | None = None, assignments: tuple[str, ...] = ()) -> Config:
    """Reads the configuration file and applies `--set key=value` on top.

    Args:
      path: a YAML file, or None for the defaults.
      assignments: `section.key=value`, the value in YAML.

    Raises:
      InputError: the file cannot be read, or a key or value is wrong; names the key and what is allowed.
    """
    values: dict[str, Any] = {}
    where = "the configuration"
    if path is not None:
        where = path
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as YAML ({_first_line(error)}); mend or replace it.") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: has to hold `section: {{key: value}}` pairs; found a {type(values).__name__}.")
    for assignment in assignments:
        _assign(values, assignment)
    _add_defaults(values, where)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error)}") from error
    _check(config, where)
    return config


def _add_defaults(values: dict[str, Any], where: str) -> None:
    """A rule or threshold, or a key of one, that the user does not name keeps its default; a rule that nobody knows is
    an error, and a threshold of null is none."""
    rules = {name: setting.model_dump() for name, setting in _default_rules().items()}
    own = _named_settings(values, "gate", "rules")
    for name in own:
        if name not in rules:
            raise InputError(f"{where}: gate.rules.{name} is not a rule; rules are {', '.join(sorted(rules))}.")
    _merge(own, rules)
    thresholds = {name: threshold.model_dump() for name, threshold in _THRESHOLDS.items()}
    own = _named_settings(values, "evaluation", "thresholds")
    _merge(own, thresholds)
    for name in [name for name, threshold in own.items() if threshold is None]:
        del own[name]


def _named_settings(values: dict[str, Any], section: str, key: str) -> dict[str, Any]:
    """A dict in a section of the user's values; one that is not there, and what pydantic will refuse, is empty."""
    found = values[section].get(key) if isinstance(values.get(section), dict) else None
    return found if isinstance(found, dict) else {}


def _merge(own: dict[str, Any], defaults: dict[str, dict[str, Any]]) -> None:
    """Completes named settings, where there are any, in place."""
    for name, setting in defaults.items():
        if own and (isinstance(own.get(name), dict) or name not in own):
            own[name] = {**setting, **own.get(name, {})}


def _check(config: Config, where: str) -> None:
    """What single keys cannot say."""
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


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if not separator or not key:
        raise InputError(f"--set {assignment}: write it as --set section.key=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {assignment}: the value is not valid YAML ({_first_line(error)}).") from error
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {assignment}: {section} is a value, not a section.")
    values[last] = value


def _explain(error: ValidationError) -> str:
    """One sentence about the first thing that is wrong: its key, what was found, what is allowed."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *parents, _ = problem["loc"]
        section: Any = Config
        for parent in parents:  # of a dict, the parent is a name that the user has given
            is_dict = get_origin(section) is dict
            section = get_args(section)[1] if is_dict else section.model_fields[str(parent)].annotation
        return f"unknown key {key}; allowed here: {', '.join(section.model_fields)}."
    return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}; found {json.dumps(problem['input'], default=str)}."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
