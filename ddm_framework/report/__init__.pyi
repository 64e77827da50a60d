from .blocks import Block, Card, Chart, Clusters, Heatmap, Pictures, Report, Section, Table, Text
from .cards import amount_sentence, in_percent, query_cards
from .pages import page
from .rendering import render

__all__ = [
    "Block",
    "Card",
    "Chart",
    "Clusters",
    "Heatmap",
    "Pictures",
    "Report",
    "Section",
    "Table",
    "Text",
    "amount_sentence",
    "in_percent",
    "page",
    "query_cards",
    "render",
]
