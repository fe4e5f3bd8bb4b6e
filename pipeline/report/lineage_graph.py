"""The steps of a run as a graph, from its days to the version that it pushed: SVG in the page's own colours."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from markupsafe import Markup

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 158, 30, 38, 14, 8


def lineage_graph(steps: Mapping[str, str], links: Iterable[tuple[str, str, str]], title: str) -> Markup:
    """Draws it, from left to right; what flows into a step stands to its left.

    Args:
      steps: step -> its state, which is its class in the page's style.
      links: (from, to, what flows).
      title: what a screen reader says.
    """
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for source, target, what in links:
        edges[source, target].append(what)
    depth = _depths([*steps, *(source for source, _ in edges)], edges)
    columns: dict[int, list[str]] = defaultdict(list)
    for step in sorted(depth, key=lambda step: depth[step]):
        columns[depth[step]].append(step)
    place: dict[str, tuple[float, float]] = {}
    for column, members in sorted(columns.items()):
        members.sort(key=lambda step: _mean(place[source][1] for source, target in edges if target == step))
        for row, step in enumerate(members):
            place[step] = (_MARGIN + column * (_WIDTH + _ACROSS), _MARGIN + row * (_HEIGHT + _DOWN))
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _ACROSS) - _ACROSS
    height = 2 * _MARGIN + max(map(len, columns.values()), default=0) * (_HEIGHT + _DOWN) - _DOWN
    drawn = [_edge(place[source], place[target], what) for (source, target), what in edges.items()]
    drawn += [_box(step, place[step], steps.get(step, "before")) for step in place]
    return Markup('<svg class="lineage" role="img" aria-label="{}" width="{}" height="{}">{}</svg>').format(
        title, width, height, Markup("").join(drawn)
    )


def _depths(steps: Iterable[str], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    depth = dict.fromkeys(steps, 0)
    for _ in depth:  # as many rounds as the longest way could need
        for source, target in edges:
            depth[target] = max(depth[target], depth[source] + 1)
    return depth


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _edge(source: tuple[float, float], target: tuple[float, float], what: list[str]) -> Markup:
    (x1, y1), (x2, y2) = (source[0] + _WIDTH, source[1] + _HEIGHT / 2), (target[0], target[1] + _HEIGHT / 2)
    bend = _ACROSS / 2
    path = f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
    return Markup('<path d="{}"><title>{}</title></path>').format(path, ", ".join(sorted(set(what))))


def _box(step: str, where: tuple[float, float], state: str) -> Markup:
    x, y = where
    return Markup(
        '<g class="{}"><rect x="{}" y="{}" width="{}" height="{}" rx="5"/>'
        '<text x="{}" y="{}">{}</text><title>{}: {}</title></g>'
    ).format(state.replace(" ", "-"), x, y, _WIDTH, _HEIGHT, x + _WIDTH / 2, y + _HEIGHT / 2 + 4, step, step, state)
