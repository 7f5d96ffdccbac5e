"""Model files, and models made from models."""
