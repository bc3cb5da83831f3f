"""The Overview of a checkpoint: one card a file, put together by `page`; the numbers come from `engine.overview`."""
