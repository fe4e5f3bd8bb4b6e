"""Where steps run and what is written beside the model."""

from typing import Literal

from pydantic import Field

from pipeline.sections.section import Section


class Batch(Section):
    """BatchRecommender: recommendations for every known user, written after a push."""

    enabled: bool = True
    k: int = Field(20, ge=1)


class Beam(Section):
    """Where Beam runs."""

    runner: Literal["direct", "flink", "spark", "dataflow"] = Field(
        "direct", description="direct: in this process; see pipeline/beam_runners.py for what each other one needs"
    )
    workers: int = Field(1, ge=1, description="direct: processes; else: the parallelism that is asked for")
    job_endpoint: str = Field("localhost:8099", description="flink, spark: host:port of Beam's job server")
    environment: Literal["loopback", "docker", "external", "process"] = Field(
        "loopback", description="flink, spark: where workers run; loopback is this process, for one machine"
    )
    environment_config: str = Field("", description="the image, address or command of docker, external or process")
    shared: str = Field(
        "",
        description="folder, or gs://bucket/path, that workers on other machines see: what a step reads and writes "
        "lies there while it runs; empty: they see the same folders as the step; dataflow: is to be given",
    )
    project: str = Field("", description="dataflow: the Google Cloud project")
    region: str = Field("", description="dataflow: the region")
    temp_location: str = Field("", description="dataflow: gs://bucket/path")
    container_image: str = Field("", description="dataflow: image of the workers, with homefeed in it")
    args: list[str] = Field([], description="further pipeline options of every Beam step")
