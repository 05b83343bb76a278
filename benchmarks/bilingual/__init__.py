"""Generated text of two languages, for the recipes that need both."""
