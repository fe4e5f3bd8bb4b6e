"""What every section of the configuration is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Some keys; one that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
