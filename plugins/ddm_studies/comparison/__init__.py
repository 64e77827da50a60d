"""Shared by several studies: judging methods, choosing their settings, and comparing figures with the paper's."""
