"""Choosing among candidates: what may be asked of it, and the candidates' vectors that are kept."""
