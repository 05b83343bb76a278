"""NOESIS II: rankers as deployed, one that picks before another that reads, and the page about both."""
