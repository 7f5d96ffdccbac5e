"""Tiny tensors: threads only wait for one another. What an engine lacks is not collected."""

import os

import torch

torch.set_num_threads(1)

ONLY = {
    "torch": ["test_torch_modules.py", "test_torch_models.py"],
    "jax": ["test_jax_modules.py"],
    "tensorflow": ["test_tensorflow_models.py"],
}
collect_ignore = [name for engine in ONLY.keys() - {os.environ["WRT_TEST_ENGINE"]} for name in ONLY[engine]]
