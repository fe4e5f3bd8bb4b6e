"""ServingValidator: is the exported model really servable? A model server answers real requests with it, or it is not.

TFX's InfraValidator knows only Docker and Kubernetes, and cannot be compiled for Kubeflow v2. This one serves the model
with whatever server there is, asks it over gRPC and REST what pages would ask, and writes the InfraBlessing that Pusher
honours.
"""

import json
import logging
import os
from typing import Any

from tfx.components.infra_validator import executor as infra_validator
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model
from tfx.utils import import_utils, path_utils

from components import serving_checks as checks
from components.model_server import served
from components.serving_requests import catalog_ids, expected_answers, people_from, write_warm_up
from schema import names
from schema.errors import HomefeedError
from schema.saved_model import ServableModel, read_signature_defs

progress = logging.getLogger("homefeed.progress")

VERDICT = "verdict.json"
_MB = 2**20
_PATIENCE = 60.0  # seconds for an answer: how fast they are is judged by their median, not by a busy machine's slowest


def validate(
    model: str, baseline: str | None, examples: Examples, settings: dict[str, Any], connect: Any, warm_up: str
) -> checks.Results:
    """Makes all checks; those of the files first, and where one of these fails no server is started.

    Args:
      model, baseline: folders of SavedModels; no baseline where nothing was pushed before.
      examples: InteractionGen's.
      settings: the configuration's `serving` section.
      connect: (address, model name) -> client.
      warm_up: folder that gets warm-up requests.
    """
    people, catalog = people_from(examples, settings["requests"]), frozenset(catalog_ids(examples))
    try:
        results = checks.check_files(model, read_signature_defs(model), settings["max_model_mb"] * _MB)
    except HomefeedError as error:
        results = checks.Results({checks.START: [str(error)]})
    if not people:
        results.add(checks.EMPTY, ["no held-out user has new items, so there is nothing to ask."])
    if not results.passed:
        return results
    write_warm_up(people, warm_up)
    try:
        with served(model, settings, connect) as server:
            _ask_server(results, server, model, people, catalog, settings, connect)
        if baseline is not None:
            ask, before = ServableModel(model), ServableModel(baseline)
            checks.check_slowdown(results, ask, before, people, settings["max_slowdown"])
    except Exception as error:  # whatever it is, a model that cannot be asked is not servable
        results.add(checks.START, [f"{type(error).__name__}: {error}"])
    return results


def _ask_server(
    results: checks.Results,
    server: Any,
    model: str,
    people: list[Any],
    catalog: frozenset[bytes],
    settings: dict[str, Any],
    connect: Any,
) -> None:
    medians = {}
    for protocol, address in server.addresses.items():
        ask = connect(address, names.MODEL_NAME, _PATIENCE).predict
        medians[protocol] = checks.check_answers(results, protocol, ask, people, catalog)
        checks.check_own_answers(results, protocol, ask, expected_answers(model))
        progress.info("%s: %s answers in %.1f ms (median)", server.name, protocol, 1000 * medians[protocol])
    checks.check_catalog(results, ask, catalog)
    checks.check_latency(results, medians, settings["max_latency_ms"])
    checks.check_memory(results, server.memory(), settings["max_memory_mb"] * _MB)
    results.add(checks.START, measured=server.name)


def read_serving_verdict(uri: str) -> dict[str, Any]:
    """What ServingValidator has written to an InfraBlessing: `blessed`; `faults` and `measured` as in `Results`."""
    with fileio.open(os.path.join(uri, VERDICT), "r") as file:
        return json.loads(file.read())


@component
def ServingValidator(
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    blessing: OutputArtifact[InfraBlessing],
    connect_fn: Parameter[str],
    settings: Parameter[str],
    code_version: Parameter[str],
    baseline_model: InputArtifact[Model] = None,
) -> None:
    """Blesses a model that a server answers with. `connect_fn` is the path of
    `(address, model name, seconds for an answer) -> client`; `settings` is JSON of the configuration's `serving`
    section."""
    path = path_utils.serving_model_path(model.uri)
    baseline = path_utils.serving_model_path(baseline_model.uri) if baseline_model else None
    connect = import_utils.import_class_by_path(connect_fn)
    results = validate(path, baseline, examples, json.loads(settings), connect, blessing.uri)
    verdict = {"blessed": results.passed, "faults": results.faults, "measured": results.measured}
    with fileio.open(os.path.join(blessing.uri, VERDICT), "w") as file:
        file.write(json.dumps(verdict, indent=1))
    mark = infra_validator._mark_blessed if results.passed else infra_validator._mark_not_blessed
    mark(blessing)
