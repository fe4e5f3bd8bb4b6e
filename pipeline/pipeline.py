"""The DAG: behaviour log → examples → statistics and validation → interactions → transform → train → evaluate → gate →
push. It knows nothing of the place where it runs; the runners do."""

import json
from dataclasses import dataclass

import tensorflow_data_validation as tfdv
import tfx.v1 as tfx
from ml_metadata.proto import metadata_store_pb2
from tfx.components import (
    Evaluator,
    ExampleValidator,
    StatisticsGen,
    Trainer,
    Transform,
)
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.common.resolver import Resolver
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types import Channel
from tfx.types.standard_artifacts import Model, PushedModel

from components.atomic_pusher import atomic_pusher
from components.baseline import LastPushedModelStrategy
from components.batch_recommender import BatchRecommender
from components.data_gate import DataGate
from components.interaction_gen import InteractionGen
from components.row_validator import RowValidator
from components.serving_validator import ServingValidator
from components.table_example_gen import table_example_gen
from components.text_embedding_gen import TextEmbeddingGen
from pipeline.config import Config
from pipeline.evaluation import eval_config
from pipeline.inputs import Table
from schema import names

ENCODER_FN = "trainer.text_encoder.load_encoder"
RUN_FN = "trainer.run_fn.run_fn"
PREPROCESSING_FN = "trainer.preprocessing.preprocessing_fn"
CONNECT_FN = "serving.client.connect"


@dataclass(frozen=True)
class Places:
    """Where a runner keeps things.

    Attributes:
      pipeline_root: artifacts.
      cache: text embeddings that outlive runs.
      schemas: the curated schemas' folder.
      encoder: the text encoder's folder.
      encoder_fingerprint: of that folder's content and the encoder's settings.
      push: versions of the model, where a model server looks.
      code_version: of our code; steps run again when it changes.
    """

    pipeline_root: str
    cache: str
    schemas: str
    encoder: str
    encoder_fingerprint: str
    push: str
    code_version: str


