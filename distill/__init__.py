"""Teacher and text in, student directory out: phases of objectives, run by one loop.

Importing this package imports no torch; `distill.config` is what a recipe needs.
"""
