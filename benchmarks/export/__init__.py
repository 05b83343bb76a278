"""Is an export of ours at least as good, as fast and as small as `optimum-cli`'s of the same model?"""
