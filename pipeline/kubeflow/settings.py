"""The configuration's `kubeflow` section: what `homefeed compile` writes down."""

from typing import Annotated

from pydantic import Field

from pipeline.sections.section import Section
from schema import names

# What a compiled pipeline is told when it is started -> what it is.
PARAMETERS = {
    names.BEHAVIORS: "folder of the behaviour log",
    names.CATALOG: "folder of the catalogue",
    names.USERS: "folder of the users' profiles",
    "models": "folder of the pushed versions, where model servers look",
    "cache": "folder of what was made of each day; it outlives runs",
    "encoder": "folder of the text encoder; empty: the image's own",
    "schemas": "folder of the curated schemas; empty: the image's own",
}
VOLUME, SECRET, SHARED = "volume", "secret", "shared"


class Resources(Section):
    """What a step asks of the cluster."""

    cpu: float = Field(2.0, gt=0, description="cores")
    memory_gb: float = Field(6.0, gt=0)
    gpus: int = Field(0, ge=0)


class Kubeflow(Section):
    """How the pipeline is compiled for Kubeflow Pipelines and Vertex AI."""

    image: str = Field("homefeed:latest", description="of every step, made by the Dockerfile")
    gpu_image: str = Field("homefeed:latest-gpu", description="of the steps that ask for GPUs")
    accelerator: str = Field("nvidia.com/gpu", description="what a GPU is called; on Vertex AI such as NVIDIA_L4")
    pipeline_root: str = Field(
        "", description="where artifacts go, such as minio://mlpipeline/v2; empty: the cluster's"
    )
    mount: str = Field("/homefeed", description="where the volume is mounted in each step")
    volume: str = Field("homefeed", description="the PersistentVolumeClaim with data, cache and models; empty: none")
    secret: str = Field("", description="the Secret with HOMEFEED_USER_ID_KEY, for privacy.hash_user_ids; empty: none")
    retries: int = Field(2, ge=0, description="times that a step which failed is tried again")
    default: Resources = Field(Resources(), description="of steps that are not named below")
    steps: dict[str, Resources] = Field(
        {"Trainer": Resources(cpu=4.0, memory_gb=16.0), "Evaluator": Resources(cpu=2.0, memory_gb=12.0)},
        description="step -> what it asks for",
    )
    uncached: list[Annotated[str, Field(min_length=1)]] = Field(
        ["BehaviorsExampleGen", "CatalogExampleGen", "UsersExampleGen", "EarlierModelResolver", "BaselineResolver"],
        description="steps that always run: what they look at changes while their parameters stay the same",
    )

    def defaults(self) -> dict[str, str]:
        """Runtime parameter -> its default."""
        folders = {name: f"{self.mount}/{name}" for name in names.TABLES}
        models = f"{self.mount}/serving/{names.MODEL_NAME}"
        return {**folders, "models": models, "cache": f"{self.mount}/cache", "encoder": "", "schemas": ""}
