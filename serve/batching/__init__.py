"""Texts of many requests in few runs of a model: who waits, who shares a batch, on which threads."""
