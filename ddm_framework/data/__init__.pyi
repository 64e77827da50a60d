from .corruption import Corrupted, corrupted, corrupted_in
from .image_files import SUFFIXES, Opened, fitted, open_image, read_image, to_pixels, unreadable
from .images import Images, StoredImages, taken
from .loading import load_data
from .origins import origin_of
from .splits import DataInfo, DataSplits, ImageSet, Origin, hold_out, subset
from .tables import read_table

__all__ = [
    "SUFFIXES",
    "Corrupted",
    "DataInfo",
    "DataSplits",
    "ImageSet",
    "Images",
    "Opened",
    "Origin",
    "StoredImages",
    "corrupted",
    "corrupted_in",
    "fitted",
    "hold_out",
    "load_data",
    "open_image",
    "origin_of",
    "read_image",
    "read_table",
    "subset",
    "taken",
    "to_pixels",
    "unreadable",
]
