"""A bundle exchanged for another under load, with no request failed."""
