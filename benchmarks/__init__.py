"""Peers side by side with us, on the same data, in one run."""
