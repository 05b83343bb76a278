"""XtremeDistil: one small tagger for five languages, taught in six ways, and a source task before the target."""
