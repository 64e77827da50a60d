from .corruption import Corrupted, corrupted
from .image_files import fitted, open_image, to_pixels, unreadable
from .images import Images, StoredImages, taken
from .loading import load_data
from .splits import DataInfo, DataSplits, ImageSet, hold_out, subset

__all__ = [
    "Corrupted",
    "DataInfo",
    "DataSplits",
    "ImageSet",
    "Images",
    "StoredImages",
    "corrupted",
    "fitted",
    "hold_out",
    "load_data",
    "open_image",
    "subset",
    "taken",
    "to_pixels",
    "unreadable",
]
