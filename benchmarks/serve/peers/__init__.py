"""Services around the same graph, each as its framework's documentation shows; run in environments of their own.

Nothing here imports what is ours, so that a module runs wherever its framework is installed. Settings: `encoder`.
"""
