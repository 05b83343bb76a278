"""The compression pipeline: recipes, evaluation, gates, reports and the `understudy` command."""
