"""Answers inside a text: spans of tokens and their characters, windows over what is longer than the model reads."""
