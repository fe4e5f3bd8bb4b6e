"""TensorFlow Serving's model configuration: one model's entry, and what an entry asks for."""

from schema.errors import InputError
from serving.messages import ModelConfig, ModelServerConfig, read_message
from serving.versions import Policy


def model_config(name: str, base_path: str, policy: Policy) -> ModelConfig:
    """The configuration of one model."""
    config = ModelConfig(name=name, base_path=base_path, model_platform="tensorflow", version_labels=policy.labels)
    if policy.versions is not None:
        config.model_version_policy.specific.versions.extend(sorted(policy.versions))
    elif policy.latest == 0:
        config.model_version_policy.all.SetInParent()
    elif policy.latest > 1:
        config.model_version_policy.latest.num_versions = policy.latest
    return config


def policy_of(config: ModelConfig) -> Policy:
    """What a model's configuration asks for."""
    policy, labels = config.model_version_policy, dict(config.version_labels)
    which = policy.WhichOneof("policy_choice")
    if which == "specific":
        return Policy(tuple(policy.specific.versions), labels=labels)
    if which == "all":
        return Policy(latest=0, labels=labels)
    return Policy(latest=max(policy.latest.num_versions, 1), labels=labels)


def only_model(config: ModelServerConfig) -> ModelConfig:
    """The one model of a configuration. Raises InputError where there is not exactly one."""
    models = config.model_config_list.config
    if len(models) != 1:
        raise InputError(f"the model configuration names {len(models)} models; a release changes the labels of one.")
    return models[0]


def read_config(path: str) -> ModelServerConfig:
    """Reads a file of `--model_config_file`. Raises InputError where it cannot be read."""
    return read_message(path, ModelServerConfig, "`homefeed release` writes one")
