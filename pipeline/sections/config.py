"""The whole configuration."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.kubeflow.settings import Kubeflow
from pipeline.sections.data import Images, Privacy, Split, Window
from pipeline.sections.gate import Gate
from pipeline.sections.judging import Evaluation, Serving
from pipeline.sections.model import Encoder, Model, Ranking, Retrieval, Tuner
from pipeline.sections.places import Batch, Beam
from pipeline.sections.section import Section
from schema import names


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
