"""BatchRecommender: the pushed model's list for every known user, as a table, by Beam."""

import csv
import io
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, PushedModel

from components.artifacts import Recommendations
from components.examples import ReadRows, split_files
from schema import names
from schema.saved_model import ServableModel

HEADER = (names.USER_ID, names.ITEM_ID, "rank", "score")
BATCH = 256  # users asked at once


def recommend_rows(
    model: ServableModel, user_ids: list[bytes], k: int, exclude_seen: bool = True
) -> Iterator[tuple[str, str, int, float]]:
    """A model's lists for users, by what it knows of them: (user_id, item_id, rank from 1, score)."""
    answer = model(
        names.RECOMMEND,
        {
            names.USER_ID: np.array(user_ids, object),
            names.K: np.array([k], np.int32),
            names.EXCLUDE_SEEN: np.array([exclude_seen]),
        },
    )
    for user_id, item_ids, scores in zip(user_ids, answer[names.ITEM_IDS], answer[names.SCORES], strict=True):
        for rank, (item_id, score) in enumerate(zip(item_ids, scores, strict=True), start=1):
            if item_id:
                yield user_id.decode(), item_id.decode(), rank, float(score)


def csv_line(row: tuple[str, str, int, float]) -> str:
    """A row as RFC 4180 has it, without the line's end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow((*row[:3], f"{row[3]:.6g}"))
    return line.getvalue()


class RecommendBatch(beam.DoFn):
    """Batches of user ids to rows. Loads the model once a worker."""

    def __init__(self, path: str, k: int):
        self._path, self._k = path, k

    def setup(self) -> None:
        self._model = ServableModel(self._path)

    def process(self, user_ids: list[bytes]) -> Iterator[tuple[str, str, int, float]]:
        yield from recommend_rows(self._model, user_ids, self._k)


@component(use_beam=True)
def BatchRecommender(
    pushed_model: InputArtifact[PushedModel],
    examples: InputArtifact[Examples],
    recommendations: OutputArtifact[Recommendations],
    k: Parameter[int],
    code_version: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes `recommendations-*.csv`; nothing where nothing was pushed."""
    if pushed_model.get_int_custom_property("pushed") != 1:
        return
    with beam_pipeline as pipeline:
        _ = (
            pipeline
            | ReadRows(split_files(examples, names.USERS_SPLIT))
            | beam.Map(lambda row: row[names.USER_ID][0])
            | beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
            | beam.ParDo(RecommendBatch(pushed_model.uri, k))
            | beam.Map(csv_line)
            | beam.io.WriteToText(
                f"{recommendations.uri}/recommendations", file_name_suffix=".csv", header=",".join(HEADER)
            )
        )
