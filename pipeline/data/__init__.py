"""Adapters: public data sets and a generator, written in the form that the pipeline reads. `docs` name the form."""
