"""What several studies share: how a method is judged, on which settings, and how a figure stands beside the paper's."""
