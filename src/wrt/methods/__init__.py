"""Saliency and attribution: which inputs an output depends on, and how much."""

from wrt.methods.method import METHODS as METHODS, Method as Method, register as register
