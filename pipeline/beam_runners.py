"""Pipeline options of every Beam step, for each runner."""

from pipeline.sections.places import Beam
from schema.errors import InputError


def beam_args(beam: Beam) -> list[str]:
    """Beam's options from the configuration's `beam` section.

    Raises:
      InputError: a key that the runner needs is empty.
    """
    return [*_RUNNERS[beam.runner](beam), *beam.args]


# Workers that share this process's sources need no package of them; unless an image is named, TFX zips itself anew for
# every step, and leaves the archive behind.
_NO_IMAGE = "--sdk_container_image=none"


def _direct(beam: Beam) -> list[str]:
    mode = "in_memory" if beam.workers == 1 else "multi_processing"
    return [
        "--runner=DirectRunner",
        f"--direct_running_mode={mode}",
        f"--direct_num_workers={beam.workers}",
        _NO_IMAGE,
    ]


def _portable(beam: Beam) -> list[str]:
    """Flink's and Spark's job servers speak the same job API; which engine runs the job is the server's business."""
    if beam.environment in ("docker", "external", "process") and not beam.environment_config:
        raise InputError(f"the configuration: beam.environment_config is empty; {beam.environment} needs it.")
    args = [
        "--runner=PortableRunner",
        f"--job_endpoint={beam.job_endpoint}",
        f"--environment_type={beam.environment.upper()}",
        f"--parallelism={beam.workers}",
    ]
    if beam.environment == "docker":
        args.append(f"--sdk_container_image={beam.environment_config}")
    else:
        args.append(_NO_IMAGE)
    return args + ([f"--environment_config={beam.environment_config}"] if beam.environment_config else [])


def _dataflow(beam: Beam) -> list[str]:
    for key in ("project", "region", "temp_location", "container_image", "shared"):
        if not getattr(beam, key):
            raise InputError(f"the configuration: beam.{key} is empty; dataflow needs it.")
    if not beam.shared.startswith("gs://"):
        raise InputError(f"the configuration: beam.shared: {beam.shared} is no gs://bucket/path, which dataflow needs.")
    return [
        "--runner=DataflowRunner",
        f"--project={beam.project}",
        f"--region={beam.region}",
        f"--temp_location={beam.temp_location}",
        f"--sdk_container_image={beam.container_image}",
        "--experiments=use_runner_v2",
        "--sdk_location=container",
        f"--num_workers={beam.workers}",
    ]


_RUNNERS = {"direct": _direct, "flink": _portable, "spark": _portable, "dataflow": _dataflow}
