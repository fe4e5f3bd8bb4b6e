"""The pipeline on Kubeflow: compiled, replayed on one machine, submitted, scheduled."""
