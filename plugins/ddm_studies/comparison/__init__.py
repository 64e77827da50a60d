"""Shared by several studies: asking a run, judging methods, and comparing figures with the paper's in words."""
