"""Artifact types of our own in ML Metadata."""

from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples


class RowAnomalies(Artifact):
    """What RowValidator found: `rows.json`, for each span its rows and, for each rule, count and first rows."""

    TYPE_NAME = "RowAnomalies"


class QuarantinedRows(Examples):
    """Rows that RowValidator put aside: tf.Examples with `names.REASON`, a split for each span."""

    TYPE_NAME = "QuarantinedRows"


class DataBlessing(Artifact):
    """DataGate's verdict: `verdict.json` with the evidence; the property `blessed` is 1 where the data may be used."""

    TYPE_NAME = "DataBlessing"


class TextEmbeddings(Artifact):
    """One record for each distinct item text: `text_embeddings-*.gz`, see `components/text_embedding_gen.py`."""

    TYPE_NAME = "TextEmbeddings"


class ModelCards(Artifact):
    """What a run says of its model: `model_card.json` and `model_card.md`."""

    TYPE_NAME = "ModelCard"


class Recommendations(Artifact):
    """BatchRecommender's table: `recommendations-*.csv` with `user_id,item_id,rank,score`; none if not pushed."""

    TYPE_NAME = "Recommendations"
