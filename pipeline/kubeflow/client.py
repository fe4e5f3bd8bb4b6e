"""Asks a Kubeflow Pipelines endpoint to run a compiled pipeline, once or by a calendar."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import kfp
import kfp_server_api
import urllib3

from pipeline.kubeflow.spec import parameter_values, read_spec
from schema.errors import HomefeedError, InputError

CREDENTIAL = "HOMEFEED_KFP_TOKEN"  # environment: a bearer token, where the endpoint wants one


def submit(
    path: str, host: str, parameters: Mapping[str, str], run: str, experiment: str, namespace: str, root: str
) -> str:
    """Starts a run. Returns its id.

    Args:
      path: a compiled .yaml file.
      host: URL of the endpoint, such as http://localhost:8888.
      parameters: runtime parameters; what is left out has its default.
      run: the run's name.
      experiment: made where there is none of this name.
      namespace: of a multi-user installation; empty elsewhere.
      root: where artifacts go; empty for the file's, or the cluster's.

    Raises:
      InputError: the file is no pipeline for Kubeflow, or a parameter is not one of its.
      HomefeedError: the endpoint is away, or refuses.
    """
    _check(path, parameters)
    _knock(host)
    with _asked(host):
        result = _client(host, namespace).create_run_from_pipeline_package(
            path,
            arguments=dict(parameters),
            run_name=run,
            experiment_name=experiment,
            namespace=namespace or None,
            pipeline_root=root or None,
        )
        return str(result.run_id)


def schedule(
    path: str, host: str, parameters: Mapping[str, str], job: str, experiment: str, namespace: str, root: str, cron: str
) -> str:
    """Has runs started by a calendar, one at a time; a day that was missed is not made up for, since the next run reads
    it too. Returns the recurring run's id. Arguments and errors as `submit`; `cron` has six fields, seconds first."""
    _check(path, parameters)
    if len(cron.split()) != 6:
        raise InputError(f"--cron {cron!r}: needs six fields, seconds first; 0 0 4 * * * is four o'clock each day.")
    _knock(host)
    with _asked(host):
        client = _client(host, namespace)
        place = client.create_experiment(experiment, namespace=namespace or None)
        result = client.create_recurring_run(
            place.experiment_id,
            job,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,
            params=dict(parameters),
            pipeline_package_path=path,
            pipeline_root=root or None,
        )
        return str(result.recurring_run_id)


def _check(path: str, parameters: Mapping[str, str]) -> None:
    if not path.endswith((".yaml", ".yml")):
        raise InputError(
            f"{path}: is no .yaml file; Kubeflow Pipelines takes what `homefeed compile --out X.yaml` writes."
        )
    parameter_values(read_spec(path), path, parameters)


def _client(host: str, namespace: str) -> Any:
    token = os.environ.get(CREDENTIAL) or None
    return kfp.Client(host=host, existing_token=token, namespace=namespace or "kubeflow")


def _knock(host: str) -> None:
    """Asks once; the client would ask for half a minute what refuses."""
    token = os.environ.get(CREDENTIAL)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"{host.rstrip('/')}/apis/v2beta1/healthz", headers=headers, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise HomefeedError(
            f"{host}: does not answer ({type(error).__name__}); is the endpoint's URL right?"
        ) from error
    if answer.is_error:
        raise HomefeedError(f"{host}: refused ({answer.status_code} {answer.reason_phrase}: {answer.text[:200]}).")


@contextmanager
def _asked(host: str) -> Iterator[None]:
    try:
        yield
    except kfp_server_api.ApiException as error:
        said = " ".join(str(error.body or "").split())[:200]
        raise HomefeedError(f"{host}: refused ({error.status} {error.reason}: {said}).") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise HomefeedError(f"{host}: does not answer as Kubeflow Pipelines ({type(error).__name__}).") from error
