"""The sections of the configuration, typed; `pipeline/config.py` reads them."""
