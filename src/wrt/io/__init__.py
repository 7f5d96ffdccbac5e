"""Files: models in, arrays and images in, arrays out."""

from wrt.files import joined_folder as joined_folder, whole_file as whole_file
from wrt.io.files import (
    load_model as load_model,
    output_file as output_file,
    read_arrays as read_arrays,
    write_arrays as write_arrays,
)
from wrt.io.images import image_files as image_files, read_images as read_images, scaled as scaled
