"""Pictures decode back to what they show; charts are deterministic, escaped SVG."""

from __future__ import annotations

import base64
import io
import math
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddm_framework.report.blocks import Chart
from ddm_framework.report.pictures import GREY, chart_svg, heatmap_png, neighbours, png, strip, thumbnail

HOSTILE = "<script>alert(1)</script>\"'&$\\frac{1}$\x00\ud800"
NOT_FINITE = [math.nan, math.inf, -math.inf]


def decode(uri: str, mode: str) -> torch.Tensor:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body, validate=True))) as picture:
        return torch.from_numpy(np.array(picture.convert(mode)))


def levels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@given(st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_png_is_lossless(channels: int, height: int, width: int, seed: int) -> None:
    expected = levels(channels, height, width, seed=seed)
    decoded = decode(png(expected.float() / 255), "RGB").movedim(-1, 0)
    assert torch.equal(decoded, expected.expand(3, -1, -1))


def test_png_clamps_and_shows_the_mean_of_unusual_channels() -> None:
    assert decode(png(torch.tensor([[[-1.0, 0.0, 1.0, 2.0]]])), "L").tolist() == [[0, 0, 255, 255]]
    two = torch.stack([torch.full((2, 2), 0.2), torch.full((2, 2), 0.6)])
    assert torch.equal(decode(png(two), "L"), torch.full((2, 2), 102, dtype=torch.uint8))


@pytest.mark.parametrize("value", NOT_FINITE)
def test_png_shows_what_is_not_finite_in_grey(value: float) -> None:
    pixels = torch.zeros(3, 2, 2)
    pixels[1, 0, 1] = value
    decoded = decode(png(pixels), "RGB")
    assert decoded[0, 1].tolist() == [GREY] * 3
    assert int(decoded.sum()) == 3 * GREY


@pytest.mark.parametrize("channels", [1, 3])
def test_strip_places_members_side_by_side_with_transparent_gaps(channels: int) -> None:
    members = levels(4, channels, 5, 6)
    decoded = decode(strip(members.float() / 255), "RGBA")
    assert decoded.shape == (5, 4 * 7 - 1, 4)
    for position, member in enumerate(members):
        shown = decoded[:, 7 * position : 7 * position + 6]
        assert torch.equal(shown[..., :3].movedim(-1, 0), member.expand(3, -1, -1))
        assert bool((shown[..., 3] == 255).all())
    assert not decoded[:, 6::7, 3].any()


@pytest.mark.parametrize("draw", [png, strip, heatmap_png])
def test_nothing_to_show_is_an_error(draw: object) -> None:
    with pytest.raises(ValueError, match="not empty, found shape"):
        draw(torch.zeros(0, 0))  # type: ignore[operator]


def test_thumbnail_averages_and_leaves_small_images_alone() -> None:
    image = torch.rand(2, 3, 8, 4)
    assert thumbnail(image, 8) is image
    small = thumbnail(image, 4)
    assert small.shape == (2, 3, 4, 2)
    assert torch.allclose(small, image.unflatten(2, (4, 2)).unflatten(4, (2, 2)).mean((3, 5)))


def test_zero_is_neutral_and_one_cell_is_one_pixel() -> None:
    decoded = decode(heatmap_png(torch.tensor([[0.0, 1.0, -1.0], [0.0, 0.5, -0.5]])), "RGB")
    assert decoded.shape == (2, 3, 3)
    assert decoded[0, 0].tolist() == [0xF7] * 3
    assert torch.equal(decoded[0, 0], decoded[1, 0])
    assert torch.equal(decode(heatmap_png(torch.zeros(2, 3)), "RGB"), decoded[0, 0].expand(2, 3, 3))


def test_colours_mirror_the_sign() -> None:
    """The colour of -x is the mirror of that of x on the scale, and depends on x / max |x| alone."""
    scale = decode(heatmap_png(torch.linspace(-1, 1, 255, dtype=torch.float64)[None]), "RGB")[0]
    values = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    position = {tuple(colour): index for index, colour in enumerate(scale.tolist())}
    assert len(position) == 255

    def positions(matrix: torch.Tensor) -> torch.Tensor:
        return torch.tensor(
            [[position[tuple(cell)] for cell in row] for row in decode(heatmap_png(matrix), "RGB").tolist()]
        )

    assert torch.equal(positions(values) + positions(-values), torch.full((6, 7), 254))
    assert torch.equal(positions(values), positions(values * 1e-30))
    assert positions(values)[values > 0].min() >= 127


@pytest.mark.parametrize("value", NOT_FINITE)
def test_heatmap_shows_what_is_not_finite_in_grey(value: float) -> None:
    decoded = decode(heatmap_png(torch.tensor([[1.0, value, -1.0]])), "RGB")
    assert decoded[0, 1].tolist() == [GREY] * 3
    assert torch.equal(decoded[:, ::2], decode(heatmap_png(torch.tensor([[1.0, -1.0]])), "RGB"))
    assert bool((decode(heatmap_png(torch.full((2, 2), value)), "RGB") == GREY).all())


def test_limit_saturates() -> None:
    decoded = decode(heatmap_png(torch.tensor([[1.0, 5.0]]), limit=1.0), "RGB")
    assert torch.equal(decoded[0, 0], decoded[0, 1])


CHARTS = [
    Chart("bar", {"a": [0.1, -0.2, 0.3], "b": [1, 2, 3]}, "cluster", "cosine", ["x", "y", "z"]),
    Chart(
        "bar", {"a": [float(k) for k in range(100)]}, "x", "y", [f"class {k // 10}, cluster {k}" for k in range(100)]
    ),
    Chart("bar", {"a": [1.0] * 12}, "x", "y", ["a rather long name of a thing"] * 12),
    Chart("line", {"a": [1.0, 2.0]}, "x", "y", [0.5, 1.5]),
    Chart("line", {"a": [1.0, 2.0]}, "x", "y"),
    Chart("histogram", {"a": [1.0, 1.0, 2.0], "b": [0.0]}, "x", "y"),
]


@pytest.mark.parametrize("chart", CHARTS)
def test_chart_is_one_deterministic_element(chart: Chart) -> None:
    svg = chart_svg(chart)
    assert svg == chart_svg(chart)
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert chart.y_label in str(root.get("aria-label"))
    assert not any(word in svg for word in ("http", "<style", "<metadata", "<!DOCTYPE", "xmlns", "#010203"))
    identifiers = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(identifiers) == len(set(identifiers))


def test_charts_of_one_page_share_no_ids() -> None:
    found = [{e.get("id") for e in ElementTree.fromstring(chart_svg(c)).iter() if e.get("id")} for c in CHARTS]
    assert sum(map(len, found)) == len(set().union(*found))


@pytest.mark.parametrize("kind", ["bar", "line", "histogram"])
def test_chart_labels_are_harmless_text(kind: str) -> None:
    x = None if kind == "histogram" else [HOSTILE, "_" + HOSTILE]
    svg = chart_svg(Chart(kind, {HOSTILE: [1.0, 2.0], "_hidden": [2.0, 3.0]}, HOSTILE, HOSTILE, x))  # type: ignore[arg-type]
    root = ElementTree.fromstring(svg)
    assert "script" not in {element.tag for element in root.iter()}
    texts = [element.text or "" for element in root.iter("text")]
    assert "_hidden" in texts
    assert sum("<script>" in text for text in texts) >= 3
    svg.encode()


@pytest.mark.parametrize("kind", ["bar", "line", "histogram"])
@pytest.mark.parametrize("values", [[], [math.nan], [math.nan, 1.0, math.inf, -math.inf], [1e308, -1e308], [0.0, 0.0]])
def test_chart_of_strange_values_is_drawn(kind: str, values: list[float]) -> None:
    svg = chart_svg(Chart(kind, {"a": values}, "x", "y"))  # type: ignore[arg-type]
    assert not {"nan", "inf"} & set(svg.replace('"', " ").split())
    if any(not math.isfinite(value) for value in values):
        assert "#808080" in svg


def test_chart_ignores_the_users_matplotlib_settings() -> None:
    import matplotlib

    expected = chart_svg(CHARTS[0])
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert chart_svg(CHARTS[0]) == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_many_named_positions_share_their_names() -> None:
    texts = [element.text for element in ElementTree.fromstring(chart_svg(CHARTS[1])).iter("text")]
    assert [f"class {k}" for k in range(10)] == texts[:10]


def test_neighbours_share_what_stands_before_the_last_separator() -> None:
    assert neighbours(["a, b, 0", "a, b, 1", "c, 0", "a, b, 2"]) == [("a, b", 0, 2), ("c, 0", 2, 1), ("a, b, 2", 3, 1)]
    assert neighbours(["cat · cluster 3", "cat · cluster 4", "dog"]) == [("cat", 0, 2), ("dog", 2, 1)]
    assert neighbours(["tench, fish", "tench, fish", "x"]) == [("tench, fish", 0, 2), ("x", 2, 1)]
    assert neighbours([]) == []
