"""From what a user has - files, images, arrays, texts - to the inputs that a network trained on."""

from tl.serving.readers.image_reader import ImageReader
from tl.serving.readers.of_record import reader_of
from tl.serving.readers.reader import Reader
from tl.serving.readers.tensor_reader import TensorReader
from tl.serving.readers.text_reader import TextReader

__all__ = ["ImageReader", "Reader", "TensorReader", "TextReader", "reader_of"]