def build_pipeline(
    config: Config,
    behaviors: Table,
    catalog: Table,
    places: Places,
    metadata: metadata_store_pb2.ConnectionConfig | None,
) -> tfx.dsl.Pipeline:
    """Wires every step.

    Args:
      config: checked configuration.
      behaviors, catalog: checked input folders.
      places: where the runner keeps things.
      metadata: connection to ML Metadata, where the runner does not bring its own.
    """
    code = {"code_version": places.code_version}

    # Reads the two tables, each column by its type, each row with where it came from.
    behavior_gen, catalog_gen = (
        table_example_gen(name, table.base, table.pattern)
        for name, table in ((names.BEHAVIORS, behaviors), (names.CATALOG, catalog))
    )

    # Counts and describes every column of the table's own; where a row came from is no column.
    behavior_statistics, catalog_statistics = (
        StatisticsGen(
            examples=gen.outputs["examples"],
            stats_options=tfdv.StatsOptions(feature_allowlist=list(names.COLUMNS[name.lower()])),
        ).with_id(f"{name}StatisticsGen")
        for name, gen in (("Behaviors", behavior_gen), ("Catalog", catalog_gen))
    )

    # Brings in what a person has written down about the columns, here and for the interactions below.
    behavior_schema, catalog_schema, interaction_schema = (
        ImportSchemaGen(schema_file=f"{places.schemas}/{name.lower()}.pbtxt").with_id(f"{name}SchemaGen")
        for name in ("Behaviors", "Catalog", "Interactions")
    )

    # Compares the columns with the schemas.
    behavior_validator, catalog_validator = (
        ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]).with_id(
            f"{name}ExampleValidator"
        )
        for name, statistics, schema in (
            ("Behaviors", behavior_statistics, behavior_schema),
            ("Catalog", catalog_statistics, catalog_schema),
        )
    )

    # Looks at single rows, which statistics cannot name.
    row_validator = RowValidator(
        behaviors=behavior_gen.outputs["examples"],
        catalog=catalog_gen.outputs["examples"],
        events=json.dumps(sorted(config.events)),
        max_title_bytes=config.gate.max_title_bytes,
        future_tolerance_hours=config.gate.future_tolerance_hours,
        **code,
    )

    # Stops the run on bad data: everything below needs its blessing.
    data_gate = DataGate(
        row_anomalies=row_validator.outputs["anomalies"],
        behavior_anomalies=behavior_validator.outputs["anomalies"],
        catalog_anomalies=catalog_validator.outputs["anomalies"],
        max_share=json.dumps(config.gate.max_share, sort_keys=True),
        **code,
    )

    # Reads each distinct item text with BERT once.
    text_embedding_gen = TextEmbeddingGen(
        catalog=catalog_gen.outputs["examples"],
        blessing=data_gate.outputs["blessing"],
        encoder_fn=ENCODER_FN,
        encoder_folder=places.encoder,
        encoder_fingerprint=places.encoder_fingerprint,
        max_tokens=config.encoder.max_tokens,
        batch_size=config.encoder.batch_size,
        cache_folder=places.cache,
        **code,
    )

    # Makes an example of each target event with what was known before it, and the tables that serving needs.
    interaction_gen = InteractionGen(
        behaviors=behavior_gen.outputs["examples"],
        catalog=catalog_gen.outputs["examples"],
        text_embeddings=text_embedding_gen.outputs["text_embeddings"],
        blessing=data_gate.outputs["blessing"],
        events=json.dumps(config.events, sort_keys=True),
        split=config.split.model_dump_json(),
        **code,
    )
    examples = interaction_gen.outputs["examples"]

    # Turns raw values into model features; the same graph serves.
    transform = Transform(
        examples=examples,
        schema=interaction_schema.outputs["schema"],
        preprocessing_fn=PREPROCESSING_FN,
        splits_config=transform_pb2.SplitsConfig(
            analyze=[names.TRAIN_SPLIT, names.CATALOG_SPLIT], transform=list(names.TRAINER_SPLITS)
        ),
        custom_config=code,
    )

    # Trains the two towers and exports all signatures.
    trainer = Trainer(
        run_fn=RUN_FN,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=interaction_schema.outputs["schema"],
        train_args=trainer_pb2.TrainArgs(splits=list(names.TRAINER_SPLITS)),
        eval_args=trainer_pb2.EvalArgs(splits=[names.CATALOG_SPLIT]),
        custom_config={
            "model": config.model.model_dump(),
            "history_length": config.split.history_length,
            "encoder_folder": places.encoder,
            "max_tokens": config.encoder.max_tokens,
            **code,
        },
    )

    # Finds the model that is in production.
    baseline = Resolver(
        strategy_class=LastPushedModelStrategy,
        model=Channel(type=Model),
        pushed_model=Channel(type=PushedModel),
        candidate=trainer.outputs["model"],
    ).with_id("BaselineResolver")

    # Ranks the full catalogue for each held-out user and blesses a model that is good enough, and no worse than that.
    evaluator = Evaluator(
        examples=examples,
        example_splits=[names.EVAL_SPLIT],
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["model"],
        eval_config=eval_config(config.evaluation),
    )

    # Serves the model in a process of its own and asks it over both protocols.
    serving_validator = ServingValidator(
        model=trainer.outputs["model"],
        examples=examples,
        connect_fn=CONNECT_FN,
        requests=config.serving.requests,
        max_latency_ms=config.serving.max_latency_ms,
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

    steps = [
        *(behavior_gen, catalog_gen),
        *(behavior_statistics, catalog_statistics),
        *(behavior_schema, catalog_schema, interaction_schema),
        *(behavior_validator, catalog_validator),
        *(row_validator, data_gate),
        *(text_embedding_gen, interaction_gen, transform, trainer),
        *(baseline, evaluator, serving_validator, pusher),
    ]
    if config.batch.enabled:
        # Writes the pushed model's list for every user, for mails and caches.
        steps.append(
            BatchRecommender(pushed_model=pusher.outputs["pushed_model"], examples=examples, k=config.batch.k, **code)
        )
    return tfx.dsl.Pipeline(
        pipeline_name=names.MODEL_NAME,
        pipeline_root=places.pipeline_root,
        components=steps,
        enable_cache=True,
        metadata_connection_config=metadata,
        beam_pipeline_args=list(config.beam.args),
    )
