"""The DAG: behaviour log → examples → statistics and validation → gate → interactions → transform → train → evaluate →
push. It knows nothing of the place where it runs; the runners do."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.components import Evaluator, Trainer, Transform, Tuner
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types import Channel
from tfx.types.standard_artifacts import Model, PushedModel

from components.atomic_pusher import atomic_pusher
from components.baseline import LastPushedModelStrategy
from components.batch_recommender import BatchRecommender
from components.data_gate import BLESSED, DataGate
from components.input_folders import Table
from components.interaction_gen import InteractionGen
from components.model_card import ModelCard
from components.row_validator import RowValidator
from components.serving_validator import ServingValidator
from components.slice_gen import SliceGen
from components.span_statistics_gen import SpanStatisticsGen
from components.span_validator import SpanValidator, length_bounds
from components.spans import Span, dump_spans
from components.table_example_gen import TableExampleGen
from components.text_embedding_gen import TextEmbeddingGen
from pipeline.beam_runners import beam_args
from pipeline.config import Config
from pipeline.evaluation import eval_config
from pipeline.places import Places, schemas_folder
from pipeline.report.component import RunReport
from pipeline.report.facts import statistics_step, validator_step
from schema import names
from schema.errors import InputError
from schema.privacy import key_check, user_id_key

ENCODER_FN = "trainer.text_encoder.load_encoder"
LEARNED_FN = "trainer.weights.learned"
RUN_FN = "trainer.run_fn.run_fn"
TUNER_FN = "trainer.tuning.tuner_fn"
PREPROCESSING_FN = "trainer.preprocessing.preprocessing_fn"
CONNECT_FN = "serving.client.connect"
LastPushed = Callable[[str, Channel | None], BaseNode]  # (node's id, this run's model) -> node
# Of the configuration's `encoder` section, what training depends on.
_OF_TRAINING = {"max_tokens", "mode", "last_n", "lora_rank", "learning_rate", "recompute", "precision"}


def last_pushed_by_lineage(node_id: str, candidate: Channel | None) -> BaseNode:
    """A step whose output `model` is the last pushed one, `candidate` left out: ML Metadata is asked."""
    others = {} if candidate is None else {"candidate": candidate}
    pushed = {"model": Channel(type=Model), "pushed_model": Channel(type=PushedModel), **others}
    return Resolver(strategy_class=LastPushedModelStrategy, **pushed).with_id(node_id)


@dataclass(frozen=True)
class Window:
    """One input table, and the days of it that are used; no days where the first step is to look for them."""

    table: Table
    spans: list[Span]


def build_pipeline(
    config: Config,
    tables: Mapping[str, Window],
    places: Places,
    metadata: metadata_store_pb2.ConnectionConfig | None,
    until: str | None = None,
    last_pushed: LastPushed = last_pushed_by_lineage,
    with_report: bool = False,
) -> Pipeline:
    """Wires every step.

    Args:
      config: checked configuration.
      tables: behaviors, catalog and, where there are any, users.
      places: where the runner keeps things.
      metadata: connection to ML Metadata, where the runner does not bring its own.
      until: the last step that runs; None for all.
      last_pushed: makes the steps that find the last pushed model.
      with_report: whether a step writes the run's report, where the runner does not.

    Raises:
      InputError: there is no such step.
    """
    data, gate, rows = _data_half(config, tables, places)
    steps = [*data, *_model_half(config, places, gate, rows, last_pushed)]
    steps += [_report({step.id: step for step in steps}, places)] if with_report else []
    if until is not None:
        ids = [step.id for step in steps]
        if until not in ids:
            raise InputError(f"--until {until}: is no step; steps are {', '.join(ids)}.")
        steps = steps[: ids.index(until) + 1]
    return Pipeline(
        pipeline_name=names.MODEL_NAME,
        pipeline_root=places.pipeline_root,
        components=steps,
        enable_cache=True,
        metadata_connection_config=metadata,
        beam_pipeline_args=beam_args(config.beam),
    )


def _report(steps: Mapping[str, BaseNode], places: Places) -> BaseNode:
    """Writes what the run did, for people."""
    tables = {
        f"{prefix}_{key}": steps[step(table)].outputs[key]
        for prefix, table in (("behavior", names.BEHAVIORS), ("catalog", names.CATALOG))
        for step, key in ((statistics_step, "statistics"), (validator_step, "anomalies"))
    }
    return RunReport(
        data_blessing=steps["DataGate"].outputs["blessing"],
        model=steps["Trainer"].outputs["model"],
        model_run=steps["Trainer"].outputs["model_run"],
        evaluation=steps["Evaluator"].outputs["evaluation"],
        model_blessing=steps["Evaluator"].outputs["blessing"],
        infra_blessing=steps["ServingValidator"].outputs["blessing"],
        pushed_model=steps["Pusher"].outputs["pushed_model"],
        card=steps["ModelCard"].outputs["card"],
        models=places.push,
        code_version=places.report_version,
        **tables,
    )


def _data_half(
    config: Config, tables: Mapping[str, Window], places: Places
) -> tuple[list[BaseNode], BaseNode, dict[str, Channel]]:
    """Up to DataGate. Returns the steps, the gate, and table -> the rows to use."""
    code = {"code_version": places.code_version}
    steps: list[BaseNode] = []
    found: dict[str, dict[str, Channel]] = {}
    rows: dict[str, Channel] = {}
    # The catalogue first: the items of behaviors have to be in it.
    for name in sorted(tables, key=(names.CATALOG, names.BEHAVIORS, names.USERS).index):
        table, node = tables[name], name.capitalize()
        columns = json.dumps(config.table_columns(name))
        where = {"table": name, "columns": columns, "cache_folder": places.cache}

        # Reads the new days, each column by its type, each row with where it came from.
        example_gen = TableExampleGen(
            base=table.table.base,
            suffix=table.table.suffix,
            spans=dump_spans(table.spans) if table.spans else "",
            days=config.window.days or 0,
            privacy=config.privacy.model_dump_json(),
            key_check=key_check(user_id_key()) if config.privacy.hash_user_ids else "",
            **where,
            **code,
        ).with_id(f"{node}ExampleGen")

        # Counts and describes every column of each day.
        statistics_gen = SpanStatisticsGen(examples=example_gen.outputs["examples"], **where, **code).with_id(
            statistics_step(name)
        )

        # Brings in what a person has written down about the columns.
        schema_gen = ImportSchemaGen(schema_file=f"{places.schemas}/{name}.pbtxt").with_id(f"{node}SchemaGen")

        # Compares each day with the schema and with the day before.
        validator = SpanValidator(
            statistics=statistics_gen.outputs["statistics"],
            schema=schema_gen.outputs["schema"],
            min_drift_rows=config.gate.min_drift_rows,
            **code,
        ).with_id(validator_step(name))

        # Looks at single rows, which statistics cannot name, and parts those to use from those to leave out.
        row_validator = RowValidator(
            examples=example_gen.outputs["examples"],
            limits=json.dumps(_limits(config), sort_keys=True),
            future_tolerance_hours=config.gate.future_tolerance_hours,
            treatment=json.dumps({rule: s.rows for rule, s in config.gate.rules.items()}, sort_keys=True),
            **({"catalog": rows[names.CATALOG]} if name == names.BEHAVIORS else {}),
            **where,
            **code,
        ).with_id(f"{node}RowValidator")
        rows[name] = row_validator.outputs["rows"]
        found[name] = {"rows": row_validator.outputs["anomalies"], "anomalies": validator.outputs["anomalies"]}
        steps += [example_gen, statistics_gen, schema_gen, validator, row_validator]

    # Judges all that was found: everything below needs its blessing.
    users = found.get(names.USERS)
    gate = DataGate(
        behavior_rows=found[names.BEHAVIORS]["rows"],
        behavior_anomalies=found[names.BEHAVIORS]["anomalies"],
        catalog_rows=found[names.CATALOG]["rows"],
        catalog_anomalies=found[names.CATALOG]["anomalies"],
        **({"user_rows": users["rows"], "user_anomalies": users["anomalies"]} if users else {}),
        rules=json.dumps({rule: s.model_dump() for rule, s in config.gate.rules.items()}, sort_keys=True),
        severities=json.dumps(config.gate.schema_severity, sort_keys=True),
        cache_folder="" if tables[names.BEHAVIORS].spans else places.cache,
        **code,
    )
    return [*steps, gate], gate, rows


def _limits(config: Config) -> dict[str, object]:
    """`components.rules.Limits` but for the time of the run."""
    schemas = schemas_folder(config)
    own = ("rules", "schema_severity", "min_drift_rows", "future_tolerance_hours")
    max_bytes = {table: length_bounds(f"{schemas}/{table}.pbtxt") for table in names.TABLES}
    return {"events": config.events, "max_bytes": max_bytes, **config.gate.model_dump(exclude=set(own))}


def _model_half(
    config: Config, places: Places, gate: BaseNode, rows: Mapping[str, Channel], last_pushed: LastPushed
) -> list[BaseNode]:
    """From the gate to the push. TFX runs none of it where the gate has not blessed the data."""
    with Cond(gate.outputs["blessing"].future()[0].custom_property(BLESSED) == 1):
        return _steps_to_push(config, places, gate, rows, last_pushed)


def _steps_to_push(
    config: Config, places: Places, data_gate: BaseNode, rows: Mapping[str, Channel], last_pushed: LastPushed
) -> list[BaseNode]:
    code = {"code_version": places.code_version}

    # Brings in the schema of the interactions below.
    interaction_schema = ImportSchemaGen(schema_file=f"{places.schemas}/interactions.pbtxt").with_id(
        "InteractionsSchemaGen"
    )

    # Reads each distinct item text, and each comment, with BERT once.
    text_embedding_gen = TextEmbeddingGen(
        catalog=rows[names.CATALOG],
        behaviors=rows[names.BEHAVIORS],
        comments_too=config.encoder.comments,
        blessing=data_gate.outputs["blessing"],
        encoder_fn=ENCODER_FN,
        encoder_folder=places.encoder,
        encoder_fingerprint=places.encoder_fingerprint,
        max_tokens=config.encoder.max_tokens,
        batch_size=config.encoder.batch_size,
        cache_folder=places.embeddings,
        **code,
    )

    # Finds the model to start from, where one is not trained from nothing.
    earlier = last_pushed("EarlierModelResolver", None)
    starts_fresh = config.model.start == names.FRESH
    base_model = None if starts_fresh else earlier.outputs["model"]
    going_on = {"earlier_model": base_model, "start": config.model.model_dump_json(), "learned_fn": LEARNED_FN}
    # Trials of the Tuner begin with nothing, and so take the whole log.
    going_on = {} if starts_fresh or config.tuner.trials else going_on

    # Makes an example of each target event with what was known before it, and the tables that serving needs.
    interaction_gen = InteractionGen(
        behaviors=rows[names.BEHAVIORS],
        catalog=rows[names.CATALOG],
        **({"users": rows[names.USERS]} if names.USERS in rows else {}),
        text_embeddings=text_embedding_gen.outputs["text_embeddings"],
        blessing=data_gate.outputs["blessing"],
        events=json.dumps(config.events, sort_keys=True),
        split=config.split.model_dump_json(),
        images=config.images.model_dump_json(),
        **going_on,
        **code,
    )
    examples = interaction_gen.outputs["examples"]

    # Turns raw values into model features; the same graph serves.
    transform = Transform(
        examples=examples,
        schema=interaction_schema.outputs["schema"],
        preprocessing_fn=PREPROCESSING_FN,
        splits_config=transform_pb2.SplitsConfig(
            # No vocabulary and no mean needs the log itself: this grows with users and items only.
            analyze=[names.CATALOG_SPLIT, names.USERS_SPLIT, names.TIMELINE_SPLIT],
            transform=list(names.TRAINER_SPLITS),
        ),
        disable_statistics=True,  # of examples that InteractionGen has made; they cost as much as the rest
        disable_analyzer_cache=True,  # no later run reads these examples; it costs a quarter
        custom_config=code,
    )

    # What whoever trains is given.
    training: dict[str, Any] = {
        "examples": transform.outputs["transformed_examples"],
        "transform_graph": transform.outputs["transform_graph"],
        "schema": interaction_schema.outputs["schema"],
        "train_args": trainer_pb2.TrainArgs(splits=list(names.TRAINER_SPLITS)),
        "eval_args": trainer_pb2.EvalArgs(splits=[names.CATALOG_SPLIT]),
    }
    settings = {
        "model": config.model.model_dump(),
        "ranking": config.ranking.model_dump(),
        "retrieval": config.retrieval.model_dump(),
        "history_length": config.split.history_length,
        "encoder": {**config.encoder.model_dump(include=_OF_TRAINING), "folder": places.encoder},
        **code,
    }

    # Tries values of the towers' parameters, where that is asked for.
    tuner = Tuner(tuner_fn=TUNER_FN, custom_config={"tuner": config.tuner.model_dump(), **settings}, **training)

    # Trains the two towers and exports all signatures.
    trainer = Trainer(
        run_fn=RUN_FN,
        base_model=base_model,
        hyperparameters=tuner.outputs["best_hyperparameters"] if config.tuner.trials else None,
        custom_config={"checkpoints": f"{places.cache}/training", **settings},
        **training,
    )

    # Finds the model that is in production.
    baseline = last_pushed("BaselineResolver", trainer.outputs["model"])

    # Says of each held-out example which slices it is in.
    slice_gen = SliceGen(examples=examples, **code)

    # Ranks the full catalogue for each held-out user and blesses a model that is good enough, and no worse than that.
    evaluator = Evaluator(
        examples=slice_gen.outputs["sliced_examples"],
        example_splits=[names.EVAL_SPLIT],
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["model"],
        eval_config=eval_config(config.evaluation),
    )

    # Serves the model in a process of its own and asks it over both protocols.
    serving_validator = ServingValidator(
        model=trainer.outputs["model"],
        examples=examples,
        baseline_model=baseline.outputs["model"],
        connect_fn=CONNECT_FN,
        settings=config.serving.model_dump_json(),
        **code,
    )

    # Pushes what both have blessed, as a new version.
    pusher = atomic_pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=serving_validator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=places.push)
        ),
    )

    steps = [interaction_schema, text_embedding_gen, *([] if starts_fresh else [earlier]), interaction_gen, transform]
    steps += [*([tuner] if config.tuner.trials else []), trainer]
    # Writes down what the model is, what it was judged by, and what came of it.
    model_card = ModelCard(
        model=trainer.outputs["model"],
        behaviors=rows[names.BEHAVIORS],
        catalog=rows[names.CATALOG],
        examples=examples,
        data_blessing=data_gate.outputs["blessing"],
        evaluation=evaluator.outputs["evaluation"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=serving_validator.outputs["blessing"],
        pushed_model=pusher.outputs["pushed_model"],
        settings=config.model_dump_json(exclude={"kubeflow"}),
        **code,
    )

    steps += [baseline, slice_gen, evaluator, serving_validator, pusher, model_card]
    if config.batch.enabled:
        # Writes the pushed model's list for every user, for mails and caches.
        steps.append(
            BatchRecommender(pushed_model=pusher.outputs["pushed_model"], examples=examples, k=config.batch.k, **code)
        )
    return steps
