from .corruption import Corrupted, corrupted
from .image_files import fitted, open_image, to_pixels, unreadable
from .images import Images, StoredImages, taken
from .loading import load_data
from .origins import origin_of
from .splits import DataInfo, DataSplits, ImageSet, Origin, hold_out, subset

__all__ = [
    "Corrupted",
    "DataInfo",
    "DataSplits",
    "ImageSet",
    "Images",
    "Origin",
    "StoredImages",
    "corrupted",
    "fitted",
    "hold_out",
    "load_data",
    "open_image",
    "origin_of",
    "subset",
    "taken",
    "to_pixels",
    "unreadable",
]
