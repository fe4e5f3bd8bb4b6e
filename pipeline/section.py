"""What every section of the configuration is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Some keys; one that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
