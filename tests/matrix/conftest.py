"""Tiny tensors: threads only wait for one another. What an engine lacks is not collected."""

import os

import torch

torch.set_num_threads(1)

ONLY = {"torch": "test_torch_modules.py", "jax": "test_jax_modules.py", "tensorflow": "test_tensorflow_models.py"}
collect_ignore = [name for engine, name in ONLY.items() if engine != os.environ["WRT_TEST_ENGINE"]]
