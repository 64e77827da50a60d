"""The page is self-contained, harmless whatever the names, and shows what the report holds."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from html_page import Page

from ddm_framework.data.splits import DataInfo
from ddm_framework.report import rendering
from ddm_framework.report.blocks import Card, Chart, Clusters, Heatmap, Pictures, Report, Section, Table, Text
from ddm_framework.report.pictures import heatmap_png, png, strip
from ddm_framework.report.rendering import Tick, format_number, format_seconds, render, ticks

HOSTILE = (
    '</style></title></pre><script>alert(1)</script><img src=x onerror=\'alert(1)\'>" onload="alert(1)" {{ 7 * 7 }}'
)
INFO = DataInfo((1, 8, 8), 10, (0.3,), (0.4,), tuple(map(str, range(10))))
NAMES = {k: f"class {k // 10}, cluster {k % 10}" for k in range(100)}


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Network inputs whose pixels are whole levels."""
    generator = torch.Generator().manual_seed(seed)
    return INFO.normalise(torch.randint(0, 256, shape, generator=generator) / 255)


SCRIPT = (Path(rendering.__file__).parents[1] / "templates" / "report.js").read_text(encoding="utf-8")
MEMBERS = {k: images(5, 1, 8, 8, seed=k) for k in range(100)}


def page(*blocks: Any, **changes: Any) -> str:
    options: dict[str, Any] = {
        "title": "run",
        "info": INFO,
        "facts": {"seed": "0"},
        "seconds": {"training": 2.0},
        "members": MEMBERS,
        "cluster_names": NAMES,
        "recipe_yaml": "seed: 0\n",
    }
    return render(Report([Section("Section", blocks)], question="Why?", answer="So."), **{**options, **changes})


def hostile_report(name: str) -> Report:
    blocks = [
        Text(name),
        Table([name, "n"], [[name, 1.0]], name),
        Pictures(images(2, 1, 8, 8), [name, name], name),
        Pictures(images(2, 1, 8, 8), [name], name, group=2),
        Heatmap(torch.randn(2, 2), [name, name], [name, name], name, name, name),
        Heatmap(torch.randn(1, 30), [name], [f"{name}, {k}" for k in range(30)], name, name, name),
        Chart("bar", {name: [1.0, 2.0], "b": [1.0, 2.0]}, name, name, [name, name], name),
        Clusters(name, [3, 4], [0.1, -0.2]),
    ]
    return Report(
        [Section(name, [*blocks, Card(name, images(1, 8, 8), blocks, alarm=True)])] * 3, question=name, answer=name
    )


def test_hostile_text_is_harmless_everywhere() -> None:
    info = dataclasses.replace(INFO, class_names=(HOSTILE,) * 10)
    html = render(
        hostile_report(HOSTILE),
        title=HOSTILE,
        info=info,
        facts={HOSTILE: HOSTILE},
        seconds={HOSTILE: 1.0},
        members={3: MEMBERS[3]},
        cluster_names={3: HOSTILE, 4: HOSTILE},
        recipe_yaml=HOSTILE,
    )
    found = Page(html)
    names = {tag for tag, _ in found.tags}
    assert not names & {"link", "iframe", "object", "embed", "base", "form"}
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    assert sum(tag == "style" for tag, _ in found.tags) == 1
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("href", "#").startswith("#")
    assert "{{ 7 * 7 }}" in found.text
    assert html.lower().count("<script") == 1
    assert SCRIPT in html


