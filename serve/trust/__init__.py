"""How far an answer may be trusted: the cascade and its calibration, the shadow, agreement and drift."""
