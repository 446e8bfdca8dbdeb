"""The data's path as one drawing: what was drafted, kept, rewritten, dropped and chosen, heights in proportion."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from taskdef.records import Origin, Stage
from taskdef.report.gather import Artifacts
from taskdef.report.text import number

WIDTH, HEIGHT = 1000, 330
_TOP, _ROOM = 58, 200
_NODE = 14
_LINE = 17.0
"""Least distance of two labels, in units of the drawing."""
_COLUMNS = (0, 330, 660, 986)
"""Left edges of the four columns: drafts, initial samples, all samples, training set."""


@dataclass(frozen=True)
class FlowCounts:
    """The counts that the drawing is made of; stages that are not done are None."""

    drafts: int
    initial: int
    by_origin: dict[Origin, int] | None
    lost_rewrites: int
    chosen: dict[Origin, int] | None


def flow_counts(artifacts: Artifacts) -> FlowCounts | None:
    """The counts of one run, None before there is a sample."""
    if not artifacts.is_done(Stage.SYNTHESIZE):
        return None
    adapted, selected = artifacts.is_done(Stage.ADAPT), artifacts.is_done(Stage.SELECT)
    dropped = [drop.stage for drop in artifacts.drops]
    return FlowCounts(
        drafts=len(artifacts.initial) + dropped.count(Stage.SYNTHESIZE),
        initial=len(artifacts.initial),
        by_origin={o: sum(sample.origin is o for sample in artifacts.adapted) for o in Origin} if adapted else None,
        lost_rewrites=dropped.count(Stage.ADAPT),
        chosen={o: sum(sample.origin is o for sample in artifacts.selected) for o in Origin} if selected else None,
    )


def draw_flow(counts: FlowCounts) -> Markup:
    """The drawing. Ribbons that lead on keep the colour of where a sample comes from; what leaves is grey."""
    everything = max(counts.drafts, sum((counts.by_origin or {}).values()), counts.initial + counts.lost_rewrites, 1)
    unit = _ROOM / everything
    drafts_x, initial_x, all_x, chosen_x = _COLUMNS
    marks: list[Markup] = []

    kept, lost = counts.initial * unit, (counts.drafts - counts.initial) * unit
    marks.append(_ribbon(drafts_x + _NODE, _TOP, initial_x, _TOP, kept, "initial", f"{counts.initial} drafts kept"))
    marks += _leaving(drafts_x, _TOP + kept, lost, counts.drafts - counts.initial, "dropped")
    marks += _node(drafts_x, _TOP, kept + lost, "ink", "Drafts", counts.drafts, "start")
    marks += _node(initial_x, _TOP, kept, "initial", "Initial samples", counts.initial, "middle")

    if counts.by_origin is not None:
        top = rewritten_top = float(_TOP)
        label_y = 0.0
        for origin in Origin:
            count = counts.by_origin[origin]
            height = count * unit
            if origin is Origin.INITIAL:
                marks.append(_ribbon(initial_x + _NODE, _TOP, all_x, top, height, "initial", f"{count} stay"))
            elif count:
                title = f"{count} rewritten {origin.value}"
                marks.append(_ribbon(initial_x + _NODE, rewritten_top, all_x, top, height, origin.value, title))
                rewritten_top += height
            if origin is not Origin.INITIAL and height > 0:
                label_y = max(top + height / 2 + 4, label_y + _LINE)  # thin bars stand closer than lines of text
                marks.append(_label(all_x - 8, label_y, f"{number(count)} {origin.value}", "end", "small"))
            marks.append(_rect(all_x, top, height, origin.value, f"{count} {origin.value}"))
            if counts.chosen is not None and counts.chosen[origin]:
                chosen = counts.chosen[origin]
                at = _TOP + sum(counts.chosen[earlier] for earlier in list(Origin)[: list(Origin).index(origin)]) * unit
                title = f"{chosen} of {count} {origin.value} samples chosen"
                marks.append(_ribbon(all_x + _NODE, top, chosen_x, at, chosen * unit, origin.value, title))
                marks.append(_rect(chosen_x, at, chosen * unit, origin.value, f"{chosen} {origin.value}"))
            top += height
        total = sum(counts.by_origin.values())
        marks += _heading(all_x, "All samples", total, "middle")
        if counts.lost_rewrites:
            text = f"{number(counts.lost_rewrites)} rewrites dropped"
            marks.append(_label(all_x + _NODE / 2, max(top, label_y) + 22, text, "middle", "small muted"))
        if counts.chosen is not None:
            chosen_total = sum(counts.chosen.values())
            marks += _heading(chosen_x, "Training set", chosen_total, "end")
            text = f"{number(total - chosen_total)} not chosen"
            marks.append(_label(chosen_x + _NODE, _TOP + chosen_total * unit + 22, text, "end", "small muted"))
    what = "Counts of samples from draft to training set"
    return Markup('<svg class="flow" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, what, Markup("").join(marks)
    )


def _ribbon(x1: float, top1: float, x2: float, top2: float, height: float, css: str, title: str) -> Markup:
    middle = (x1 + x2) / 2
    path = (
        f"M{x1:.1f} {top1:.1f} C{middle:.1f} {top1:.1f} {middle:.1f} {top2:.1f} {x2:.1f} {top2:.1f} "
        f"V{top2 + height:.1f} "
        f"C{middle:.1f} {top2 + height:.1f} {middle:.1f} {top1 + height:.1f} {x1:.1f} {top1 + height:.1f} Z"
    )
    return Markup('<path class="ribbon {}" d="{}"><title>{}</title></path>').format(css, path, title)


def _leaving(x: float, top: float, height: float, count: int, word: str) -> list[Markup]:
    """A ribbon that turns down and ends: what left the path."""
    if count <= 0:
        return []
    right, end = x + _NODE + 110, _TOP + _ROOM + 30
    path = (
        f"M{x + _NODE:.1f} {top:.1f} C{right:.1f} {top:.1f} {right:.1f} {top:.1f} {right:.1f} {end:.1f} "
        f"H{max(right - height, x + _NODE + 4):.1f} "
        f"C{max(right - height, x + _NODE + 4):.1f} {top + height:.1f} {x + _NODE:.1f} {top + height:.1f} "
        f"{x + _NODE:.1f} {top + height:.1f} Z"
    )
    return [
        Markup('<path class="ribbon gone" d="{}"><title>{} {}</title></path>').format(path, count, word),
        _label(right - 4, end + 18, f"{number(count)} {word}", "end", "small muted"),
    ]


def _node(x: float, top: float, height: float, css: str, name: str, count: int, anchor: str) -> list[Markup]:
    return [_rect(x, top, height, css, f"{count} {name.lower()}"), *_heading(x, name, count, anchor)]


def _rect(x: float, top: float, height: float, css: str, title: str) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{:.1f}" width="{}" height="{:.1f}"><title>{}</title></rect>').format(
        css, x, top, _NODE, height, title
    )


def _heading(x: float, name: str, count: int, anchor: str) -> list[Markup]:
    at = {"start": x, "middle": x + _NODE / 2, "end": x + _NODE}[anchor]
    return [_label(at, 20, name, anchor, "muted"), _label(at, 44, number(count), anchor, "count")]


def _label(x: float, y: float, text: str, anchor: str, css: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(css, x, y, anchor, text)