def test_page_reaches_for_nothing_outside() -> None:
    html = render(
        hostile_report("plain"),
        title="t",
        info=INFO,
        facts={},
        seconds={},
        members=MEMBERS,
        cluster_names=NAMES,
        recipe_yaml="",
    )
    assert not re.search(r"https?:|//[a-z]|@import|javascript:", html, re.IGNORECASE)
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in re.findall(r"url\(([^)]*)\)", html))
    policies = [a["content"] for _, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'"  # the page's own script and no other
    assert policies == [f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {allowed}"]


def test_each_cluster_is_embedded_once_and_only_if_referred_to() -> None:
    card = Card(
        "query", images(1, 8, 8, seed=200), [Clusters("most", [3, 7], [1.0, 0.5]), Clusters("least", [3], [0.0])]
    )
    html = page(Clusters("again", [7, 3], [0.1, 0.2]), card, card)
    for cluster in (3, 7):
        assert html.count(strip(INFO.to_pixels(MEMBERS[cluster]))) == 1
        shown = [a for _, a in Page(html).tags if f"c{cluster}" in a.get("class", "").split()]
        assert len(shown) == {3: 5, 7: 3}[cluster]
        assert all(a["aria-label"] == f"training images of {NAMES[cluster]}" for a in shown)
    assert strip(INFO.to_pixels(MEMBERS[8])) not in html


def test_clusters_without_members_or_name_are_still_named() -> None:
    found = Page(
        page(Clusters("most", [3, 4], [1.0, 2.0]), members={4: images(0, 1, 8, 8)}, cluster_names={3: "three"})
    )
    assert "three" in found.text
    assert "cluster 4" in found.text
    assert not any("strip" in a.get("class", "") for _, a in found.tags)


def test_neighbouring_clusters_share_the_scale_of_their_bars() -> None:
    html = page(Clusters("most", [1, 2], [-4.0, 2.0]), Clusters("least", [3, 4], [1.0, math.nan]))
    widths = re.findall(r'<span class="bar( negative)?"><i style="width: ([\d.]+)%">', html)
    assert widths[:4] == [(" negative", "100.0"), ("", "50.0"), ("", "25.0"), ("", "0.0")]


def test_pictures_and_heat_maps_are_the_ones_given() -> None:
    batch, values = images(3, 1, 8, 8, seed=5), torch.randn(2, 3)
    html = page(
        Pictures(batch, ["a", "b", "c"]),
        Heatmap(values, ["r", "s"], ["x", "y", "z"], "the caption"),
        Card("a query", images(1, 8, 8, seed=6), []),
    )
    sources = [a for tag, a in Page(html).tags if tag == "img"]
    for image in batch:
        assert any(a["src"] == png(INFO.to_pixels(image)) and a["class"] == "pixels" for a in sources)
    assert sum(a["src"] == heatmap_png(values) for a in sources) == 1
    assert all(a["alt"] for a in sources)
    query = next(a for a in sources if a["alt"] == "a query")
    assert (query["width"], query["height"]) == ("160", "160")
    assert format_number(float(values.min())) in html
    assert format_number(float(values.max())) in html


def test_neutral_and_missing_colours_of_the_legend_are_those_of_the_picture() -> None:
    html = page()
    assert ".legend .zero { background: #f7f7f7" in html
    assert ".legend .missing { background: #808080" in html


def test_alarm_is_told_in_words_too() -> None:
    card = Card("query", images(1, 8, 8), [])
    assert ">error<" in page(dataclasses.replace(card, alarm=True))
    assert ">error<" not in page(card)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_shown(value: float) -> None:
    image = torch.full((1, 8, 8), value)
    html = page(
        Text("t"),
        Table(["a"], [[value], [None]]),
        Pictures(image[None]),
        Heatmap(torch.full((2, 2), value), ["a", "b"], ["c", "d"]),
        Heatmap(torch.tensor([[value, 1.0]]), ["a"], ["c", "d"]),
        Chart("line", {"a": [value, 1.0]}, "x", "y"),
        Clusters("most", [1], [value]),
        Card("query", image, []),
        seconds={"training": value, "online": 1.0},
        members={1: image.expand(3, 1, 8, 8)},
    )
    found = Page(html)
    assert png(torch.full((1, 8, 8), math.nan)) in {a.get("src") for _, a in found.tags}
    assert "no finite value" in found.text
    assert "1.0 s" in found.text


def test_empty_blocks_are_shown() -> None:
    found = Page(
        page(
            Text(""),
            Table([], []),
            Table(["a"], []),
            Pictures(images(0, 1, 8, 8)),
            Heatmap(torch.zeros(0, 3), [], ["a", "b", "c"]),
            Chart("histogram", {"a": []}, "x", "y"),
            Clusters("most", [], []),
            facts={},
            seconds={},
            recipe_yaml="",
        )
    )
    assert "Nothing to show" in found.text
    assert "no rows" in found.text
    assert render_nothing().count("<section") == 0


def render_nothing() -> str:
    return render(Report([]), title="t", info=INFO, facts={}, seconds={}, members={}, cluster_names={}, recipe_yaml="")


@pytest.mark.parametrize("shape", [(3, 224, 300), (3, 5, 90), (4, 12, 12), (2, 1, 1)])
def test_images_of_any_shape_fit(shape: tuple[int, int, int]) -> None:
    info = DataInfo(shape, 2, (0.5,) * shape[0], (0.2,) * shape[0], ("a", "b"))
    image = torch.randn(shape)
    html = page(Card("query", image, [Clusters("most", [0], [1.0])]), info=info, members={0: torch.randn(40, *shape)})
    query = next(a for tag, a in Page(html).tags if a.get("alt") == "query")
    assert max(int(query["width"]), int(query["height"])) <= 160
    assert len(html) < 600_000


def test_tables_set_numbers_to_the_right() -> None:
    found = Page(page(Table(["name", "value", "mixed"], [["a", 0.5, "x"], ["b", None, 1]]), seconds={}))
    cells = [a.get("class", "") for tag, a in found.tags if tag in {"th", "td"}]
    assert cells == ["", "number", ""] * 3
    assert "0.5000" in found.text


def test_facts_seconds_and_recipe_are_told() -> None:
    found = Page(
        page(
            facts={"device": "cpu"}, seconds={"training": 30.0, "matching": 90.0, "total": 120.0}, recipe_yaml="seed: 7"
        )
    )
    for text in ("Why?", "So.", "device", "cpu", "30.0 s", "1 min 30 s", "2 min 00 s", "seed: 7"):
        assert text in found.text
    assert [a["style"] for tag, a in found.tags if tag == "i"] == ["width: 25.0%", "width: 75.0%"]


def test_page_of_twenty_queries_is_small() -> None:
    generator = torch.Generator().manual_seed(0)
    cards = [
        Card(
            f"test image {k}",
            images(1, 8, 8, seed=k),
            [
                Clusters("most", range(5 * k, 5 * k + 5), [0.1] * 5),
                Heatmap(torch.randn(10, 100, generator=generator), list(INFO.class_names), list(NAMES.values())),
            ],
        )
        for k in range(20)
    ]
    assert len(page(*cards)) < 500_000


def test_page_of_ten_thousand_queries_stays_under_five_megabytes() -> None:
    """Of large pictures in colour with long names, each with two sides and W; what does not fit is counted."""
    info = DataInfo((3, 64, 64), 10, (0.3,) * 3, (0.4,) * 3, tuple(f"a class with a long name {k}" for k in range(10)))
    members = {k: torch.randn(12, 3, 64, 64) for k in range(40)}
    picture, names = torch.randn(3, 64, 64), [f"{info.class_names[k % 10]} · cluster {k}" for k in range(100)]
    sides_of = [Clusters("made it", range(4), [0.1] * 4), Clusters("against", range(4, 8), [0.1] * 4)]
    blocks = [*sides_of, Heatmap(torch.randn(10, 100), list(info.class_names), names)]
    cards = [Card(f"test {k}: predicted", picture, blocks, k % 9 == 0, info.class_names[k % 10]) for k in range(10_000)]
    rows = [[f"test {k}", *[info.class_names[k % 10]] * 2, 0.1234, names[k % 100], names[-1]] for k in range(10_000)]
    alarms, groups = [card.alarm for card in cards], [card.group for card in cards]
    table = Table(["query", "predicted", "labelled", "probability", "made", "against"], rows, "", alarms, groups)
    html = page(*cards, table, info=info, members=members, cluster_names=dict(enumerate(names)))
    assert len(html.encode()) < 5_000_000
    found = Page(html)
    shown = [sum(tag == kind and "data-alarm" in a for tag, a in found.tags) for kind in ("article", "tr")]
    left_out = [int(each) for each in re.findall(r"(\d+) more are left out", found.text)]
    assert shown[0] > 20 and shown[1] > 4_000
    assert [a + b for a, b in zip(shown, left_out, strict=True)] == [10_000, 10_000]


def test_usual_rows_of_ten_thousand_queries_all_fit() -> None:
    rows = [[f"test {k}", "7", "7", 0.9987, "7 · 51", "3 · 38"] for k in range(10_000)]
    html = page(Table(list("abcdef"), rows, "", [False] * 10_000, ["7"] * 10_000))
    assert "more are left out" not in html and html.count("<tr data-alarm") == 10_000
    assert len(html.encode()) < 5_000_000


def test_long_tables_are_collapsed_and_contents_listed() -> None:
    found = Page(page(Table(["a"], [[k] for k in range(26)])))
    assert sum(a.get("class") == "long" for _, a in found.tags) == 1
    assert not any(a.get("class") == "long" for _, a in Page(page(Table(["a"], [[k] for k in range(25)]))).tags)
    assert "contents" not in {a.get("aria-label") for _, a in found.tags}
    sections = [Section("first", []), Section("second", [])]
    html = render(
        Report(sections), title="t", info=INFO, facts={}, seconds={}, members={}, cluster_names={}, recipe_yaml=""
    )
    assert [a["href"] for tag, a in Page(html).tags if tag == "a"] == ["#section-1", "#section-2"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (-3, "−3"),
        (1234567, "1234567"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.5, "0.5000"),
        (12.3456, "12.35"),
        (-0.00123456, "−0.001235"),
        (0.001, "0.001000"),
        (0.000999949, "9.999e−4"),
        (0.00099999, "1.000e−3"),
        (99999.4, "99999"),
        (99999.7, "100000"),
        (1e5, "1.000e5"),
        (-2.5e-10, "−2.500e−10"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (torch.tensor(0.25), "0.2500"),
    ],
)
def test_format_number(value: Any, shown: str) -> None:
    assert format_number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0 ms"),
        (0.0344, "34 ms"),
        (0.9999, "1.0 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (200.4, "3 min 20 s"),
        (7500.0, "2 h 05 min"),
        (math.nan, "–"),
    ],
)
def test_format_seconds(value: float, shown: str) -> None:
    assert format_seconds(value) == shown


def test_ticks_name_each_or_share_or_thin_out() -> None:
    assert ticks(["a", "b"]) == [Tick("a", 1, 1), Tick("b", 2, 1)]
    assert ticks(list(NAMES.values()))[:2] == [Tick("class 0", 1, 10), Tick("class 1", 11, 10)]
    thinned = ticks([str(k) for k in range(45)])
    assert thinned[:2] == [Tick("0", 1, 3), Tick("3", 4, 3)]
    assert sum(tick.span for tick in thinned) == 45


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table(["a"], [[1], [1, 2]]), "row 1 of a table has 2 cells for 1 columns"),
        (lambda: Table(["a"], [[1]], alarms=[True, False]), "a table of 1 rows has 2 alarms"),
        (lambda: Table(["a"], [[1]], groups=["a", "b"]), "a table of 1 rows has 2 groups"),
        (lambda: Pictures(torch.zeros(1, 8, 8)), r"pictures must be \(N, C, H, W\)"),
        (lambda: Pictures(torch.zeros(3, 1, 8, 8), group=2), "3 pictures cannot be shown in groups of 2"),
        (lambda: Pictures(torch.zeros(4, 1, 8, 8), ["a"], group=2), "1 captions for 4 pictures"),
        (lambda: Heatmap(torch.zeros(2, 3), ["a"], ["b"]), r"shape \(2, 3\) has 1 row labels and 1 column labels"),
        (lambda: Chart("bar", {}, "x", "y"), "at least one series"),
        (lambda: Chart("pie", {"a": [1.0]}, "x", "y"), "not 'pie'"),  # type: ignore[arg-type]
        (lambda: Chart("line", {"a": [1.0]}, "x", "y", [1, 2]), "series 'a' of a chart has 1 values for 2 positions"),
        (lambda: Clusters("most", [1, 2], [0.0]), "2 clusters but 1 values under 'most'"),
        (lambda: Card("query", torch.zeros(2, 1, 8, 8), []), r"the picture of a card must be \(C, H, W\)"),
    ],
)
def test_blocks_refuse_shapes_that_do_not_fit(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
