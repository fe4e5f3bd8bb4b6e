"""Artifact types of our own in ML Metadata."""

from tfx.types.artifact import Artifact


class RowAnomalies(Artifact):
    """What RowValidator found: `rows.json`, for each table its rows and, for each rule, count and first rows."""

    TYPE_NAME = "RowAnomalies"


class DataBlessing(Artifact):
    """DataGate's word that the data may be used: `verdict.json`. Exists only where nothing blocks."""

    TYPE_NAME = "DataBlessing"


class TextEmbeddings(Artifact):
    """One record for each distinct item text: `text_embeddings-*.gz`, see `components/text_embedding_gen.py`."""

    TYPE_NAME = "TextEmbeddings"


class Recommendations(Artifact):
    """BatchRecommender's table: `recommendations-*.csv` with `user_id,item_id,rank,score`; none if not pushed."""

    TYPE_NAME = "Recommendations"
