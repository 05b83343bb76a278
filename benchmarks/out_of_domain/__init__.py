"""Out of domain: how well guarded bundles tell strange texts from known ones."""
