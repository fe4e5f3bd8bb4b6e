"""TensorFlow Serving's model configuration: the file of `--model_config_file`, and what it asks of one model."""

from pathlib import Path
from typing import TypeAlias

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from schema.errors import InputError
from serving.versions import Policy

ModelServerConfig: TypeAlias = model_server_config_pb2.ModelServerConfig
ModelConfig: TypeAlias = model_server_config_pb2.ModelConfig


def model_config(name: str, base_path: str, policy: Policy) -> ModelConfig:
    """The configuration of one model."""
    config = ModelConfig(name=name, base_path=base_path, model_platform="tensorflow", version_labels=policy.labels)
    if policy.versions is not None:
        config.model_version_policy.specific.versions.extend(sorted(policy.versions))
    return config


def policy_of(config: ModelConfig) -> Policy:
    """What a model's configuration asks for. Raises InputError for a policy that is neither latest nor specific."""
    policy = config.model_version_policy
    which = policy.WhichOneof("policy_choice")
    if which == "specific":
        return Policy(tuple(policy.specific.versions), dict(config.version_labels))
    if which == "all" or (which == "latest" and policy.latest.num_versions > 1):
        raise InputError(f"model {config.name}: the version policy is to be the newest version, or specific ones.")
    return Policy(None, dict(config.version_labels))


def only_model(config: ModelServerConfig) -> ModelConfig:
    """The one model of a server's configuration. Raises InputError where there is not exactly one."""
    models = config.model_config_list.config
    if len(models) != 1:
        raise InputError(f"the model configuration names {len(models)} models; this server serves one.")
    return models[0]


def read_config(path: str) -> ModelServerConfig:
    """Reads a file of `--model_config_file`. Raises InputError where it cannot be read."""
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), ModelServerConfig())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); `homefeed release` writes one.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no model configuration ({error}); `homefeed release` writes one.") from error
