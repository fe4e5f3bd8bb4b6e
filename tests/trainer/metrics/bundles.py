"""Metrics as Beam computes them, without Beam."""


def extracted(combiner, bundles, preprocess=lambda example: [example]):
    """Key -> value, of bundles of examples that are merged; `preprocess`: an example to the inputs of the combiner."""
    accumulators = []
    for bundle in bundles:
        accumulator = combiner.create_accumulator()
        for example in bundle:
            for element in preprocess(example):
                accumulator = combiner.add_input(accumulator, element)
        accumulators.append(accumulator)
    return combiner.extract_output(combiner.merge_accumulators(accumulators))
