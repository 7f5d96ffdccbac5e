"""Files: models in, arrays in and out."""

from wrt.files import whole_file as whole_file
from wrt.io.files import (
    load_model as load_model,
    output_file as output_file,
    read_arrays as read_arrays,
    write_arrays as write_arrays,
)
