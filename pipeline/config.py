"""The typed configuration: read once at the edge, every wrong key or value named with what would be right."""

import json
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schema.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gate(Section):
    """What DataGate tolerates: the largest share of rows that may break each rule; above it the run stops."""

    max_share: dict[str, Share] = Field(
        default={
            "missing_user": 0.3,
            "missing_item": 0.01,
            "missing_event": 0.01,
            "unknown_event": 0.01,
            "bad_timestamp": 0.0,
            "negative_timestamp": 0.0,
            "future_timestamp": 0.0,
            "unknown_item": 0.0,
            "invalid_utf8": 0.0,
            "bad_id": 0.0,
            "broken_row": 0.0,
            "duplicate_event": 0.2,
            "duplicate_item": 0.0,
            "missing_title": 0.05,
            "long_title": 0.0,
            "bad_price": 0.0,
        },
        description="rule -> largest tolerated share of rows; a rule left out keeps its default",
    )
    max_title_bytes: int = Field(2_000, gt=0, description="a longer title is taken for a broken row")
    future_tolerance_hours: float = Field(24.0, ge=0, description="clocks may be this far ahead of ours")


class Split(Section):
    """Which events train and which are held out, by time alone."""

    eval_share: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.1, description="the last events of the log, by time, that are held out for the Evaluator"
    )
    snapshots: int = Field(64, ge=2, le=256, description="moments at which recent popularity is taken")
    half_life_days: float = Field(14.0, gt=0, description="an event counts half for popularity after this long")
    history_length: int = Field(50, ge=1, le=1000, description="latest items of a user that the query tower reads")


class Encoder(Section):
    """The BERT encoder of item texts."""

    path: str = Field("", description="folder with config.json, model.safetensors, vocab.txt; empty: all-MiniLM-L6-v2")
    max_tokens: int = Field(64, ge=8, le=512, description="word pieces of a text that are read")
    batch_size: int = Field(64, ge=1, description="texts encoded at once")


class Model(Section):
    """The two towers and their training."""

    dimensions: int = Field(64, ge=4, description="size of the query and candidate embeddings")
    epochs: int = Field(8, ge=1, description="passes over the training split")
    batch_size: int = Field(1024, ge=8, description="examples a step; also the number of in-batch negatives")
    learning_rate: float = Field(0.002, gt=0, description="Adam's step size at its peak")
    temperature: float = Field(0.1, gt=0, description="of the softmax over cosine similarities")
    dropout: Share = Field(0.2, description="of history items, and of user ids, in training")
    seed: int = Field(1, ge=0, description="of weights, shuffling and dropout")


class Evaluation(Section):
    """When the Evaluator blesses a model."""

    ks: list[Annotated[int, Field(ge=1)]] = Field([5, 10, 20], min_length=1, description="k of Recall@k and NDCG@k")
    min_recall: Share = Field(0.01, description="lowest Recall at the largest k over all users")
    min_ndcg: Share = Field(0.005, description="lowest NDCG at the largest k over all users")
    min_slice_recall: Share = Field(0.0, description="lowest Recall at the largest k in each activity slice")
    max_relative_drop: Share = Field(0.1, description="Recall may fall by this share against the last pushed model")


class Serving(Section):
    """What ServingValidator asks of the exported model."""

    requests: int = Field(16, ge=1, description="real examples asked over gRPC and REST")
    max_latency_ms: float = Field(500.0, gt=0, description="bound for the median answer to one user")


class Batch(Section):
    """BatchRecommender: recommendations for every known user, written after a push."""

    enabled: bool = True
    k: int = Field(20, ge=1)


class Beam(Section):
    """Where Beam runs."""

    args: list[str] = Field(
        ["--runner=DirectRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1"],
        description="pipeline options of every Beam step",
    )


class Config(Section):
    """Everything that a run may be told, with defaults that suit a small shop on one machine."""

    events: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {"view": 1.0, "click": 1.0, "cart": 2.0, "purchase": 4.0, "rating": 2.0, "comment": 1.0, "return": 0.0},
        min_length=1,
        description="event -> weight; an event of weight 0 is known but is no sign of interest",
    )
    gate: Gate = Gate()
    split: Split = Split()
    encoder: Encoder = Encoder()
    model: Model = Model()
    evaluation: Evaluation = Evaluation()
    serving: Serving = Serving()
    batch: Batch = Batch()
    beam: Beam = Beam()


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
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error)}") from error
    return _with_default_rules(config)


def _with_default_rules(config: Config) -> Config:
    """A rule that the user does not name keeps its default; one that nobody knows is an error."""
    defaults = Gate().max_share
    unknown = sorted(set(config.gate.max_share) - set(defaults))
    if unknown:
        raise InputError(
            f"the configuration: gate.max_share.{unknown[0]} is not a rule; rules are {', '.join(sorted(defaults))}."
        )
    gate = config.gate.model_copy(update={"max_share": {**defaults, **config.gate.max_share}})
    return config.model_copy(update={"gate": gate})


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
        for parent in parents:
            section = section.model_fields[str(parent)].annotation
        return f"unknown key {key}; allowed here: {', '.join(section.model_fields)}."
    return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}; found {json.dumps(problem['input'], default=str)}."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
